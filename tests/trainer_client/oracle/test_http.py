"""The trainer's client: what it asks, what it refuses, and what it does while the service is away.

How requests are sent, tried again and followed is the client's: tests/client. No test waits.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from profiler_service.errors import (
    ConflictError,
    HostAwayError,
    InvalidDimsError,
    InvalidRequestError,
    InvalidWorkloadError,
    LhpError,
    MeasurementFailedError,
    NotFoundError,
    ServiceDefectError,
    ShuttingDownError,
    StoreUnavailableError,
    UnknownWorkloadError,
)
from profiler_service.wire import GridAxisRange
from tests.cli.stub import ANSWER, CURVE, DONE, Events, Reply, make_sweep
from tests.cli.stub import PLATFORM as TOLD_PLATFORM
from tests.cli.test_crossover import ANSWER as CROSSOVER
from tests.client.conftest import Stub, Time
from tests.trainer_client.conftest import AWAY, MakeOracle
from trainer_client.oracle.http import (
    AccessRefusedError,
    ContractError,
    CrossoverOracle,
    HttpLatencyOracle,
    LatencyOracle,
    NotMeasuredYetError,
    ServiceAwayError,
    ServiceFailedError,
    WrongPlatformError,
)

RUNNING = make_sweep()


# The answer


def test_terms_say_how_sure_and_how_new_answers_must_be(make: MakeOracle, stub: Stub) -> None:
    stub.reply("GET /lhp", ANSWER.model_copy(update={"settled": True, "margin": 0.004}))
    answer = make(terms={"margin": "1%", "max_age": "7d"}).query((1197, 317))
    [(query, _)] = stub.sent("GET /lhp")
    assert (query["margin"], query["max_age"]) == ("1%", "7d")
    assert (answer.settled, answer.margin) == (True, 0.004)
    with pytest.raises(InvalidRequestError) as caught:
        make(terms={"margins": "1%"})
    assert "did you mean 'margin'?" in caught.value.hint


def test_an_answer_is_typed_frozen_and_says_where_it_is_from(make: MakeOracle) -> None:
    oracle: LatencyOracle = make()
    answer = oracle.query((1197, 317))
    assert (answer.dims, answer.lhp, answer.grow_by) == ((1197, 317), (1200, 320), (3, 3))
    assert (answer.verdict, answer.speedup_interval) == ("faster", (1.029, 1.039))
    assert (answer.platform, answer.curve, answer.source) == ("f00d", "c7", "service")
    with pytest.raises(AttributeError):
        answer.lhp = (1, 1)  # type: ignore[misc]


def test_the_question_travels_whole(make: MakeOracle, stub: Stub) -> None:
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


@pytest.mark.parametrize(("given", "sent"), [(8, "8,8"), ((1, 64), "1,64")])
def test_multiples_are_asked_for_on_each_axis(
    make: MakeOracle, stub: Stub, given: int | tuple[int, int], sent: str
) -> None:
    # 1200 is a multiple of 8, and 320 of 8 and of 64.
    assert make().query((1197, 317), multiple_of=given).lhp == (1200, 320)
    ((query, _),) = stub.sent("GET /lhp")
    assert query["multiple_of"] == sent


def test_an_answer_that_is_no_multiple_is_refused(make: MakeOracle) -> None:
    with pytest.raises(
        ContractError, match=r"its lhp \[1200, 320\] isn't a multiple of \[64, 64\]"
    ):
        make().query((1197, 317), multiple_of=64)


def test_slack_is_asked_for_and_allows_a_slower_answer(make: MakeOracle, stub: Stub) -> None:
    slower = ANSWER.model_copy(
        update={
            "prefer": "nearest",
            "verdict": "slower",
            "speedup": 0.996,
            "speedup_interval": (0.991, 0.999),
        }
    )
    stub.reply("GET /lhp", slower, slower)
    # At most 1 % slower: 1 / 1.01 = 0.9901.
    assert make().query((1197, 317), prefer="nearest", slack=0.01).lhp == (1200, 320)
    ((query, _),) = stub.sent("GET /lhp")
    assert float(query["slack"]) == 0.01
    with pytest.raises(ContractError, match="may be slower"):
        make().query((1197, 317), prefer="nearest", slack=0.005)


def test_the_token_is_sent_where_there_is_one(make: MakeOracle, stub: Stub) -> None:
    make(token="sesame").query((1197, 317))
    make().query((1197, 317))
    given = [headers.get("authorization") for headers in stub.headers]
    assert given == ["Bearer sesame", None]


def test_importing_needs_no_torch() -> None:
    program = "import sys, trainer_client.oracle.http; sys.exit('torch' in sys.modules)"
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
        (InvalidRequestError, (1197, 317), {"multiple_of": 0}),
        (InvalidRequestError, (1197, 317), {"slack": 0.01}),
        (InvalidRequestError, (1197, 317), {"slack": 1.0, "prefer": "nearest"}),
        (InvalidRequestError, (1197, 317), {"multiple_of": (8, 8, 8)}),
        (InvalidRequestError, (1197, 317), {"max_growth": float("nan")}),
    ],
)
def test_what_cant_be_asked_is_refused_before_anything_is_sent(
    make: MakeOracle,
    stub: Stub,
    error: type[LhpError],
    dims: tuple[int, ...],
    options: dict[str, Any],
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
        ({"speedup_interval": (0.98, 1.04)}, "may be slower"),
        ({"speedup_interval": (1.04, 1.02)}, "in order"),
        ({"latency_s": 0.0}, "positive"),
        ({"num_samples": 0}, "no samples"),
    ],
)
def test_an_answer_that_breaks_the_contract_is_refused(
    make: MakeOracle, stub: Stub, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    stub.reply("GET /lhp", ANSWER.model_copy(update=changes))
    with pytest.raises(ContractError) as raised:
        make(cache=tmp_path).query((1197, 317))
    assert said in str(raised.value)
    assert list(tmp_path.iterdir()) == []  # nor is it kept


def test_answers_of_another_platform_or_host_are_refused(make: MakeOracle) -> None:
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
        Reply(RUNNING, 202, Location="http://elsewhere.example/sweeps/s1"),
    ],
)
def test_an_answer_of_something_else_is_refused(make: MakeOracle, stub: Stub, reply: Reply) -> None:
    stub.reply("GET /lhp", reply)
    with pytest.raises(ContractError) as raised:
        make().query((1197, 317))
    assert raised.value.hint


# Measuring


def test_a_question_is_measured_first_where_need_be(make: MakeOracle, stub: Stub) -> None:
    stub.reply("GET /lhp", Reply.accepted(RUNNING), ANSWER)
    stub.reply("GET /sweeps/s1/events", Events(("end", DONE)))
    assert make().query((1197, 317)).lhp == (1200, 320)


@pytest.mark.parametrize(
    ("state", "error"), [("failed", MeasurementFailedError), ("cancelled", ConflictError)]
)
def test_a_sweep_that_ends_badly_is_an_error(
    make: MakeOracle, stub: Stub, state: str, error: type[LhpError]
) -> None:
    stub.reply("GET /lhp", Reply.accepted(RUNNING))
    stub.reply("GET /sweeps/s1/events", Events(("end", make_sweep(state=state, error="no memory"))))
    with pytest.raises(error, match="sweep s1"):
        make().query((1197, 317))
    assert len(list(stub.sent("GET /lhp"))) == 1


def test_the_wait_is_bounded(make: MakeOracle, stub: Stub, time: Time) -> None:
    stub.reply("GET /lhp", Reply.accepted(RUNNING))
    stub.reply("GET /sweeps/s1", RUNNING)
    with pytest.raises(NotMeasuredYetError, match=r"within 5 s: sweep s1 is running"):
        make(max_wait_s=5).query((1197, 317))
    assert time.now_s == 5


def test_a_grid_is_measured_and_its_curve_brought(make: MakeOracle, stub: Stub) -> None:
    stub.reply("POST /sweeps", AWAY, Reply.accepted(RUNNING, 201))
    stub.reply("GET /sweeps/s1/events", Events(("end", DONE)))
    axes = [GridAxisRange(first=256, last=261)]
    oracle = make(token="secret", host="anvil")
    assert oracle.measure(axes, workload="matmul", params={"batch": 8}) == CURVE
    asked = json.loads(list(stub.sent("POST /sweeps"))[-1][1])
    assert (asked["workload"], asked["params"]) == ("matmul", {"batch": 8})
    assert (asked["axes"], asked["host"]) == ([{"first": 256, "last": 261, "step": 1}], "anvil")


def test_a_curve_of_another_platform_is_refused(make: MakeOracle, stub: Stub) -> None:
    stub.reply("POST /sweeps", Reply.accepted(DONE, 200))
    with pytest.raises(WrongPlatformError):
        make(platform="beef").measure([GridAxisRange(first=256, last=261)], workload="matmul")


def test_a_crossover_is_asked_for_and_waited_for(make: MakeOracle, stub: Stub) -> None:
    stub.reply("GET /crossover", AWAY, Reply.accepted(RUNNING), CROSSOVER)
    stub.reply("GET /sweeps/s1/events", Events(("end", DONE)))
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


def test_a_crossover_of_something_else_is_refused(make: MakeOracle, stub: Stub) -> None:
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


def test_a_platforms_key_is_looked_up(make: MakeOracle, stub: Stub) -> None:
    assert make().get_platform("f00d") == TOLD_PLATFORM
    with pytest.raises(NotFoundError):
        make().get_platform("beef")


# While the service is away


@pytest.mark.parametrize("kind", [HostAwayError, StoreUnavailableError, ShuttingDownError])
def test_what_is_away_is_tried_again_and_then_told(
    make: MakeOracle, stub: Stub, kind: type[LhpError]
) -> None:
    stub.reply("GET /lhp", Reply.of_error(kind("not now", hint="start it", see="/hosts")))
    with pytest.raises(ServiceAwayError, match="not now") as raised:
        make(max_attempts=3).query((1197, 317))
    assert (raised.value.hint, raised.value.see) == ("start it", "/hosts")
    assert type(raised.value.__cause__) is kind
    assert len(list(stub.sent("GET /lhp"))) >= 3


def test_no_service_is_an_error_of_every_question(make: MakeOracle, closed_url: str) -> None:
    oracle = make(closed_url, max_attempts=2)
    for ask in (
        lambda: oracle.query((1197, 317)),
        lambda: oracle.measure([GridAxisRange(first=256, last=261)], workload="matmul"),
        lambda: oracle.get_crossover((1500, 1400)),
        lambda: oracle.get_platform("f00d"),
    ):
        with pytest.raises(ServiceAwayError, match=closed_url) as raised:
            ask()
        assert "lhp serve" in raised.value.hint


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (307, ServiceFailedError),
        (401, AccessRefusedError),
        (403, AccessRefusedError),
        (404, NotFoundError),
        (409, ConflictError),
        (422, InvalidRequestError),
        (500, ServiceFailedError),
    ],
)
def test_what_wont_change_isnt_tried_again(
    make: MakeOracle, stub: Stub, tmp_path: Path, status: int, error: type[LhpError]
) -> None:
    oracle = make(cache=tmp_path)
    oracle.query((1197, 317))
    stub.reply("GET /lhp", Reply.problem(status, "it can't be done", "do something else"))
    with pytest.raises(error, match="it can't be done") as raised:
        oracle.query((1197, 317))  # nor is the cache asked: the service is there
    assert raised.value.hint
    assert len(list(stub.sent("GET /lhp"))) == 2


def test_a_measurement_that_failed_isnt_made_again(make: MakeOracle, stub: Stub) -> None:
    for error in (MeasurementFailedError("sweep s1 failed"), ServiceDefectError("a defect")):
        before = len(list(stub.sent("GET /lhp")))
        stub.reply("GET /lhp", Reply.of_error(error))
        with pytest.raises(type(error)):
            make().query((1197, 317))
        assert len(list(stub.sent("GET /lhp"))) == before + 1
