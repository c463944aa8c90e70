"""The trainer's client, against real HTTP servers: a stub, broken ones, and the real service.

No test waits: the clock is moved by the client's own pauses.
"""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import Request, Response

from profiler_service.api.app import create_app
from profiler_service.errors import (
    ConflictError,
    InvalidDimsError,
    InvalidRequestError,
    InvalidWorkloadError,
    LhpError,
    MeasurementFailedError,
    NotFoundError,
    UnknownWorkloadError,
)
from profiler_service.grid import Grid
from profiler_service.settings import Settings
from profiler_service.storage import schema
from profiler_service.storage.store import Store
from profiler_service.wire import GridAxisRange
from tests.api.conftest import HOST, Worker, keep_curve
from tests.api.curves import PLATFORM, PROTOCOL, stairs
from tests.cli.stub import ANSWER, CURVE, DONE, Reply, StubService, _Server, make_sweep
from tests.cli.stub import PLATFORM as TOLD_PLATFORM
from tests.cli.test_crossover import ANSWER as CROSSOVER
from trainer_client.latency_client import (
    AccessRefusedError,
    ContractError,
    CrossoverOracle,
    HttpLatencyOracle,
    LatencyOracle,
    NoRecordedAnswerError,
    NotMeasuredYetError,
    RecordedLatencyOracle,
    RecordingError,
    ServiceAwayError,
    ServiceFailedError,
    WrongPlatformError,
)

ACCEPTED = {"Location": "/sweeps/s1", "Retry-After": "2"}
AWAY = Reply.problem(503, "host 'anvil' isn't there", "start its worker")


