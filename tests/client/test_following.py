"""Following a sweep: by its events, by polling if they don't come, and never for too long."""

from __future__ import annotations

import pytest

from profiler_service import errors
from profiler_service.client import (
    ContractError,
    NotMeasuredYetError,
    ServiceFailedError,
    ServiceUnreachableError,
)
from profiler_service.client.following import AWAY_S, POLL_S
from profiler_service.wire import GridAxisRange, ProgressInfo, SweepInfo, SweepRequest
from tests.cli.stub import ANSWER, CURVE, DONE, Events, Reply, make_sweep
from tests.cli.test_crossover import ANSWER as CROSSOVER
from tests.client.conftest import Make, Stub, Time, Watched

QUEUED = make_sweep(state="queued", progress=None)
RUNNING = make_sweep()
"""A quarter is done."""
REQUEST = SweepRequest(workload="matmul", axes=[GridAxisRange(first=256, last=261)])
DIMS = {"dims": "1197,317"}


def at(fraction: float) -> SweepInfo:
    """A sweep that is so far."""
    progress = ProgressInfo(fraction=fraction, stage="round 3 of 12", num_samples=18, seconds=0.5)
    return make_sweep(progress=progress)


def asked(stub: Stub) -> list[str]:
    return [route for route, _, _ in stub.requests]


# By events


def test_a_sweep_is_followed_by_its_events(
    make: Make, stub: Stub, time: Time, watched: Watched
) -> None:
    stub.reply("GET /lhp", Reply.accepted(QUEUED), ANSWER)
    told = [("progress", each) for each in (QUEUED, at(0.25), at(0.5))]
    stub.reply("GET /sweeps/s1/events", Events(*told, ("end", DONE)))
    assert make().ask_lhp(DIMS, wait_s=60, on_progress=watched) == ANSWER
    assert asked(stub) == ["GET /lhp", "GET /sweeps/s1/events", "GET /lhp"]
    assert watched.fractions == [None, None, 0.25, 0.5, 0.25]
    assert time.pauses_s == []


def test_what_was_measured_since_it_was_asked_is_fresh(make: Make, stub: Stub, time: Time) -> None:
    stub.reply("GET /lhp", Reply.accepted(QUEUED), ANSWER)
    stub.reply("GET /sweeps/s1/events", Events(("end", DONE)))

    def measure(route: str) -> None:
        if route.endswith("/events"):
            time.now_s += 7.0

    stub.at_request = measure
    query = {**DIMS, "max_age": "1min"}
    assert make().ask_lhp(query, wait_s=60) == ANSWER
    # A minute, the 7 s of measuring, and one for the clocks.
    ages = [query["max_age"] for query, _ in stub.sent("GET /lhp")]
    assert ages == ["1min", "68"]


def test_a_crossover_is_waited_for_likewise(make: Make, stub: Stub) -> None:
    stub.reply("GET /crossover", Reply.accepted(QUEUED), CROSSOVER)
    stub.reply("GET /sweeps/s1/events", Events(("end", DONE)))
    assert make().ask_crossover({"dims": "1500,1400"}, wait_s=60) == CROSSOVER


def test_a_grid_is_measured_and_its_curve_brought(make: Make, stub: Stub, watched: Watched) -> None:
    stub.reply("POST /sweeps", Reply.accepted(QUEUED, 201))
    stub.reply("GET /sweeps/s1/events", Events(("progress", RUNNING), ("end", DONE)))
    assert make().measure(REQUEST, wait_s=60, on_progress=watched) == CURVE
    assert asked(stub) == ["POST /sweeps", "GET /sweeps/s1/events", "GET /curves/c7"]


def test_events_of_another_name_are_ignored(make: Make, stub: Stub) -> None:
    stub.reply("GET /sweeps/s1/events", Events(("gossip", "{}"), ("end", DONE)))
    assert make().follow_sweep(RUNNING) == DONE


# If they don't come


def test_without_a_stream_the_sweep_is_looked_at(
    make: Make, stub: Stub, time: Time, watched: Watched
) -> None:
    # No /events: the stub answers 404.
    stub.reply("GET /sweeps/s1", RUNNING, at(0.5), DONE)
    assert make().follow_sweep(QUEUED, on_progress=watched) == DONE
    assert asked(stub).count("GET /sweeps/s1/events") == 1
    assert time.pauses_s == [POLL_S] * 3
    assert watched.fractions == [None, 0.25, 0.5, 0.25]


