"""What is tried again, how often, and never beyond the deadline."""

from __future__ import annotations

import math
import socket
import threading
import time as real_time

import httpx
import pytest
import stamina
from stamina.instrumentation import RetryDetails

from profiler_service import errors
from profiler_service.client import ServiceUnavailableError, ServiceUnreachableError
from profiler_service.client.problems import error_of
from profiler_service.client.retries import ATTEMPTS, Deadline, Patience
from profiler_service.wire import GridAxisRange, SweepRequest
from tests.cli.stub import ANSWER, HOST, Reply, make_sweep
from tests.client.conftest import Make, Stub, Time

REQUEST = SweepRequest(workload="matmul", axes=[GridAxisRange(first=256, last=261)])


def unavailable(retry_after: str) -> errors.LhpError:
    """The error of a 503 that asks for such a pause."""
    response = httpx.Response(
        503, headers={"Retry-After": retry_after}, request=httpx.Request("GET", "http://x")
    )
    error = error_of(response)
    error.__cause__ = httpx.HTTPStatusError("", request=response.request, response=response)
    return error


def patience(left_s: float = math.inf, *, attempts: int = 6) -> Patience:
    return Patience.until(Deadline.after(left_s, lambda: 0.0), attempts=attempts)


# Over the wire


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_gateway_that_is_busy_is_asked_again(make: Make, stub: Stub, status: int) -> None:
    stub.reply("GET /hosts", Reply("busy", status), Reply("busy", status), [HOST])
    assert make().list_hosts() == [HOST]
    assert len(list(stub.sent("GET /hosts"))) == 3


@pytest.mark.parametrize("kind", [each for each in errors.error_classes() if each.is_transient])
def test_what_may_pass_is_asked_again(make: Make, stub: Stub, kind: type[errors.LhpError]) -> None:
    stub.reply("GET /hosts", Reply.of_error(kind("not now")), [HOST])
    assert make().list_hosts() == [HOST]


@pytest.mark.parametrize(
    "error",
    [
        errors.MeasurementFailedError("sweep s1 failed: out of memory"),
        errors.MeasurementChildDiedError("it died"),
        errors.ServiceDefectError("a defect"),
        errors.StoreUnusableError("a malformed URL"),
        errors.ConflictError("no"),
        errors.InvalidRequestError("no"),
    ],
)
def test_what_stays_wrong_is_asked_once(make: Make, stub: Stub, error: errors.LhpError) -> None:
    """A failed measurement, above all: asking again would measure again."""
    stub.reply("GET /lhp", Reply.of_error(error))
    with pytest.raises(type(error)):
        make().ask_lhp({"dims": "1197,317"}, wait_s=60)
    assert len(list(stub.sent("GET /lhp"))) == 1


def test_attempts_are_bounded(make: Make, stub: Stub) -> None:
    stub.reply("GET /hosts", Reply("busy", 503))
    for options, attempts in (({"attempts": 3}, 3), ({}, ATTEMPTS), ({"attempts": 1}, 1)):
        before = len(list(stub.sent("GET /hosts")))
        with pytest.raises(ServiceUnavailableError):
            make(**options).list_hosts()
        assert len(list(stub.sent("GET /hosts"))) - before == attempts


def test_a_sweep_is_handed_in_again(make: Make, stub: Stub) -> None:
    """Equal sweeps under way are one, so nothing is measured twice."""
    stub.reply("POST /sweeps", Reply("busy", 502), Reply(make_sweep(), 201))
    sweep, is_new = make().create_sweep(REQUEST)
    assert (sweep, is_new) == (make_sweep(), True)
    (_, first), (_, second) = stub.sent("POST /sweeps")
    assert first == second


def test_a_question_isnt_asked_again_after_its_deadline(make: Make, stub: Stub, time: Time) -> None:
    stub.reply("GET /lhp", Reply("busy", 503))
    stub.at_request = lambda route: time.sleep(2)
    with pytest.raises(ServiceUnavailableError):
        make(attempts=10).ask_lhp({"dims": "1197,317"}, wait_s=5)
    assert time.now_s == 6  # asked at 0, 2 and 4 s


def test_a_service_that_comes_back_is_found(make: Make, stub: Stub) -> None:
    client = make()
    client.list_hosts()
    stub.stop()  # and with it the connection that the client has kept

    def come_back(details: RetryDetails) -> None:
        if details.retry_num == 2:
            stub.start()

    hooks = stamina.instrumentation.get_on_retry_hooks()
    stamina.instrumentation.set_on_retry_hooks([come_back])
    try:
        assert client.list_hosts() == [HOST]
    finally:
        stamina.instrumentation.set_on_retry_hooks(hooks)


def test_no_service_is_an_error(make: Make, closed_url: str) -> None:
    with pytest.raises(ServiceUnreachableError, match=f"no service at {closed_url}") as raised:
        make(closed_url).list_hosts()
    assert "lhp serve" in raised.value.hint


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", b"SSH"])
def test_an_answer_that_breaks_off_is_tried_again(make: Make, sent: bytes) -> None:
    whole = ANSWER.model_dump_json().encode()
    headers = f"HTTP/1.1 200 OK\r\nContent-Length: {len(whole)}\r\n\r\n".encode()
    replies = [sent, sent, headers + whole]
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for reply in replies:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        client = make(f"http://127.0.0.1:{listener.getsockname()[1]}")
        assert client.ask_lhp({"dims": "1197,317"}, wait_s=60) == ANSWER
        thread.join()


