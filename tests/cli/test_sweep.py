from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable

import pytest

from profiler_service.wire import CurvePage, SweepInfo
from tests.cli.conftest import Lhp
from tests.cli.stub import CURVE, DONE, Events, Reply, StubService, make_sweep

Start = Callable[..., "subprocess.Popen[str]"]
NEW = Reply(make_sweep(state="queued", started_at=None, progress=None), 201)
RUNNING = make_sweep()


def test_a_sweep_is_followed_and_its_curve_summed_up(lhp: Lhp, service: StubService) -> None:
    service.reply("POST /sweeps", NEW)
    service.reply("GET /sweeps/s1/events", Events(("progress", RUNNING), ("end", DONE)))
    options = ("--batch", "8", "--param", "dtype=bfloat16", "--budget", "60")
    done = lhp("sweep", "matmul", "256:261", *options)
    assert done.code == 0
    assert "curve c7" in done.out
    assert "5 of 6 points measured, 1 failed, 2 LHPs, 20.0 % undecided" in done.out
    assert "redundancy 40.0 to 60.0 %" in done.out
    assert "lhp plot c7" in done.out
    # Its points, which may be many, aren't fetched for this.
    assert service.sent("GET /curves/c7") == []
    [(_, body)] = service.sent("POST /sweeps")
    assert json.loads(body) == {
        "workload": "matmul",
        "params": {"dtype": "bfloat16", "batch": 8},
        "axes": [{"first": 256, "last": 261, "step": 1}],
        "mode": "grid",
        "host": None,
        "budget": 60,
    }


def test_a_curve_that_isnt_among_the_newest_is_summed_up_too(
    lhp: Lhp, service: StubService
) -> None:
    service.reply("POST /sweeps", NEW)
    service.reply("GET /sweeps/s1/events", Events(("end", DONE)))
    service.reply("GET /curves", CurvePage(items=[], next_cursor=None))
    assert "5 of 6 points measured" in lhp("sweep", "matmul", "256:261").out


def test_json_is_the_sweep_and_nothing_else(lhp: Lhp, service: StubService) -> None:
    service.reply("POST /sweeps", NEW)
    service.reply("GET /sweeps/s1/events", Events(("progress", RUNNING), ("end", DONE)))
    done = lhp("sweep", "matmul", "256:261", "--json")
    assert done.code == 0
    assert SweepInfo.model_validate(json.loads(done.out)) == DONE


def test_detached_it_returns_at_once(lhp: Lhp, service: StubService) -> None:
    service.reply("POST /sweeps", NEW)
    done = lhp("sweep", "linear", "1100:1300:4", "300:340", "--host", "anvil", "--detach")
    assert done.code == 0
    assert "sweep s1 is queued on anvil" in done.out
    assert "lhp cancel s1` stops it" in done.err
    assert service.sent("GET /sweeps/s1") == []
    [(_, body)] = service.sent("POST /sweeps")
    assert json.loads(body)["host"] == "anvil"
    assert [axis["step"] for axis in json.loads(body)["axes"]] == [4, 1]


def test_a_failed_sweep_says_why(lhp: Lhp, service: StubService) -> None:
    service.reply("POST /sweeps", NEW)
    service.reply(
        "GET /sweeps/s1/events",
        Events(("end", make_sweep(state="failed", error="the GPU is gone"))),
    )
    done = lhp("sweep", "matmul", "256:261")
    assert done.code == 1
    assert "error: sweep s1 failed: the GPU is gone" in done.err
    assert done.out == ""


def test_a_sweep_that_someone_else_cancels_is_no_success(lhp: Lhp, service: StubService) -> None:
    service.reply("POST /sweeps", NEW)
    service.reply(
        "GET /sweeps/s1/events", Events(("end", make_sweep(state="cancelled", curve="c7")))
    )
    done = lhp("sweep", "matmul", "256:261")
    assert done.code == 1
    assert "cancelled: its measured points are kept" in done.err
    assert "lhp plot c7" in done.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["matmul"],
        ["matmul", "5:1"],
        ["matmul", "-1:5"],
        ["matmul", "x"],
        ["matmul", *["1:2"] * 17],
        [],
    ],
)
def test_what_cant_be_meant_is_refused_before_anything_is_sent(
    lhp: Lhp, service: StubService, arguments: list[str]
) -> None:
    done = lhp("sweep", *arguments)
    assert done.code == 2
    assert done.err
    assert service.requests == []


