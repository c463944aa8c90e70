"""A PostgreSQL that hangs under the job engine and under a worker: both go on by themselves."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from profiler_service import jobs
from profiler_service.errors import StoreUnavailableError
from profiler_service.plan.spec import SweepState
from profiler_service.settings import Settings
from profiler_service.storage.store import Store
from tests.processes.fake_worker import PROTOCOL, begun, platform, spec, wait_until
from tests.storage.proxy import Proxy, proxied
from tests.test_jobs import HOST, Fleet

TIMEOUT_S = 1.0
BOUND_S = 8.0
"""A dead connection, a new one (2 s at least), and an answer."""
RECOVERED_S = 5.0
"""A try that hangs while it connects and while it asks (2 s), a pause before the next one (1 s),
and a look at what was put off; the rest is for a busy machine."""


@pytest.fixture
def hanging(migrated_postgres_url: str) -> Iterator[tuple[Proxy, Settings]]:
    """A database behind a proxy, with all its tables."""
    jobs.upgrade(Settings(database_url=migrated_postgres_url))
    with proxied(migrated_postgres_url) as (proxy, url):
        yield proxy, Settings(database_url=url, host=HOST, database_timeout_s=TIMEOUT_S)


@pytest.fixture
def store(hanging: tuple[Proxy, Settings], migrated_postgres_url: str) -> Iterator[Store]:
    """The store, past the proxy."""
    with contextlib.closing(Store.open(migrated_postgres_url)) as store:
        store.register_host(HOST, platform(), protocol=PROTOCOL, dtypes=["float32"])
        yield store


def test_queueing_is_given_up_while_the_database_hangs_and_works_afterwards(
    hanging: tuple[Proxy, Settings], store: Store
) -> None:
    proxy, settings = hanging
    first, second = (store.create_sweep(spec(n), host=HOST)[0] for n in (1, 2))
    with contextlib.closing(jobs.JobClient(settings)) as client:
        client.enqueue(first)
        proxy.hang()
        for use in (lambda: client.enqueue(second), client.list_jobs):
            began = time.monotonic()
            with pytest.raises(StoreUnavailableError):
                use()
            assert time.monotonic() - began < BOUND_S
        proxy.recover()
        client.enqueue(second)
        assert set(client.list_jobs()) == {first.id, second.id}


@pytest.mark.parametrize("connections_survive", [True, False])
def test_a_worker_goes_on_when_its_database_is_back(
    hanging: tuple[Proxy, Settings], store: Store, tmp_path: Path, connections_survive: bool
) -> None:
    proxy, settings = hanging
    sweep = store.create_sweep(spec(30), host=HOST)[0]
    with contextlib.closing(Fleet(store, settings, tmp_path)) as fleet:
        process = fleet.start(batch_s=0.05)
        wait_until(lambda: len(begun(fleet.log)) > 3)
        proxy.hang()
        wait_until(lambda: "is put off" in fleet.output())
        if not connections_survive:
            proxy.cut()
        num_begun, back_s = len(begun(fleet.log)), time.monotonic()
        proxy.recover()
        wait_until(lambda: len(begun(fleet.log)) > num_begun)
        assert time.monotonic() - back_s < RECOVERED_S
        ended = fleet.wait_for(sweep)
        assert ended.state is SweepState.DONE, ended.error
        assert process.poll() is None
        kept = store.load_batches(sweep.id)
        assert [list(samples.point) for samples in kept] == [[i] for i in range(30)]
