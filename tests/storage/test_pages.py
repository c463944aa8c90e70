"""Long lists, page by page, on every database that the store runs on."""

from __future__ import annotations

import pytest

from profiler_service.errors import InvalidRequestError
from profiler_service.storage.store import CurveFilter, Host, Page, Store
from tests.storage.examples import create_curve, create_spec, finish_new_sweep


def test_pages_of_sweeps_follow_their_cursor(store: Store, host: Host) -> None:
    ids = [store.create_sweep(create_spec(start=start), host="east")[0].id for start in range(1, 6)]
    pages = [store.list_sweeps(limit=2)]
    # A sweep made between two pages must neither appear later nor move the others.
    store.create_sweep(create_spec(start=99), host="east")
    while pages[-1].next_cursor is not None:
        pages.append(store.list_sweeps(limit=2, cursor=pages[-1].next_cursor))
    newest_first = ids[::-1]
    assert [[sweep.id for sweep in page.items] for page in pages] == [
        newest_first[:2],
        newest_first[2:4],
        newest_first[4:],
    ]


def test_page_that_ends_the_list_has_no_cursor(store: Store, host: Host) -> None:
    assert store.list_sweeps() == Page(items=[], next_cursor=None)
    store.create_sweep(create_spec(start=1), host="east")
    store.create_sweep(create_spec(start=2), host="east")
    assert store.list_sweeps(limit=2).next_cursor is None
    assert store.list_sweeps(limit=1).next_cursor is not None


def test_pages_of_curves_follow_their_cursor(store: Store, host: Host) -> None:
    ids = [finish_new_sweep(store, create_curve(), start=start) for start in range(1, 4)]
    first = store.list_curves(CurveFilter(kind="matmul"), limit=2)
    second = store.list_curves(CurveFilter(kind="matmul"), limit=2, cursor=first.next_cursor)
    assert [header.id for header in first.items] == [ids[2], ids[1]]
    assert [header.id for header in second.items] == [ids[0]]
    assert second.next_cursor is None


def test_pages_of_sweeps_oldest_first_follow_their_cursor(store: Store, host: Host) -> None:
    ids = [store.create_sweep(create_spec(start=start), host="east")[0].id for start in range(1, 4)]
    first = store.list_sweeps(oldest_first=True, limit=2)
    second = store.list_sweeps(oldest_first=True, limit=2, cursor=first.next_cursor)
    assert [sweep.id for sweep in first.items] == ids[:2]
    assert [sweep.id for sweep in second.items] == ids[2:]
    assert second.next_cursor is None


@pytest.mark.parametrize("cursor", ["", "nonsense", "0" * 31, "G" * 32, "0" * 32 + "\n", "\0"])
def test_foreign_cursor_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(InvalidRequestError):
        store.list_sweeps(cursor=cursor)
    with pytest.raises(InvalidRequestError):
        store.list_curves(cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_page_size_is_bounded(store: Store, limit: int) -> None:
    with pytest.raises(InvalidRequestError):
        store.list_sweeps(limit=limit)