def test_a_service_that_says_nothing_is_away(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = make(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.1, attempts=2)
        with pytest.raises(ServiceUnreachableError, match="didn't answer in time"):
            client.list_hosts()


def test_the_service_is_told_how_long_it_may_hold_a_question(make: Make, stub: Stub) -> None:
    """A second, and then progress is shown; all of a wait that is too short for that."""
    client = make(quiet_s=5)
    for wait_s in (60, 5, 3, 0.25):
        client.ask_lhp({"dims": "1197,317"}, wait_s=wait_s)
    assert [float(query["wait"]) for query, _ in stub.sent("GET /lhp")] == [1, 5, 3, 0.25]


AWAY = Reply.of_error(errors.HostAwayError("host 'anvil' isn't there"))


def test_a_worker_that_is_starting_is_waited_for(make: Make, stub: Stub) -> None:
    stub.reply("GET /lhp", AWAY, ANSWER)
    assert make().ask_lhp({"dims": "1197,317"}, wait_s=15) == ANSWER
    assert [query["wait"] for query, _ in stub.sent("GET /lhp")] == ["1.0", "15.0"]


def test_a_worker_that_takes_long_to_start_is_waited_for_until_the_deadline(
    make: Make, stub: Stub, time: Time
) -> None:
    """The service is asked again for as long as it says that the worker is on its way."""
    starting = Reply.of_error(errors.HostStartingError("the worker of host 'anvil' is starting"))

    held_s = iter([1, 20, 20, 1])

    def hold(route: str) -> None:
        time.now_s += next(held_s)

    stub.at_request = hold
    stub.reply("GET /lhp", starting, starting, starting, ANSWER)
    assert make().ask_lhp({"dims": "1197,317"}, wait_s=60) == ANSWER
    # 1 + 20 + 20 of the 60 s are over at the last request.
    assert [query["wait"] for query, _ in stub.sent("GET /lhp")] == ["1.0", "20.0", "20.0", "19.0"]


def test_a_worker_that_doesnt_come_until_the_deadline_is_told(
    make: Make, stub: Stub, time: Time
) -> None:
    starting = Reply.of_error(errors.HostStartingError("the worker of host 'anvil' is starting"))

    def hold(route: str) -> None:
        time.now_s += 20

    stub.at_request = hold
    stub.reply("GET /lhp", starting)
    with pytest.raises(errors.HostStartingError, match="is starting"):
        make().ask_lhp({"dims": "1197,317"}, wait_s=60)
    assert len(list(stub.sent("GET /lhp"))) == 3


def test_without_time_left_a_host_that_is_away_is_told_at_once(make: Make, stub: Stub) -> None:
    stub.reply("GET /lhp", AWAY)
    with pytest.raises(errors.HostAwayError):
        make().ask_lhp({"dims": "1197,317"}, wait_s=0)
    assert len(list(stub.sent("GET /lhp"))) == 1


# How long the pauses are


def test_pauses_grow_with_some_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses_s: list[float] = []
    monkeypatch.setattr(real_time, "sleep", pauses_s.append)

    def fail() -> None:
        raise ServiceUnreachableError("no service")

    with stamina.set_testing(False), pytest.raises(ServiceUnreachableError):
        stamina.RetryingCaller(**patience(attempts=8).backoff)(patience().pause_s, fail)
    # 0.5 · 2ⁿ and up to half a second more, but never above 16.
    for pause_s, least_s in zip(pauses_s, [0.5, 1, 2, 4, 8, 16, 16], strict=True):
        assert least_s <= pause_s <= min(16, least_s + 0.5)


def test_pauses_together_end_before_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Time()
    monkeypatch.setattr(real_time, "sleep", clock.sleep)
    bounded = Patience.until(Deadline.after(5, clock.clock), attempts=6)

    def fail() -> None:
        raise ServiceUnreachableError("no service")

    with stamina.set_testing(False), pytest.raises(ServiceUnreachableError):
        stamina.RetryingCaller(**bounded.backoff)(bounded.pause_s, fail)
    assert len(clock.pauses_s) == 5
    assert clock.now_s <= 5


@pytest.mark.parametrize(
    ("asked", "pause"),
    [("7", 7), ("0", 0), ("86400", 60), ("soon", True), ("-1", True), ("1.5", True), ("", True)],
)
def test_the_pause_that_the_service_asks_for_is_made(asked: str, pause: float | bool) -> None:
    """Cut to a minute; what is no number of seconds is left to the backoff."""
    given = patience().pause_s(unavailable(asked))
    assert (given, type(given) is bool) == (pause, type(pause) is bool)


def test_no_pause_outlasts_the_deadline() -> None:
    assert patience(8).pause_s(unavailable("7")) == 7
    assert patience(6).pause_s(unavailable("7")) is False
    assert patience(0).pause_s(unavailable("")) is False
    clock = Time()
    bounded = Patience.until(Deadline.after(10, clock.clock), attempts=3)
    assert bounded.longest_s == 5  # two pauses of 5 s at most
    assert bounded.pause_s(ServiceUnreachableError("no service")) is True
    clock.now_s = 7
    assert bounded.pause_s(ServiceUnreachableError("no service")) == 3


def test_what_stays_wrong_isnt_paused_for() -> None:
    assert patience().pause_s(errors.ConflictError("no")) is False
    assert patience().pause_s(RuntimeError("a bug of ours")) is False
    away = errors.HostAwayError("away")
    assert patience().pause_s(away) is True
    elsewhere = Patience.until(patience().deadline, attempts=6, but_not=(errors.HostAwayError,))
    assert elsewhere.pause_s(away) is False