@pytest.mark.parametrize(
    "reply",
    [
        Reply("<h1>Events?</h1>"),
        Reply("busy", 503),
        Reply("elsewhere", 307, Location="/events"),
        Events(("progress", "{}")),
        Events(("progress", "no JSON")),
        Events(),
    ],
)
def test_a_stream_of_something_else_is_given_up(make: Make, stub: Stub, reply: Reply) -> None:
    stub.reply("GET /sweeps/s1/events", reply)
    stub.reply("GET /sweeps/s1", RUNNING, RUNNING, DONE)
    assert make().follow_sweep(QUEUED) == DONE
    assert asked(stub).count("GET /sweeps/s1/events") == 1


def test_a_proxy_that_holds_events_back_is_given_up(make: Make, stub: Stub) -> None:
    stub.reply("GET /sweeps/s1/events", Events(stays_open=True))
    stub.reply("GET /sweeps/s1", RUNNING, RUNNING, DONE)
    assert make().follow_sweep(QUEUED) == DONE
    assert asked(stub).count("GET /sweeps/s1/events") == 1


def test_a_stream_that_is_silent_is_opened_anew(make: Make, stub: Stub, watched: Watched) -> None:
    stub.reply(
        "GET /sweeps/s1/events",
        Events(("progress", QUEUED), stays_open=True),
        Events(("progress", RUNNING), ("end", DONE)),
    )
    stub.reply("GET /sweeps/s1", QUEUED)
    assert make().follow_sweep(QUEUED, on_progress=watched) == DONE
    assert asked(stub) == ["GET /sweeps/s1/events", "GET /sweeps/s1", "GET /sweeps/s1/events"]


def test_a_stream_that_breaks_off_is_opened_anew_after_a_pause(
    make: Make, stub: Stub, time: Time
) -> None:
    broken = Events(("progress", RUNNING))  # without an `end`: the service is being stopped
    stub.reply("GET /sweeps/s1/events", broken, broken, Events(("end", DONE)))
    stub.reply("GET /sweeps/s1", RUNNING)
    assert make().follow_sweep(QUEUED) == DONE
    assert time.pauses_s == [POLL_S] * 2


def test_the_service_says_how_often_to_look(make: Make, stub: Stub, time: Time) -> None:
    accepted = Reply.accepted(QUEUED)
    accepted.headers["Retry-After"] = "2"
    stub.reply("GET /lhp", accepted, ANSWER)
    stub.reply("GET /sweeps/s1", RUNNING, Reply(RUNNING, 200, **{"Retry-After": "7"}), DONE)
    make().ask_lhp(DIMS, wait_s=60)
    assert time.pauses_s == [2, 2, 7]


# While the service is away


def test_a_service_that_restarts_is_waited_for(
    make: Make, stub: Stub, time: Time, watched: Watched
) -> None:
    stub.reply("GET /sweeps/s1/events", Events(("progress", at(0.5))), Events(("end", DONE)))
    client = make()
    stopped = False

    def restart() -> None:
        nonlocal stopped
        if not stopped:
            stub.stop()
            stopped = True
        elif len(time.pauses_s) == 4:
            stub.start()

    time.at_pause = restart
    stub.reply("GET /sweeps/s1", at(0.75))
    assert client.follow_sweep(RUNNING, on_progress=watched) == DONE
    held_up_by = [type(each.held_up_by) for each in watched.told if each.held_up_by]
    assert held_up_by == [ServiceUnreachableError] * 3
    # Back again, it is followed by its events again.
    assert asked(stub)[-2:] == ["GET /sweeps/s1", "GET /sweeps/s1/events"]


def test_a_database_that_is_away_is_called_so(make: Make, stub: Stub, watched: Watched) -> None:
    away = Reply.of_error(errors.StoreUnavailableError("the database isn't there"))
    stub.reply("GET /sweeps/s1", away, DONE)
    assert make().follow_sweep(RUNNING, on_progress=watched) == DONE
    (held_up,) = [each for each in watched.told if each.held_up_by]
    assert type(held_up.held_up_by) is errors.StoreUnavailableError
    assert held_up.sweep == RUNNING


def test_a_service_that_stays_away_is_given_up(make: Make, stub: Stub, time: Time) -> None:
    away = Reply.of_error(errors.StoreUnavailableError("the database isn't there"))
    stub.reply("GET /sweeps/s1", RUNNING, away)
    with pytest.raises(errors.StoreUnavailableError, match="database") as raised:
        make().follow_sweep(QUEUED)
    assert "the sweep goes on" in raised.value.hint
    # Heard of after the first pause; given up at the first look more than 30 s later.
    assert time.now_s == POLL_S + AWAY_S + POLL_S


def test_what_stays_wrong_ends_the_following(make: Make, stub: Stub) -> None:
    stub.reply("GET /sweeps/s1", Reply.of_error(errors.UnknownSweepError("there is no sweep 's1'")))
    with pytest.raises(errors.UnknownSweepError):
        make().follow_sweep(RUNNING)
    assert asked(stub).count("GET /sweeps/s1") == 1


