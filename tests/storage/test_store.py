"""The store's contract as a whole, on every database that it runs on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profiler_service.errors import (
    UnknownCurveError,
    UnknownHostError,
    UnknownPlatformError,
    UnknownSweepError,
)
from profiler_service.plan.spec import SweepState
from profiler_service.storage.store import CurveFilter, Host, Store
from tests.storage.examples import (
    PROGRESS,
    PROTOCOL,
    create_curve,
    create_platform,
    create_samples,
    create_spec,
)


def test_open_store_answers(store: Store) -> None:
    store.ping()


# A URL may hold any character; PostgreSQL's text can't.
@pytest.mark.parametrize("name", ["west", "", "ea\0st", "\ud800"])
def test_unknown_names_are_typed_errors(store: Store, host: Host, name: str) -> None:
    with pytest.raises(UnknownHostError):
        store.get_host(name)
    with pytest.raises(UnknownHostError):
        store.touch_host(name)
    with pytest.raises(UnknownHostError):
        store.create_sweep(create_spec(), host=name)
    with pytest.raises(UnknownPlatformError):
        store.get_platform(name)
    with pytest.raises(UnknownSweepError):
        store.get_sweep(name)
    with pytest.raises(UnknownCurveError):
        store.get_curve_header(name)
    assert store.list_sweeps(host=name).items == []
    assert store.list_curves(CurveFilter(kind=name, platform_key=name, host=name)).items == []
    assert store.find_curves(name, name, name) == []
    assert store.find_newest_protocol(name, name) is None


def test_generation_grows_when_answers_may_change(store: Store) -> None:
    seen = [store.generation()]

    def grew() -> bool:
        seen.append(store.generation())
        return seen[-1] > seen[-2]

    store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=["float32"])
    assert grew()
    store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=["float32"])
    assert not grew()
    store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=["float32", "float16"])
    assert grew()
    store.register_host(
        "east", create_platform(threads=2), protocol=PROTOCOL, dtypes=["float32", "float16"]
    )
    assert grew()
    flushed = replace(PROTOCOL, cache="flushed")
    store.register_host(
        "east", create_platform(threads=2), protocol=flushed, dtypes=["float32", "float16"]
    )
    assert grew()
    store.touch_host("east")
    assert not grew()
    sweep, _ = store.create_sweep(create_spec(), host="east")
    store.start_sweep(sweep.id)
    store.commit_batch(sweep.id, 0, create_samples(), PROGRESS)
    assert not grew()
    store.finish_sweep(sweep.id, create_curve(), state=SweepState.DONE)
    assert grew()
