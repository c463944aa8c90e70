from __future__ import annotations

import json
import socket

import pytest

from profiler_service.cli.command_name import command_name
from profiler_service.errors import HostAwayError, StoreUnavailableError
from profiler_service.wire import CurvePage, LhpAnswer
from tests.cli.conftest import Lhp
from tests.cli.stub import ANSWER, DONE, HEADER, Events, Reply, StubService, make_sweep

RACE = make_sweep(mode="race")


def test_a_measured_answer_is_one_sentence(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /lhp", ANSWER)
    done = lhp("query", "1197,317")
    assert done.code == 0
    assert done.out.startswith("1200,320  3.4 % faster than 1197,317")
    assert done.err == ""


def test_an_answer_from_memory_says_that_the_database_is_away(
    lhp: Lhp, service: StubService
) -> None:
    # The mode of an LHP's curve isn't asked for: the stand-in has no such route.
    service.reply("GET /lhp", ANSWER.model_copy(update={"is_lhp": True, "database_away_s": 42}))
    done = lhp("query", "1197,317")
    assert (done.code, "the service's database has been away for 42 s" in done.err) == (0, True)
    assert "away" not in done.out


def test_json_is_the_answer_and_nothing_else(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /lhp", Reply.accepted(RACE), ANSWER)
    service.reply("GET /sweeps/s1/events", Events(("end", DONE)))
    done = lhp("query", "1197,317", "--json")
    assert done.code == 0
    assert LhpAnswer.model_validate(json.loads(done.out)) == ANSWER


def test_options_and_params_become_query_parameters(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /lhp", ANSWER)
    options = "--workload linear --batch 8 --dtype bfloat16 --backend dense --prefer nearest"
    more = "--max-growth 0.25 --host anvil --platform f00d --effort thorough --param layout=nk"
    last = "--slack 1% --budget 2.5 --multiple-of 1,64 --margin 1% --settle 9 --max-age 7d"
    lhp("query", " 1197, 317", *options.split(), *more.split(), *last.split())
    [(query, _)] = service.sent("GET /lhp")
    wait = query.pop("wait")
    assert query == {
        "dims": "1197,317",
        "workload": "linear",
        "batch": "8",
        "dtype": "bfloat16",
        "backend": "dense",
        "prefer": "nearest",
        "effort": "thorough",
        "max_growth": "0.25",
        "multiple_of": "1,64",
        "budget": "2.5",
        "slack": "1%",
        "margin": "1%",
        "settle": "9.0",
        "max_age": "7d",
        "host": "anvil",
        "platform": "f00d",
        "layout": "nk",
    }
    assert 0 < float(wait) <= 1


def test_fresh_is_an_age_of_nothing(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /lhp", ANSWER)
    assert lhp("query", "1197,317", "--fresh").code == 0
    assert service.sent("GET /lhp")[0][0]["max_age"] == "0"  # type: ignore[index]
    done = lhp("query", "1197,317", "--fresh", "--max-age", "1h")
    assert done.code == 2
    assert "give one of them" in done.err


def test_what_varies_is_sent_with_the_axes_that_do_not(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /lhp", ANSWER)
    lhp("query", "100,1197", "--vary", "batch,out_features", "--param", "in_features=317")
    [(query, _)] = service.sent("GET /lhp")
    assert (query["dims"], query["vary"]) == ("100,1197", "batch,out_features")
    assert query["in_features"] == "317"


def test_an_answer_cut_short_says_so(lhp: Lhp, service: StubService) -> None:
    answer = ANSWER.model_copy(
        update={"lhp": ANSWER.dims, "grow_by": [0, 0], "verdict": "ambiguous", "cut_short": True}
    )
    service.reply("GET /lhp", answer)
    done = lhp("query", "1197,317", "--budget", "0.01")
    assert done.code == 0
    assert "the budget ended before anything larger could be judged" in done.out


def test_a_sweep_under_way_is_followed_and_then_asked_again(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /lhp", Reply.accepted(RACE), ANSWER)
    service.reply("GET /sweeps/s1/events", Events(("progress", RACE), ("end", DONE)))
    done = lhp("query", "1197,317")
    assert done.code == 0
    assert done.out.startswith("1200,320")
    assert service.sent("GET /sweeps/s1") == []
    # 18 samples in 0.5 s; a quarter took 0.5 s, so three more quarters take 1.5 s.
    assert "25% done, round 3 of 12, 18 samples, 36/s, 1.50 s left" in done.err


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ({"state": "failed", "error": "the GPU is gone"}, "the GPU is gone"),
        ({"state": "cancelled"}, "cancelled"),
    ],
)
def test_a_sweep_that_ends_without_an_answer_is_an_error(
    lhp: Lhp, service: StubService, end: dict[str, object], message: str
) -> None:
    service.reply("GET /lhp", Reply.accepted(RACE))
    service.reply("GET /sweeps/s1", make_sweep(**end))
    done = lhp("query", "1197,317")
    assert done.code == 1
    assert done.out == ""
    assert message in done.err


def test_waiting_ends_after_the_time_given_and_the_sweep_goes_on(
    lhp: Lhp, service: StubService
) -> None:
    service.reply("GET /lhp", Reply.accepted(RACE))
    service.reply("GET /sweeps/s1", RACE)
    done = lhp("query", "1197,317", "--wait", "0.3")
    assert done.code == 1
    assert "error: not measured within 0.3 s: sweep s1 is running, 25% done" in done.err
    assert "hint: the sweep goes on" in done.err
    assert "lhp cancel s1` stops it" in done.err


def test_a_service_that_never_finds_its_answer_is_not_asked_for_ever(
    lhp: Lhp, service: StubService
) -> None:
    service.reply("GET /lhp", Reply.accepted(RACE))
    service.reply("GET /sweeps/s1/events", Events(("end", DONE)))
    done = lhp("query", "1197,317")
    assert done.code == 1
    assert "no answer" in done.err


AWAY = Reply.of_error(HostAwayError("host 'anvil' isn't there", hint="start it", see="/hosts"))


def test_a_worker_that_is_still_starting_is_waited_for(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /lhp", AWAY, ANSWER)
    done = lhp("query", "1197,317")
    assert done.code == 0
    assert done.err == "waiting for the worker to be ready\n"
    first, second = (float(query["wait"]) for query, _ in service.sent("GET /lhp"))
    assert first <= 1 < second


def test_a_host_that_stays_away_is_an_error(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /lhp", AWAY)
    done = lhp("query", "1197,317")
    assert done.code == 1
    lhp_hosts = f"`{command_name()} hosts`"
    told = f"error: host 'anvil' isn't there\nhint: start it\nsee: {lhp_hosts}\n"
    assert done.err.endswith(told)


def test_a_database_that_is_away_isnt_taken_for_a_worker(lhp: Lhp, service: StubService) -> None:
    error = StoreUnavailableError("the database isn't there", hint="start it")
    service.reply("GET /lhp", Reply.of_error(error))
    done = lhp("query", "1197,317")
    assert (done.code, done.err) == (1, "error: the database isn't there\nhint: start it\n")


@pytest.mark.parametrize(("status", "code"), [(422, 2), (404, 1), (409, 1), (500, 1)])
def test_a_problem_is_told_with_its_hint(
    lhp: Lhp, service: StubService, status: int, code: int
) -> None:
    service.reply("GET /lhp", Reply.problem(status, "it can't [be] done", "do [something] else"))
    done = lhp("query", "1197,317")
    assert done.code == code
    assert done.err == "error: it can't [be] done\nhint: do [something] else\n"


@pytest.mark.parametrize(
    ("see", "shown"),
    [
        ("/hosts", "`LHP hosts`"),
        ("/platforms", "`LHP hosts`"),
        ("/workloads", "`LHP workloads`"),
        ("/curves", "`LHP curves`"),
        ("/curves/c7", "`LHP curves c7`"),
        # No command shows these.
        ("/docs", "URL/docs"),
        ("/sweeps/s1", "URL/sweeps/s1"),
        ("/platforms/f00d", "URL/platforms/f00d"),
    ],
)
def test_where_to_look_is_put_as_a_command(
    lhp: Lhp, service: StubService, see: str, shown: str
) -> None:
    service.reply("GET /lhp", Reply.problem(422, "no", "don't", see=see))
    shown = shown.replace("LHP", command_name()).replace("URL", service.url)
    assert lhp("query", "1197,317").err == f"error: no\nhint: don't\nsee: {shown}\n"


def test_negative_dims_are_called_so(lhp: Lhp) -> None:
    done = lhp("query", "-1,5")
    assert done.err == (
        "error: '-1,5' is negative\nhint: dims are whole numbers from 1 up: 1197,317\n"
    )


@pytest.mark.parametrize(("mode", "said"), [("grid", "it is an LHP"), ("race", "rival found")])
def test_keeping_a_point_says_how_sure_that_is(
    lhp: Lhp, service: StubService, mode: str, said: str
) -> None:
    stays = {"lhp": [1197, 317], "grow_by": [0, 0], "is_lhp": True, "verdict": "slower"}
    service.reply("GET /lhp", ANSWER.model_copy(update=stays))
    header = HEADER.model_copy(update={"mode": mode})
    service.reply("GET /curves", CurvePage(items=[header], next_cursor=None))
    assert said in lhp("query", "1197,317").out


@pytest.mark.parametrize(
    "reply", [Reply("<h1>Bad gateway</h1>", 502), Reply("<h1>Hello</h1>"), Reply(RACE)]
)
def test_an_answer_of_something_else_is_no_traceback(
    lhp: Lhp, service: StubService, reply: Reply
) -> None:
    service.reply("GET /lhp", reply)
    done = lhp("query", "1197,317")
    assert done.code == 1
    assert "is this an LHP service" in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["1197,x"],
        [""],
        ["-5"],
        ["--json", "--", "-1,5"],
        ["5,5", "--param", "nonsense"],
        ["5,5", "--batch", "8", "--param", "batch=16"],
        ["5,5", "--param", "prefer=largest"],
        ["5,5", "--param", "wait=9"],
        ["5,5", "--no-such-option"],
        ["5,5", "--url", "nowhere"],
        ["5,5", "--url", "ftp://anvil"],
        ["5,5", "--url", "http://anvil:port"],
        [],
    ],
)
def test_what_cant_be_meant_is_refused_before_anything_is_sent(
    lhp: Lhp, service: StubService, arguments: list[str]
) -> None:
    done = lhp("query", *arguments)
    assert done.code == 2
    assert bool(done.out) == ("--json" in arguments)  # the error
    assert done.err
    assert service.requests == []


@pytest.mark.parametrize(
    ("environment", "arguments", "code", "told"),
    [
        ({"ALL_PROXY": "socks5://proxy:1"}, ["--url", "http://far:1"], 1, "ALL_PROXY"),
        ({"HTTP_PROXY": "::::"}, ["--url", "http://far:1"], 1, "HTTP_PROXY"),
        ({"SSL_CERT_FILE": "/nowhere"}, ["--url", "https://far:1"], 1, "SSL_CERT_FILE"),
        ({}, ["--url", "http://a..b"], 2, "label empty"),
        ({}, ["--url", "http://\udcff"], 2, "http://HOST:PORT"),
        ({}, ["--workload", "\udcff"], 2, "UTF-8"),
    ],
)
def test_what_the_environment_or_a_terminal_spoils_is_told(
    lhp: Lhp,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    arguments: list[str],
    code: int,
    told: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done = lhp("query", "5,5", *arguments)
    assert (done.code, done.out) == (code, "")
    assert told in done.err


def test_this_machine_is_asked_without_a_proxy(
    lhp: Lhp, service: StubService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    service.reply("GET /lhp", ANSWER)
    assert lhp("query", "1197,317").code == 0


def test_no_service_says_how_to_start_one(lhp: Lhp) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = lhp("query", "5,5", "--url", f"http://127.0.0.1:{port}")
    assert done.code == 1
    assert f"error: no service at http://127.0.0.1:{port}" in done.err
    assert "lhp serve`" in done.err


def test_the_service_is_looked_for_where_serve_would_listen(
    lhp: Lhp, service: StubService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LHP_URL")
    monkeypatch.setenv("LHP_PORT", str(service.port))
    service.reply("GET /lhp", ANSWER)
    assert lhp("query", "1197,317").code == 0


def test_a_setting_that_cant_be_read_is_named(lhp: Lhp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LHP_PORT", "eight")
    done = lhp("query", "5,5")
    assert done.code == 2
    assert done.err.startswith("error: LHP_PORT='eight'")