def test_ctrl_c_cancels_and_tells_what_was_kept(start_lhp: Start, service: StubService) -> None:
    service.reply("POST /sweeps", NEW)
    service.reply("GET /sweeps/s1", RUNNING)
    stopping = make_sweep(cancel_requested=True)
    service.reply("POST /sweeps/s1/cancel", stopping)
    process = start_lhp("sweep", "matmul", "256:261", LHP_URL=service.url)
    service.wait_for("GET /sweeps/s1")
    process.send_signal(signal.SIGINT)
    service.wait_for("POST /sweeps/s1/cancel")
    service.reply("GET /sweeps/s1", make_sweep(state="cancelled", curve="c7"))
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "sweep s1 was cancelled: its measured points are kept" in err
    assert "20.0 % undecided" in out
    assert "lhp plot c7" in out
    assert "Traceback" not in err
    assert "\x1b" not in out + err


def test_ctrl_c_leaves_a_sweep_that_was_only_joined(start_lhp: Start, service: StubService) -> None:
    service.reply("POST /sweeps", RUNNING)
    service.reply("GET /sweeps/s1", RUNNING)
    process = start_lhp("sweep", "matmul", "256:261", LHP_URL=service.url)
    service.wait_for("GET /sweeps/s1")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "joining sweep s1" in err
    assert "goes on" in err
    assert "Traceback" not in err
    assert service.sent("POST /sweeps/s1/cancel") == []


def test_a_second_ctrl_c_leaves_at_once(start_lhp: Start, service: StubService) -> None:
    service.reply("POST /sweeps", NEW)
    service.reply("GET /sweeps/s1", RUNNING)
    service.reply("POST /sweeps/s1/cancel", make_sweep(cancel_requested=True))
    process = start_lhp("sweep", "matmul", "256:261", LHP_URL=service.url)
    service.wait_for("GET /sweeps/s1")
    process.send_signal(signal.SIGINT)
    service.wait_for("POST /sweeps/s1/cancel")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_ctrl_c_during_a_query_leaves_the_sweep_going(
    start_lhp: Start, service: StubService
) -> None:
    service.reply("GET /lhp", Reply.accepted(make_sweep(mode="race")))
    service.reply("GET /sweeps/s1", make_sweep(mode="race"))
    process = start_lhp("query", "1197,317", LHP_URL=service.url)
    service.wait_for("GET /sweeps/s1")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert "the sweep goes on" in err
    assert "lhp cancel s1` stops it" in err
    assert "Traceback" not in err
    assert service.sent("POST /sweeps/s1/cancel") == []


@pytest.mark.parametrize(
    ("reply", "code", "said"),
    [
        (make_sweep(state="cancelled"), 0, "sweep s1 is cancelled"),
        (make_sweep(cancel_requested=True), 0, "sweep s1 ends after its current batch"),
        (
            Reply.problem(409, "sweep s1 has already ended: done", "nothing is left to cancel"),
            1,
            "error: sweep s1 has already ended: done",
        ),
        (Reply.problem(404, "there is no sweep 's1'", "see /docs"), 1, "error: there is no sweep"),
    ],
)
def test_a_sweep_can_be_cancelled_by_its_id(
    lhp: Lhp, service: StubService, reply: Reply | SweepInfo, code: int, said: str
) -> None:
    service.reply("POST /sweeps/s1/cancel", reply)
    done = lhp("cancel", "s1")
    assert done.code == code
    assert said in done.out + done.err


def test_cancelling_prints_the_sweep_as_json(lhp: Lhp, service: StubService) -> None:
    service.reply("POST /sweeps/s1/cancel", make_sweep(cancel_requested=True))
    done = lhp("cancel", "s1", "--json")
    assert SweepInfo.model_validate(json.loads(done.out)).cancel_requested


def test_a_service_that_restarts_meanwhile_is_waited_for(
    start_lhp: Start, service: StubService
) -> None:
    service.reply("POST /sweeps", NEW)
    service.reply("GET /sweeps/s1", RUNNING)
    process = start_lhp("sweep", "matmul", "256:261", LHP_URL=service.url)
    service.wait_for("GET /sweeps/s1")
    service.stop()
    service.reply("GET /sweeps/s1", DONE)
    service.start()
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert f"curve {CURVE.id}" in out
