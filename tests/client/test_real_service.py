"""Against the service itself, over a real socket: what the stub only plays."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from profiler_service.app import create_app
from profiler_service.client import NotMeasuredYetError, Progress
from profiler_service.errors import (
    ConflictError,
    IncomparableCurvesError,
    InvalidDimsError,
    InvalidRequestError,
    LhpError,
    MeasurementFailedError,
    StoreUnavailableError,
    UnknownAddressError,
    UnknownHostError,
    UnknownPlatformError,
    UnknownSweepError,
)
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR, LSTM
from profiler_service.settings import Settings
from profiler_service.storage import schema
from profiler_service.storage.store import Store
from profiler_service.wire import GridAxisRange, SweepRequest
from tests.api.conftest import HOST, Worker, keep_curve
from tests.api.curves import PLATFORM, PROTOCOL, stairs
from tests.cli.stub import _Server
from tests.client.conftest import Make, Watched

DIMS = {"dims": "61,29"}


@dataclass(frozen=True, kw_only=True)
class RealService:
    url: str
    worker: Worker
    database: Path


@pytest.fixture
def real(tmp_path: Path) -> Iterator[RealService]:
    """The service over SQLite, whose worker does as the test says."""
    database = tmp_path / "lhp.sqlite"
    schema.upgrade(f"sqlite:///{database}")
    store = Store.open(f"sqlite:///{database}")
    store.register_host(HOST, PLATFORM, protocol=PROTOCOL, dtypes=("float32",))
    worker = Worker(store)
    settings = Settings(database_url=f"sqlite:///{database}", host=HOST)
    app = create_app(settings, store=store, enqueue=worker.enqueue)
    listener = socket.create_server(("127.0.0.1", 0))
    server = _Server(uvicorn.Config(app, log_level="critical"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    assert server.ready.wait(30)
    yield RealService(
        url=f"http://127.0.0.1:{listener.getsockname()[1]}", worker=worker, database=database
    )
    server.should_exit = True
    thread.join()
    store.close()


def test_an_answer_is_read_from_a_curve(make: Make, real: RealService) -> None:
    # Multiples of 8 are fast, the smaller the faster; the next above 61 and 29 are 64 and 32.
    curve = keep_curve(real.worker.store, Grid.window((61, 29), (32, 32)), stairs(8))
    answer = make(real.url).ask_lhp(DIMS, wait_s=20)
    assert (answer.lhp, answer.curve, answer.platform) == ([64, 32], curve, PLATFORM.key)


def test_an_answer_is_waited_for_by_the_services_own_events(
    make: Make, real: RealService, watched: Watched
) -> None:
    def watch(progress: Progress) -> None:
        watched(progress)
        assert progress.sweep is not None
        if progress.sweep.state == "queued" and not real.worker.handed_in.empty():
            real.worker.finish(real.worker.handed_in.get(timeout=20), stairs(8))

    answer = make(real.url, quiet_s=20).ask_lhp(DIMS, wait_s=60, on_progress=watch)
    assert answer.lhp == [64, 32]
    states = [each.sweep.state for each in watched.told if each.sweep]
    assert (states[0], states[-1]) == ("queued", "done")


def test_a_sweep_that_fails_at_once_is_measured_once(make: Make, real: RealService) -> None:
    """Within the second that the service holds the question: a 500, and no reason to try again."""
    client = make(real.url)

    def fail() -> None:
        sweep = real.worker.handed_in.get(timeout=20)
        real.worker.store.start_sweep(sweep.id)
        real.worker.store.fail_sweep(sweep.id, "no more memory")

    thread = threading.Thread(target=fail)
    thread.start()
    with pytest.raises(MeasurementFailedError, match="no more memory") as raised:
        client.ask_lhp(DIMS, wait_s=60)
    thread.join()
    (sweep,) = real.worker.store.list_sweeps().items
    assert raised.value.see == f"/sweeps/{sweep.id}"


def test_a_sweep_is_created_joined_and_cancelled(make: Make, real: RealService) -> None:
    request = SweepRequest(workload="linear", axes=[GridAxisRange(first=8, last=16)] * 2)
    client = make(real.url)
    sweep, is_new = client.create_sweep(request)
    again, is_new_again = client.create_sweep(request)
    assert (is_new, is_new_again, again.id) == (True, False, sweep.id)
    with pytest.raises(NotMeasuredYetError, match=f"sweep {sweep.id} is queued"):
        client.measure(request, wait_s=0)
    assert client.cancel_sweep(sweep.id).state == "cancelled"
    with pytest.raises(ConflictError):
        client.cancel_sweep(sweep.id)
    assert client.get_sweep(sweep.id) == client.follow_sweep(sweep)


def test_what_the_service_has_is_listed(make: Make, real: RealService) -> None:
    curve = keep_curve(real.worker.store, Grid.window((61, 29), (32, 32)), stairs(8))
    client = make(real.url)
    assert [each.name for each in client.list_hosts()] == [HOST]
    assert client.list_platforms() == [client.get_platform(PLATFORM.key)]
    assert "linear" in [each.name for each in client.list_workloads()]
    assert [each.id for each in client.list_curves({"host": HOST}).items] == [curve]
    header = client.get_curve_header(curve, host=HOST)
    detail = client.get_curve(curve)
    assert header.model_dump() == {
        name: value
        for name, value in detail.model_dump().items()
        if name in header.model_fields_set
    }


def test_curves_are_compared(make: Make, real: RealService) -> None:
    grid = Grid.window((61, 29), (8, 8))
    ids = [
        keep_curve(real.worker.store, grid, stairs(8), workload=LINEAR.describe({"batch": batch}))
        for batch in (8, 16)
    ]
    client = make(real.url)
    found = client.compare_curves(ids)
    assert [each.label for each in found.curves] == ["batch 8", "batch 16"]
    assert found.num_points == 81
    # Of 16 points at or below (64,32), it is an LHP, and dominates the others. The first one stays.
    assert client.compare_curves(ids, max_points=40).num_left_out == 14
    other = keep_curve(real.worker.store, grid, stairs(8), workload=LSTM.describe())
    with pytest.raises(IncomparableCurvesError):
        client.compare_curves([ids[0], other])


@pytest.mark.parametrize(
    ("ask", "error", "see"),
    [
        (lambda client: client.ask_lhp({"dims": "0"}, wait_s=1), InvalidDimsError, ""),
        (
            lambda client: client.ask_lhp({**DIMS, "max_growth": "much"}, wait_s=1),
            InvalidRequestError,
            "/docs",
        ),
        (lambda client: client.get_sweep("s9"), UnknownSweepError, "/sweeps"),
        (lambda client: client.get_platform("beef"), UnknownPlatformError, "/platforms"),
        (
            lambda client: client.ask_lhp({**DIMS, "host": "nobody"}, wait_s=1),
            UnknownHostError,
            "/hosts",
        ),
    ],
)
def test_problems_keep_their_class(
    make: Make, real: RealService, ask: Callable[[Any], Any], error: type[LhpError], see: str
) -> None:
    with pytest.raises(error) as raised:
        ask(make(real.url))
    assert (type(raised.value), raised.value.see) == (error, see)


def test_another_path_of_the_same_server_is_no_service(make: Make, real: RealService) -> None:
    with pytest.raises(UnknownAddressError, match="/elsewhere/hosts"):
        make(f"{real.url}/elsewhere").list_hosts()


def test_a_database_that_is_away_is_called_so(
    make: Make, real: RealService, watched: Watched
) -> None:
    client = make(real.url, attempts=2)
    client.list_hosts()
    real.worker.store.close()
    real.database.rename(real.database.with_name("away"))
    real.database.mkdir()
    for ask in (
        client.list_hosts,
        lambda: client.ask_lhp(DIMS, wait_s=60, on_progress=watched),
    ):
        with pytest.raises(StoreUnavailableError, match=r"the SQLite database .* can't be used"):
            ask()
    assert watched.told == []  # above all, no word of a worker that one should wait for
    real.database.rmdir()
    real.database.with_name("away").rename(real.database)
    assert [each.name for each in client.list_hosts()] == [HOST]