class Stub(StubService):
    """The stub, which also notes the token of each request."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens: list[str | None] = []

    async def _answer(self, request: Request) -> Response:
        self.tokens.append(request.headers.get("Authorization"))
        return await super()._answer(request)


@dataclass
class Time:
    """A clock that only `sleep` moves, and what happens at each pause."""

    now_s: float = 0.0
    pauses_s: list[float] = field(default_factory=list)
    at_pause: Callable[[], None] = lambda: None

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.pauses_s.append(seconds)
        self.now_s += seconds
        self.at_pause()


@pytest.fixture(scope="module")
def listening_stub() -> Iterator[Stub]:
    stub = Stub()
    stub.start()
    yield stub
    stub.stop()


@pytest.fixture
def stub(listening_stub: Stub) -> Stub:
    """A stub that has been asked nothing yet, and answers ANSWER."""
    listening_stub.requests.clear()
    listening_stub.tokens.clear()
    listening_stub.reply("GET /lhp", ANSWER)
    return listening_stub


@pytest.fixture
def time() -> Time:
    return Time()


Make = Callable[..., HttpLatencyOracle]


@pytest.fixture
def make(stub: Stub, time: Time) -> Iterator[Make]:
    """Makes oracles of the stub, or of another `url`, in which jitter is always 1."""
    made: list[HttpLatencyOracle] = []

    def make(url: str | None = None, **options: Any) -> HttpLatencyOracle:
        timing: dict[str, Any] = {"clock": time.clock, "sleep": time.sleep, "jitter": lambda: 1.0}
        oracle = HttpLatencyOracle(url or stub.url, **(timing | options))
        made.append(oracle)
        return oracle

    yield make
    for oracle in made:
        oracle.close()


@pytest.fixture
def closed_url() -> str:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


# The answer


def test_an_answer_is_typed_frozen_and_says_where_it_is_from(make: Make) -> None:
    oracle: LatencyOracle = make()
    answer = oracle.query((1197, 317))
    assert (answer.dims, answer.lhp, answer.grow_by) == ((1197, 317), (1200, 320), (3, 3))
    assert (answer.verdict, answer.speedup_interval) == ("faster", (1.029, 1.039))
    assert (answer.platform, answer.curve, answer.source) == ("f00d", "c7", "service")
    with pytest.raises(AttributeError):
        answer.lhp = (1, 1)  # type: ignore[misc]


def test_the_question_travels_whole(make: Make, stub: Stub) -> None:
    make(platform="f00d", host="anvil").query([1197, 317], effort="thorough", max_growth=0.25)
    ((query, _),) = stub.sent("GET /lhp")
    assert query == {
        "dims": "1197,317",
        "workload": "linear",
        "prefer": "fastest",
        "effort": "thorough",
        "max_growth": "0.25",
        "backend": "dense",
        "batch": "16",
        "dtype": "float32",
        "platform": "f00d",
        "host": "anvil",
        "wait": "1.0",
    }


def test_the_token_is_sent_where_there_is_one(make: Make, stub: Stub) -> None:
    make(token="sesame").query((1197, 317))
    make().query((1197, 317))
    assert stub.tokens == ["Bearer sesame", None]


def test_importing_needs_no_torch() -> None:
    program = "import sys, trainer_client.latency_client; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize(
    ("error", "dims", "options"),
    [
        (InvalidDimsError, (1197,), {}),
        (InvalidDimsError, (0, 317), {}),
        (InvalidWorkloadError, (1197, 317), {"params": {"batch": 0}}),
        (InvalidWorkloadError, (1197, 317), {"params": {"colour": "red"}}),
        (UnknownWorkloadError, (1197, 317), {"workload": "nonesuch"}),
        (InvalidRequestError, (1197, 317), {"max_growth": 1.5}),
        (InvalidRequestError, (1197, 317), {"max_growth": float("nan")}),
    ],
)
def test_what_cant_be_asked_is_refused_before_anything_is_sent(
    make: Make, stub: Stub, error: type[LhpError], dims: tuple[int, ...], options: dict[str, Any]
) -> None:
    with pytest.raises(error) as raised:
        make().query(dims, **options)
    assert raised.value.hint
    assert stub.requests == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"url": "anvil:8000"},
        {"url": "ftp://anvil"},
        {"url": "http://anvil:port"},
        {"url": "http://anvil", "max_attempts": 0},
        {"url": "http://anvil", "max_wait_s": float("nan")},
        {"url": "http://anvil", "timeout_s": 0.0},
    ],
)
def test_an_oracle_that_cant_work_isnt_made(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        HttpLatencyOracle(**arguments)


# Answers that break the contract


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lhp": [1190, 320], "grow_by": [-7, 3]}, "smaller than the dims asked for"),
        ({"lhp": [1200], "grow_by": [3]}, "has 1 axes instead of 2"),
        ({"dims": [1000, 317]}, "about dims [1000, 317]"),
        # An eighth above 1197 is 1346, and 317 + 39 = 356.
        ({"lhp": [1347, 320], "grow_by": [150, 3]}, "beyond the growth allowed, [1346, 356]"),
        ({"grow_by": [3, 4]}, "grow_by"),
        ({"workload": "matmul[batch=16]"}, "about matmul"),
        ({"prefer": "largest"}, "prefers the largest"),
        ({"verdict": "ambiguous"}, "verdict 'ambiguous'"),
        ({"lhp": [1197, 317], "grow_by": [0, 0]}, "verdict 'faster'"),
        ({"speedup_interval": (0.98, 1.04)}, "surely no slower"),
        ({"speedup_interval": (1.04, 1.02)}, "in order"),
        ({"latency_s": 0.0}, "positive"),
        ({"num_samples": 0}, "no samples"),
    ],
)
def test_an_answer_that_breaks_the_contract_is_refused(
    make: Make, stub: Stub, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    stub.reply("GET /lhp", ANSWER.model_copy(update=changes))
    with pytest.raises(ContractError) as raised:
        make(cache=tmp_path).query((1197, 317))
    assert said in str(raised.value)
    assert list(tmp_path.iterdir()) == []  # nor is it kept


def test_answers_of_another_platform_or_host_are_refused(make: Make) -> None:
    with pytest.raises(WrongPlatformError, match=r"'beef'.*'f00d'"):
        make(platform="beef").query((1197, 317))
    with pytest.raises(ContractError, match="host 'anvil' measured, not 'forge'"):
        make(host="forge").query((1197, 317))


@pytest.mark.parametrize(
    "reply",
    [
        Reply("<h1>Hello</h1>"),
        Reply('{"lhp": [1200, 320]}'),
        Reply(ANSWER.model_dump_json().replace("1.034", "NaN")),
        Reply("<h1>Hello</h1>", 202, Location="/sweeps/s1"),
        Reply(make_sweep(), 202),
        Reply(make_sweep(), 202, Location="http://elsewhere.example/sweeps/s1"),
        Reply(make_sweep(), 202, Location="http://[oops"),
    ],
)
def test_an_answer_of_something_else_is_refused(make: Make, stub: Stub, reply: Reply) -> None:
    stub.reply("GET /lhp", reply)
    with pytest.raises(ContractError) as raised:
        make().query((1197, 317))
    assert raised.value.hint


# Waiting for a sweep


def test_202_is_followed_to_the_end_of_its_sweep(make: Make, stub: Stub, time: Time) -> None:
    queued = make_sweep(state="queued", progress=None)
    stub.reply("GET /lhp", Reply(queued, 202, **ACCEPTED), ANSWER)
    stub.reply("GET /sweeps/s1", make_sweep(), DONE)
    assert make().query((1197, 317)).lhp == (1200, 320)
    assert [route for route, _, _ in stub.requests] == [
        "GET /lhp",
        "GET /sweeps/s1",
        "GET /sweeps/s1",
        "GET /lhp",
    ]
    assert time.pauses_s == [2, 2]  # as Retry-After asks


@pytest.mark.parametrize(
    ("state", "error"), [("failed", MeasurementFailedError), ("cancelled", ConflictError)]
)
def test_a_sweep_that_ends_badly_is_an_error(
    make: Make, stub: Stub, state: str, error: type[LhpError]
) -> None:
    stub.reply("GET /lhp", Reply(make_sweep(), 202, **ACCEPTED))
    stub.reply("GET /sweeps/s1", make_sweep(state=state, error="out of memory"))
    with pytest.raises(error, match="sweep s1"):
        make().query((1197, 317))


def test_the_wait_is_bounded(make: Make, stub: Stub, time: Time) -> None:
    stub.reply("GET /lhp", Reply(make_sweep(), 202, **ACCEPTED))
    stub.reply("GET /sweeps/s1", make_sweep())
    with pytest.raises(NotMeasuredYetError, match=r"within 5 s: sweep s1 is running"):
        make(max_wait_s=5).query((1197, 317))
    assert time.pauses_s == [2, 2, 1]


def test_a_grid_is_measured_and_its_curve_brought(make: Make, stub: Stub) -> None:
    stub.reply("POST /sweeps", AWAY, Reply(make_sweep(), 201, Location="/sweeps/s1"))
    stub.reply("GET /sweeps/s1", make_sweep(), DONE)
    axes = [GridAxisRange(first=256, last=261)]
    curve = make(token="secret").measure(axes, workload="matmul", params={"batch": 8})
    assert curve == CURVE
    # Asked twice, since the service was away at first.
    (_, body), (_, again) = list(stub.sent("POST /sweeps"))[-2:]
    asked = json.loads(body)
    assert body == again
    assert (asked["workload"], asked["params"]) == ("matmul", {"batch": 8})
    assert asked["axes"] == [{"first": 256, "last": 261, "step": 1}]


def test_a_crossover_is_asked_for_and_waited_for(make: Make, stub: Stub) -> None:
    stub.reply("GET /crossover", AWAY, Reply(make_sweep(), 202, **ACCEPTED), CROSSOVER)
    stub.reply("GET /sweeps/s1", DONE)
    oracle: CrossoverOracle = make(host="anvil")
    assert oracle.get_crossover((1500, 1400)) == CROSSOVER
    query, _ = list(stub.sent("GET /crossover"))[-1]
    assert query == {
        "dims": "1500,1400",
        "batch": "16",
        "dtype": "float32",
        "host": "anvil",
        "wait": "1.0",
    }


def test_a_platforms_key_is_looked_up(make: Make, stub: Stub) -> None:
    assert make().get_platform("f00d") == TOLD_PLATFORM
    with pytest.raises(NotFoundError):
        make().get_platform("beef")


def test_a_crossover_of_something_else_is_refused(make: Make, stub: Stub) -> None:
    stub.reply("GET /crossover", CROSSOVER)
    with pytest.raises(WrongPlatformError, match=r"'beef'.*'f00d'"):
        make(platform="beef").get_crossover((1500, 1400))
    for options, asked in (
        ({}, {"dims": (1400, 1500)}),
        ({}, {"dims": (1500, 1400), "batch": 8}),
        ({}, {"dims": (1500, 1400), "dtype": "bfloat16"}),
        ({"host": "forge"}, {"dims": (1500, 1400)}),
    ):
        with pytest.raises(ContractError, match="the service answered about"):
            make(**options).get_crossover(**asked)
    with pytest.raises(InvalidDimsError):
        make().get_crossover((1500,))


def test_a_curve_of_another_platform_is_refused(make: Make, stub: Stub) -> None:
    stub.reply("POST /sweeps", Reply(DONE, 200, Location="/sweeps/s1"))
    with pytest.raises(WrongPlatformError):
        make(platform="beef").measure([GridAxisRange(first=256, last=261)], workload="matmul")


def test_a_sweep_that_never_brings_the_answer_is_an_error(make: Make, stub: Stub) -> None:
    stub.reply("GET /lhp", Reply(make_sweep(), 202, **ACCEPTED))
    stub.reply("GET /sweeps/s1", DONE)
    with pytest.raises(ServiceFailedError, match="measured 3 times"):
        make().query((1197, 317))


# Trying again


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(make: Make, stub: Stub, time: Time, status: int) -> None:
    stub.reply("GET /lhp", Reply("busy", status), Reply("busy", status), ANSWER)
    assert make().query((1197, 317)).source == "service"
    # Half a second, then twice that: 0.5 · (0.5 + 0.5 · jitter) with jitter 1, and 1.
    assert time.pauses_s == [0.5, 1.0]


def test_pauses_are_spread_by_jitter(make: Make, stub: Stub, time: Time) -> None:
    stub.reply("GET /lhp", AWAY, AWAY, ANSWER)
    make(jitter=lambda: 0.0).query((1197, 317))
    assert time.pauses_s == [0.25, 0.5]


def test_a_longer_pause_is_made_where_the_service_asks_for_it(
    make: Make, stub: Stub, time: Time
) -> None:
    replies = [Reply("busy", 429, **{"Retry-After": after}) for after in ("7", "86400", "soon")]
    stub.reply("GET /lhp", *replies, ANSWER)
    make().query((1197, 317))
    assert time.pauses_s == [7, 60, 2]  # as asked; cut to a minute; not a number: 0.5 · 2²


def test_attempts_are_bounded(make: Make, stub: Stub, time: Time) -> None:
    stub.reply("GET /lhp", AWAY)
    with pytest.raises(ServiceAwayError, match="host 'anvil' isn't there") as raised:
        make(max_attempts=3).query((1197, 317))
    assert raised.value.hint == "start its worker"
    assert len(list(stub.sent("GET /lhp"))) == 3
    assert time.pauses_s == [0.5, 1.0]


def test_no_pause_outlasts_the_wait(make: Make, stub: Stub, time: Time) -> None:
    stub.reply("GET /lhp", AWAY)
    with pytest.raises(ServiceAwayError):
        make(max_wait_s=2).query((1197, 317))
    assert time.pauses_s == [0.5, 1.0]  # the next, of 2 s, would end at 3.5 s


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (307, ServiceFailedError),
        (401, AccessRefusedError),
        (403, AccessRefusedError),
        (404, NotFoundError),
        (409, ConflictError),
        (422, InvalidRequestError),
    ],
)
def test_what_wont_change_isnt_tried_again(
    make: Make, stub: Stub, tmp_path: Path, status: int, error: type[LhpError]
) -> None:
    oracle = make(cache=tmp_path)
    oracle.query((1197, 317))
    stub.reply("GET /lhp", Reply.problem(status, "it can't be done", "do something else"))
    with pytest.raises(error, match="it can't be done") as raised:
        oracle.query((1197, 317))  # nor is the cache asked: the service is there
    assert raised.value.hint
    assert len(list(stub.sent("GET /lhp"))) == 2


def test_a_service_that_is_restarted_is_waited_for(make: Make, stub: Stub, time: Time) -> None:
    stub.stop()

    def restart_later() -> None:
        if len(time.pauses_s) == 2:
            stub.start()

    time.at_pause = restart_later
    assert make().query((1197, 317)).source == "service"


def test_no_service_is_an_error(make: Make, closed_url: str) -> None:
    with pytest.raises(ServiceAwayError, match=closed_url) as raised:
        make(closed_url).query((1197, 317))
    assert "lhp serve" in raised.value.hint


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"])
def test_a_service_that_breaks_off_is_away(make: Make, sent: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def break_off() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(sent)

        thread = threading.Thread(target=break_off)
        thread.start()
        with pytest.raises(ServiceAwayError):
            make(f"http://127.0.0.1:{listener.getsockname()[1]}", max_attempts=2).query((5, 5))
        thread.join()


def test_a_service_that_stays_silent_is_away(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ServiceAwayError):
            make(url, max_attempts=1, timeout_s=0.05).query((5, 5))


# The cache


def test_the_cache_answers_only_while_the_service_is_away_and_says_so(
    make: Make, stub: Stub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    oracle = make(cache=tmp_path)
    first = oracle.query((1197, 317))
    second = ANSWER.model_copy(update={"curve": "c8"})
    stub.reply("GET /lhp", second, AWAY)
    assert oracle.query((1197, 317)).curve == "c8"  # the service's, not the cache's c7
    with caplog.at_level(logging.WARNING):
        cached = oracle.query((1197, 317))
    assert (cached.source, cached.curve, cached.lhp) == ("cache", "c8", first.lhp)
    assert "host 'anvil' isn't there; going on with its answer of" in caplog.text
    with pytest.raises(ServiceAwayError):
        oracle.query((1197, 318))


def test_a_failure_of_the_service_isnt_papered_over(make: Make, stub: Stub, tmp_path: Path) -> None:
    oracle = make(cache=tmp_path)
    oracle.query((1197, 317))
    stub.reply("GET /lhp", Reply.problem(500, "the measurement failed", "see the log"))
    with pytest.raises(ServiceFailedError):
        oracle.query((1197, 317))


def test_a_cached_answer_of_another_platform_never_stands_in(
    make: Make, stub: Stub, tmp_path: Path, closed_url: str
) -> None:
    make(cache=tmp_path).query((1197, 317))
    stub.reply("GET /lhp", AWAY)
    with pytest.raises(ServiceAwayError):
        make(cache=tmp_path, platform="beef").query((1197, 317))
    # The platform pinned, it doesn't matter which service said it.
    pinned = make(closed_url, cache=tmp_path, platform="f00d").query((1197, 317))
    assert pinned.source == "cache"
    # Not pinned, another service may well be on another platform.
    with pytest.raises(ServiceAwayError):
        make(closed_url, cache=tmp_path).query((1197, 317))
    with pytest.raises(ServiceAwayError):
        make(cache=tmp_path, host="anvil").query((1197, 317))


def test_platforms_and_workloads_are_kept_apart(make: Make, stub: Stub, tmp_path: Path) -> None:
    oracle = make(cache=tmp_path)
    oracle.query((1197, 317))
    other = "linear[backend=dense,batch=32,dtype=float32]"
    stub.reply(
        "GET /lhp",
        ANSWER.model_copy(update={"platform": "../beef"}),
        ANSWER.model_copy(update={"workload": other, "curve": "c9"}),
    )
    oracle.query((1197, 317))
    oracle.query((1197, 317), params={"batch": 32})
    files = {str(p.parent.relative_to(tmp_path)) for p in tmp_path.glob("**/*.json")}
    assert files == {"f00d", "%2E%2E%2Fbeef"}
    stub.reply("GET /lhp", AWAY)
    assert make(cache=tmp_path, platform="f00d").query((1197, 317)).curve == "c7"
    assert make(cache=tmp_path).query((1197, 317), params={"batch": 32}).curve == "c9"
    # Unpinned, what the service said last.
    assert make(cache=tmp_path).query((1197, 317)).platform == "../beef"


def test_a_cache_that_cant_be_written_costs_no_answer(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert make(cache=tmp_path / "file").query((1197, 317)).source == "service"
    assert "isn't cached" in caplog.text


@pytest.mark.parametrize("spoil", [lambda text: text[:100], lambda text: text.replace("1200", "9")])
def test_a_spoilt_cache_is_named_not_used(
    make: Make, stub: Stub, tmp_path: Path, spoil: Callable[[str], str]
) -> None:
    oracle = make(cache=tmp_path)
    oracle.query((1197, 317))
    (file,) = tmp_path.glob("*/*.json")
    file.write_text(spoil(file.read_text()))
    stub.reply("GET /lhp", AWAY)
    with pytest.raises((RecordingError, ContractError)):
        oracle.query((1197, 317))


# Recordings


def test_a_cache_is_a_recording(make: Make, stub: Stub, tmp_path: Path) -> None:
    given = make(cache=tmp_path).query((1197, 317))
    (file,) = tmp_path.glob("*/*.json")
    for path in (tmp_path, file):
        oracle: LatencyOracle = RecordedLatencyOracle(path)
        replayed = oracle.query((1197, 317))
        assert replayed.source == "recording"
        assert (replayed.lhp, replayed.curve) == (given.lhp, given.curve)
        assert replayed.received_at == given.received_at


def test_a_recording_answers_nothing_else(make: Make, tmp_path: Path) -> None:
    make(cache=tmp_path).query((1197, 317))
    oracle = RecordedLatencyOracle(tmp_path)
    for options in ({"max_growth": 0.5}, {"prefer": "nearest"}, {"params": {"batch": 8}}):
        with pytest.raises(NoRecordedAnswerError) as raised:
            oracle.query((1197, 317), **options)
        assert "it answers 1 questions: linear[backend=dense" in raised.value.hint
    with pytest.raises(NoRecordedAnswerError, match="platform 'beef'"):
        RecordedLatencyOracle(tmp_path, platform="beef").query((1197, 317))


def test_a_recording_of_two_platforms_is_ambiguous(make: Make, stub: Stub, tmp_path: Path) -> None:
    oracle = make(cache=tmp_path)
    oracle.query((1197, 317))
    stub.reply("GET /lhp", ANSWER.model_copy(update={"platform": "beef", "curve": "c8"}))
    oracle.query((1197, 317))
    with pytest.raises(RecordingError, match="beef, f00d"):
        RecordedLatencyOracle(tmp_path).query((1197, 317))
    assert RecordedLatencyOracle(tmp_path, platform="beef").query((1197, 317)).curve == "c8"


def test_a_recording_that_breaks_the_contract_is_refused(make: Make, tmp_path: Path) -> None:
    make(cache=tmp_path).query((1197, 317))
    (file,) = tmp_path.glob("*/*.json")
    content = json.loads(file.read_text())
    content["answer"]["lhp"] = [9, 9]
    file.write_text(json.dumps(content))
    with pytest.raises(ContractError, match="smaller than the dims"):
        RecordedLatencyOracle(file).query((1197, 317))


def test_nothing_to_replay_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nonesuch.json"):
        with pytest.raises(RecordingError, match=str(path)):
            RecordedLatencyOracle(path)


# The real service


@dataclass(frozen=True, kw_only=True)
class RealService:
    url: str
    worker: Worker


@pytest.fixture
def real(tmp_path: Path) -> Iterator[RealService]:
    """The service itself over SQLite, whose worker does as the test says."""
    database_url = f"sqlite:///{tmp_path / 'lhp.sqlite'}"
    schema.upgrade(database_url)
    store = Store.open(database_url)
    store.register_host(HOST, PLATFORM, protocol=PROTOCOL, dtypes=("float32",))
    worker = Worker(store)
    settings = Settings(database_url=database_url, host=HOST)
    app = create_app(settings, store=store, enqueue=worker.enqueue)
    listener = socket.create_server(("127.0.0.1", 0))
    server = _Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    assert server.ready.wait(30)
    yield RealService(url=f"http://127.0.0.1:{listener.getsockname()[1]}", worker=worker)
    server.should_exit = True
    thread.join()
    store.close()


def test_the_real_service_answers_from_a_curve(make: Make, real: RealService) -> None:
    # Multiples of 8 are fast, the smaller the faster; the next above 61 and 29 are 64 and 32.
    curve = keep_curve(real.worker.store, Grid.window((61, 29), (32, 32)), stairs(8))
    answer = make(real.url).query((61, 29))
    assert (answer.lhp, answer.curve, answer.source) == ((64, 32), curve, "service")
    assert answer.platform == PLATFORM.key


def test_the_real_service_is_followed_while_it_measures(
    make: Make, real: RealService, time: Time
) -> None:
    def measure() -> None:
        sweep = real.worker.handed_in.get(timeout=20)
        real.worker.finish(sweep, stairs(8))

    time.at_pause = measure
    answer = make(real.url).query((61, 29))
    assert answer.lhp == (64, 32)
    assert time.pauses_s == [2]


def test_the_real_service_knows_no_such_platform(make: Make, real: RealService) -> None:
    with pytest.raises(NotFoundError, match="no platform 'beef'"):
        make(real.url, platform="beef").query((61, 29))