# How it ends


def test_a_sweep_that_has_ended_isnt_asked_about(make: Make, stub: Stub) -> None:
    assert make().follow_sweep(DONE) == DONE
    assert asked(stub) == []


@pytest.mark.parametrize(
    ("state", "error"),
    [("failed", errors.MeasurementFailedError), ("cancelled", errors.SweepCancelledError)],
)
def test_a_sweep_that_brings_no_answer_is_an_error(
    make: Make, stub: Stub, state: str, error: type[errors.LhpError]
) -> None:
    """Asked for once: a measurement that failed isn't made again."""
    ended = make_sweep(state=state, error="out of memory")
    stub.reply("GET /lhp", Reply.accepted(RUNNING))
    stub.reply("POST /sweeps", Reply.accepted(RUNNING, 201))
    stub.reply("GET /sweeps/s1/events", Events(("end", ended)))
    client = make()
    with pytest.raises(error, match="sweep s1") as raised:
        client.ask_lhp(DIMS, wait_s=60)
    assert (type(raised.value), raised.value.see) == (error, "/sweeps/s1")
    assert asked(stub).count("GET /lhp") == 1
    with pytest.raises(error):
        client.measure(REQUEST, wait_s=60)
    assert client.follow_sweep(RUNNING) == ended  # whoever follows it sees for themselves


def test_a_sweep_that_never_brings_the_answer_is_an_error(make: Make, stub: Stub) -> None:
    stub.reply("GET /lhp", Reply.accepted(RUNNING))
    stub.reply("GET /sweeps/s1/events", Events(("end", DONE)))
    with pytest.raises(ServiceFailedError, match="measured 3 times"):
        make().ask_lhp(DIMS, wait_s=60)
    stub.reply("POST /sweeps", Reply.accepted(make_sweep(state="done"), 201))
    with pytest.raises(ServiceFailedError, match="has no curve"):
        make().measure(REQUEST, wait_s=60)


def test_the_wait_is_bounded(make: Make, stub: Stub, time: Time) -> None:
    stub.reply("GET /lhp", Reply.accepted(RUNNING))
    stub.reply("GET /sweeps/s1", RUNNING)
    with pytest.raises(
        NotMeasuredYetError, match=r"within 1.25 s: sweep s1 is running, 25% done$"
    ) as raised:
        make().ask_lhp(DIMS, wait_s=1.25)
    assert time.pauses_s == [0.5, 0.5, 0.25]
    assert raised.value.see == "/sweeps/s1"
    assert make().follow_sweep(RUNNING, wait_s=0) == RUNNING


def test_a_paused_sweep_that_isnt_done_in_time_says_why(make: Make, stub: Stub) -> None:
    stub.reply("GET /lhp", Reply.accepted(make_sweep(error="no CUDA device here")))
    with pytest.raises(NotMeasuredYetError, match="25% done, paused: no CUDA device here"):
        make().ask_lhp(DIMS, wait_s=0)


def test_listening_ends_before_the_deadline(make: Make, stub: Stub, time: Time) -> None:
    """A stream can't be told when to end: the last seconds belong to looks."""
    told = [("progress", RUNNING)] * 3
    stub.reply("GET /sweeps/s1/events", Events(*told, stays_open=True))
    stub.reply("GET /sweeps/s1", RUNNING)
    heard = 0

    def tick(progress: object) -> None:
        nonlocal heard
        heard += 1
        time.now_s += 1 if time.now_s < 2.8 else 0

    sweep = make(quiet_s=0.3).follow_sweep(RUNNING, wait_s=3.2, on_progress=tick)
    assert sweep == RUNNING
    # The clock stands at 3 s after three reports: 0.2 s are left, less than a silence may last.
    assert asked(stub) == ["GET /sweeps/s1/events", "GET /sweeps/s1"]
    assert time.pauses_s == [pytest.approx(0.2)]


@pytest.mark.parametrize(
    "location",
    ["", "http://elsewhere.example/sweeps/s1", "//elsewhere.example/sweeps/s1", "http://[oops"],
)
def test_a_sweep_that_is_elsewhere_isnt_asked_about(make: Make, stub: Stub, location: str) -> None:
    stub.reply("GET /lhp", Reply(RUNNING, 202, **({"Location": location} if location else {})))
    with pytest.raises(ContractError, match="says that the sweep is at") as raised:
        make(token="secret").ask_lhp(DIMS, wait_s=60)
    assert raised.value.hint
    assert asked(stub) == ["GET /lhp"]
