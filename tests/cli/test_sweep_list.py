"""`lhp sweeps`: the sweeps of a service, and one of them."""

from __future__ import annotations

import json

from profiler_service.wire import ProgressInfo, SweepInfo, SweepPage
from tests.cli.conftest import Lhp
from tests.cli.stub import DONE, MATMUL, StubService, make_sweep

RUNNING = make_sweep(
    id="s2",
    state="running",
    progress=ProgressInfo(fraction=0.42, stage="round 3 of 9", num_samples=1200, seconds=3.5),
    ahead=0,
    expected_wait_s=0,
    expected_s=5,
)
QUEUED = make_sweep(
    id="s3", state="queued", progress=None, ahead=2, expected_wait_s=12.4, expected_s=3
)
PAGE = SweepPage(items=[QUEUED, RUNNING, DONE], next_cursor="abc")


def test_sweeps_are_a_table(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /sweeps", PAGE)
    done = lhp("sweeps")
    assert done.code == 0
    heading, queued, running, ended = done.out.splitlines()
    assert heading.split() == [
        *("ID", "STATE", "DONE", "AHEAD", "MODE", "WORKLOAD", "RANGES", "HOST", "AGE"),
    ]
    common = ["grid", MATMUL, "256:261", "anvil"]
    assert queued.split()[:8] == ["s3", "queued", "–", "2", *common]
    assert running.split()[:8] == ["s2", "running", "42%", "0", *common]
    assert ended.split()[:3] == ["s1", "done", "25%"] and ended.endswith("ago")
    assert "more: add --cursor abc" in done.err


def test_options_are_filters(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /sweeps", PAGE)
    options = "--state queued --mode race --host anvil --limit 3 --cursor zz"
    lhp("sweeps", *options.split())
    [(query, _)] = service.sent("GET /sweeps")
    assert query == {
        "state": "queued",
        "mode": "race",
        "host": "anvil",
        "limit": "3",
        "cursor": "zz",
    }


def test_one_sweep_says_how_far_it_is(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /sweeps/s2", RUNNING)
    lines = lhp("sweeps", "s2").out.splitlines()
    assert lines[0] == f"sweep s2: grid of {MATMUL}, 256:261, on anvil"
    assert lines[1].startswith("running · asked for ")
    assert lines[2:] == [
        "42% done, round 3 of 9: 1,200 samples in 3.50 s",
        "nothing is ahead of it; itself about 5 s",
    ]


def test_a_sweep_that_waits_says_what_is_ahead(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /sweeps/s3", QUEUED)
    assert "behind 2 sweeps, about 12 s; itself about 3 s\n" in lhp("sweeps", "s3").out


def test_a_sweep_that_has_ended_names_its_curve_or_its_error(
    lhp: Lhp, service: StubService
) -> None:
    service.reply("GET /sweeps/s1", DONE)
    text = lhp("sweeps", "s1").out
    assert "curve c7: `lhp curves c7` shows it" in text and "ahead" not in text
    service.reply("GET /sweeps/s4", make_sweep(id="s4", state="failed", error="no memory"))
    assert "\nfailed: no memory · asked for " in lhp("sweeps", "s4").out
    paused = RUNNING.model_copy(update={"error": "others use the device", "cancel_requested": True})
    service.reply("GET /sweeps/s2", paused)
    text = lhp("sweeps", "s2").out
    assert "\npaused: others use the device · asked for " in text
    assert "it was asked to stop" in text


def test_json_is_the_page_or_the_sweep(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /sweeps", PAGE)
    assert SweepPage.model_validate(json.loads(lhp("sweeps", "--json").out)) == PAGE
    service.reply("GET /sweeps/s2", RUNNING)
    assert SweepInfo.model_validate(json.loads(lhp("sweeps", "s2", "--json").out)) == RUNNING


def test_without_sweeps_the_reason_is_said(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /sweeps", SweepPage(items=[], next_cursor=None))
    assert lhp("sweeps").err == "no sweeps yet\n"
    assert "sweeps` lists them all" in lhp("sweeps", "--state", "failed").err


def test_an_unknown_sweep_is_an_error(lhp: Lhp) -> None:
    done = lhp("sweeps", "s9")
    assert (done.code, done.out) == (1, "")
    assert "there is no /sweeps/s9" in done.err
