"""The benchmark of pages looks at real ones, and each of its checks can fail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Browser

from benchmarks.pages.__main__ import (
    Round,
    check_lists,
    check_looks,
    check_rounds,
    compare,
    find_p95,
    list_pages,
)
from benchmarks.pages.looking import Look, look, open_pages
from benchmarks.pages.stored import HOST, KINDS, add_what_pages_show, fill
from benchmarks.soak.machines import SoakError
from profiler_service.storage.store import CurveFilter, Store
from tests.api.conftest import sqlite_url
from tests.dashboard.looking import browser, serving_process
from tests.plots.browser import needs_browser

__all__ = ["browser", "sqlite_url"]

LOOK = Look(
    answered_s=0.1, drawn_s=0.9, interactive_s=1.0, received_bytes=2_000_000, told="16 × 16"
)
STEADY = Round(requests_hz=(1000.0, 1000.0, 1000.0), p99_s=(0.01, 0.01, 0.01))


@pytest.mark.parametrize("database", ["sqlite_url", "migrated_postgres_url"])
def test_what_is_filled_in_bulk_is_stored_as_sweeps_store_it(
    request: pytest.FixtureRequest, database: str
) -> None:
    database_url = request.getfixturevalue(database)
    large = fill(database_url, num_curves=300, num_points=400, looks=1)
    store = Store.open(database_url)
    page = store.list_curves(CurveFilter(host=HOST), limit=400)
    assert len(page.items) == 300 + len(KINDS)
    assert len({each.generation for each in page.items}) == 303
    assert store.generation() == max(each.generation for each in page.items)
    # In 8 × 8 points from 16 on, the multiples of 8 are 16 × 16 alone; others grow above it.
    small = store.load_curve(page.items[-1].id)
    assert (small.num_measured, small.grid.first) == (64, (16, 16))
    assert store.get_sweep(page.items[-1].sweep_id).state == "done"
    # Of 400 points with rising latencies, the last one is the edge, and all others are LHPs.
    assert store.load_curve(large["lhps"][0]).num_lhps == 399
    assert store.load_curve(large["grid"][0]).grid.shape == (20, 20)
    store.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address of a service, and the URL of its database."""
    path = tmp_path_factory.mktemp("pages") / "lhp.sqlite"
    with serving_process(path) as (address, _):
        yield address, f"sqlite:///{path}"


@needs_browser
def test_a_chart_is_pointed_at_and_its_bytes_are_counted(
    browser: Browser, served: tuple[str, str]
) -> None:
    url, database_url = served
    large = fill(database_url, num_curves=1, num_points=400, looks=1)
    for kind in KINDS:
        found = look(browser, f"{url}/ui/curves/{large[kind][0]}")
        assert 0 < found.answered_s < found.drawn_s < found.interactive_s
        # plotly.js alone takes about 1.4 MB.
        assert 1_000_000 < found.received_bytes < 3_000_000
        assert found.told
    with pytest.raises(SoakError, match="has no chart"):
        look(browser, f"{url}/ui/hosts", limit_s=1)


@needs_browser
def test_ten_pages_are_open_at_once(browser: Browser, served: tuple[str, str]) -> None:
    url, database_url = served
    fill(database_url, num_curves=0, num_points=16, looks=0)
    sweep, curves = add_what_pages_show(database_url, HOST, 400)
    pages = list_pages(sweep, curves)
    assert len(pages) == 10
    with open_pages(browser, [f"{url}/{page}" for page in pages[1:]]):
        assert [len(each.pages) for each in browser.contexts] == [9]
    with (
        pytest.raises(SoakError, match="404"),
        open_pages(browser, [f"{url}/ui/curves/{'0' * 32}"]),
    ):
        pass


def test_a_slow_or_heavy_page_fails_alone() -> None:
    slow = replace(LOOK, interactive_s=2.1)
    heavy = replace(LOOK, received_bytes=3_000_001)
    assert [each.holds for each in check_looks({"line": [LOOK, LOOK]})] == [True, True]
    assert [each.holds for each in check_looks({"line": [LOOK, slow]})] == [False, True]
    assert [each.holds for each in check_looks({"line": [heavy, LOOK]})] == [True, False]


def test_a_list_that_is_often_slow_fails() -> None:
    # 18 of 20 are fast, so the 95th percentile is one of the others.
    seldom, often = [0.1] * 19 + [0.3], [0.1] * 18 + [0.3] * 2
    assert find_p95(seldom) < 0.2 < find_p95(often)
    assert check_lists({"first page": seldom, "searched": often})[0].holds
    assert not check_lists({"first page": often, "searched": seldom})[0].holds


def test_the_ratio_of_a_round_is_to_the_runs_around_it() -> None:
    # Without 100 and 400, the geometric mean is 200; with pages 100 is half. Later to earlier: 4.
    beside, noise = compare([(100.0, 100.0, 400.0)] * 2)
    assert beside.estimate == pytest.approx(0.5)
    assert noise.estimate == pytest.approx(4.0)


def test_pages_that_cost_queries_fail_and_so_does_too_much_noise() -> None:
    def judge(*shares: float) -> list[bool]:
        rounds = [
            replace(
                STEADY,
                requests_hz=(1000.0, 1000 * share, 1000.0),
                p99_s=(0.01, 0.01 / share, 0.01),
            )
            for share in shares
        ]
        return [each.holds for each in check_rounds(rounds)]

    assert judge(0.99, 1.01, 1.0, 1.0) == [True, True]
    assert judge(0.80, 0.81, 0.80, 0.81) == [False, False]
    # The interval reaches from far below to far above 1: more than 10 % could hide in it.
    assert judge(0.5, 1.9, 0.6, 1.7)[0] is False
