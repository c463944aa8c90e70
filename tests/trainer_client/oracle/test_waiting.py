"""How long the trainer's client waits for a service that is away, and what it tries before."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from profiler_service.errors import (
    InvalidDimsError,
    LhpError,
    MeasurementFailedError,
    UnknownHostError,
    UnsupportedOnHostError,
)
from tests.cli.stub import ANSWER, CURVE, DONE, Events, Reply, make_sweep
from tests.cli.test_crossover import ANSWER as CROSSOVER
from tests.client.conftest import Stub, Time
from tests.trainer_client.conftest import AWAY, MakeOracle
from trainer_client.oracle.http import (
    HttpLatencyOracle,
    NoRecordedAnswerError,
    RecordedLatencyOracle,
    ServiceAwayError,
    WrongPlatformError,
)

RUNNING = make_sweep()


def test_a_service_that_is_away_is_waited_for_as_long_as_told(
    make: MakeOracle, stub: Stub, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    stub.reply("GET /lhp", AWAY)
    with caplog.at_level(logging.WARNING), pytest.raises(ServiceAwayError):
        make(max_away_s=100).query((1197, 317))
    # Each 15 s, and what is left of the last.
    assert time.pauses_s == [15.0] * 6 + [10.0]
    told = [each.message for each in caplog.records if each.name.startswith("trainer_client")]
    assert len(told) == 7
    assert told[0] == "host 'anvil' isn't there; waiting for it, 100 s at most: start its worker"


def test_a_service_that_comes_back_answers(make: MakeOracle, stub: Stub, time: Time) -> None:
    def come_back() -> None:
        if time.now_s >= 300:
            stub.reply("GET /lhp", ANSWER)
            stub.reply("GET /crossover", CROSSOVER)

    stub.reply("GET /lhp", AWAY)
    stub.reply("GET /crossover", AWAY)
    time.at_pause = come_back
    oracle = make(max_away_s=600)
    assert oracle.query((1197, 317)).source == "service"
    assert time.now_s == 300
    assert oracle.get_crossover((1500, 1400)) == CROSSOVER


def test_nobody_waits_where_nothing_says_so(make: MakeOracle, stub: Stub, time: Time) -> None:
    stub.reply("GET /lhp", AWAY)
    with pytest.raises(ServiceAwayError):
        make().query((1197, 317))
    assert time.now_s == 0


def test_a_cached_answer_is_used_without_waiting(
    make: MakeOracle, stub: Stub, time: Time, tmp_path: Path
) -> None:
    oracle = make(cache=tmp_path, max_away_s=600)
    oracle.query((1197, 317))
    stub.reply("GET /lhp", AWAY)
    assert oracle.query((1197, 317)).source == "cache"
    assert time.now_s == 0


def test_it_says_which_sweep_is_waited_for(
    make: MakeOracle, stub: Stub, caplog: pytest.LogCaptureFixture
) -> None:
    stub.reply("GET /lhp", Reply.accepted(RUNNING), ANSWER)
    stub.reply("GET /sweeps/s1/events", Events(("progress", RUNNING), ("end", DONE)))
    with caplog.at_level(logging.INFO, "trainer_client"):
        make().query((1197, 317))
    told = [each.message for each in caplog.records if each.name.startswith("trainer_client")]
    assert told == ["waiting for sweep s1 on host anvil, which is running"]


# What is tried before a training


def check(oracle: HttpLatencyOracle) -> None:
    oracle.check((1500, 400), workload="hlstm_lm", params={"batch": 8})


def test_a_check_measures_the_workload_for_a_moment(make: MakeOracle, stub: Stub) -> None:
    stub.reply("POST /sweeps", Reply.accepted(RUNNING, 201))
    stub.reply("GET /sweeps/s1/events", Events(("end", DONE)))
    check(make(host="anvil"))
    ((_, body),) = stub.sent("POST /sweeps")
    asked = json.loads(body)
    assert (asked["workload"], asked["params"], asked["host"]) == (
        "hlstm_lm",
        {"batch": 8},
        "anvil",
    )
    assert asked["axes"] == [{"first": n, "last": n, "step": 1} for n in (1500, 400)]
    assert asked["budget"] == 1.0


def test_a_host_that_is_busy_is_there(
    make: MakeOracle, stub: Stub, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    stub.reply("POST /sweeps", Reply.accepted(RUNNING, 201))
    stub.reply("GET /sweeps/s1", RUNNING)
    check(make())
    assert time.now_s == pytest.approx(60)
    assert "it is busy" in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        UnknownHostError("there is no host 'anvil'", hint="register it"),
        UnsupportedOnHostError("no csr product", hint="another host"),
        MeasurementFailedError("no memory", hint="smaller dims"),
    ],
)
def test_what_will_never_be_measured_is_found_out(
    make: MakeOracle, stub: Stub, error: LhpError
) -> None:
    stub.reply("POST /sweeps", Reply.of_error(error))
    with pytest.raises(type(error), match=str(error)):
        check(make())


def test_a_worker_that_is_starting_is_waited_for_and_a_dead_service_isnt(
    make: MakeOracle, stub: Stub, time: Time, closed_url: str
) -> None:
    stub.reply("POST /sweeps", AWAY)
    with pytest.raises(ServiceAwayError, match="anvil"):
        check(make(max_away_s=600))
    assert time.now_s == 30
    with pytest.raises(ServiceAwayError, match=closed_url):
        check(make(closed_url, max_away_s=600))
    assert time.now_s == 30


def test_earlier_answers_about_the_workload_may_stand_in(
    make: MakeOracle, stub: Stub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    oracle = make(cache=tmp_path)
    oracle.query((1197, 317))
    stub.reply("POST /sweeps", AWAY)
    oracle.check((2000, 400), workload="linear")
    assert "only its earlier answers" in caplog.text
    with pytest.raises(ServiceAwayError):  # none is about these
        oracle.check((2000, 400), workload="linear", params={"batch": 32})
    with pytest.raises(ServiceAwayError):  # nor of that host
        make(cache=tmp_path, host="anvil").check((2000, 400), workload="linear")


def test_a_check_is_of_the_pinned_platform(make: MakeOracle, stub: Stub) -> None:
    stub.reply("POST /sweeps", Reply.accepted(DONE, 200))
    stub.reply("GET /curves/c7", CURVE)
    with pytest.raises(WrongPlatformError):
        check(make(platform="beef"))
    with pytest.raises(InvalidDimsError):
        make().check((1500,), workload="linear")


def test_recordings_are_checked_for_the_workload(make: MakeOracle, tmp_path: Path) -> None:
    make(cache=tmp_path).query((1197, 317))
    recorded = RecordedLatencyOracle(tmp_path)
    recorded.check((2000, 400), workload="linear")
    with pytest.raises(NoRecordedAnswerError, match="batch=32"):
        recorded.check((2000, 400), workload="linear", params={"batch": 32})
