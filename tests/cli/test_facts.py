"""`lhp facts`: a table of what races confirmed."""

from __future__ import annotations

import json

from profiler_service.wire import FactInfo, FactPage, RepeatabilityInfo
from tests.cli.conftest import Lhp
from tests.cli.stub import NOW, StubService

FACT = FactInfo(
    id="f1",
    dims=[1197, 317],
    rival=[1200, 320],
    verdict="faster",
    ratio=0.967,
    ratio_interval=(0.96, 0.974),
    num_pairs=400,
    num_children=2,
    num_arenas=4,
    measured_at=NOW,
    workload="linear[batch=16]",
    axis_names=["out_features", "in_features"],
    platform="f00d",
    protocol="perf_counter-warm-v1",
    host="anvil",
    sweep="s1",
    curve="c7",
    stale=False,
)
TAU = RepeatabilityInfo(
    workload="linear",
    platform="f00d",
    protocol="perf_counter-warm-v1",
    tau=0.0041,
    num_repeats=12,
    tau_between_arenas=0.0035,
)
PAGE = FactPage(items=[FACT], next_cursor="abc", repeatability=[TAU])


def test_facts_are_a_table(lhp: Lhp, service: StubService) -> None:
    overruled = FACT.model_copy(update={"overruled_by": "f2"})
    service.reply("GET /facts", PAGE.model_copy(update={"items": [FACT, overruled]}))
    done = lhp("facts")
    assert done.code == 0
    heading, first, second = done.out.splitlines()
    assert heading.split()[:4] == ["ID", "DIMS", "LARGER", "VERDICT"]
    assert first.split()[:5] == ["f1", "1197,317", "1200,320", "faster", "0.9670"]
    assert "0.9600 to 0.9740" in first and "overruled" not in first
    assert second.endswith("ago, overruled")
    assert "linear on platform f00d: the same ratio differs by 0.41 % between processes" in done.err
    assert "12 repeated pairs), by 0.35 % between arenas" in done.err
    assert "more: add --cursor abc" in done.err


def test_options_are_filters(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /facts", PAGE)
    options = "--workload linear --batch 8 --dims 1197,317 --verdict faster --since 2026-03-01"
    more = "--host anvil --platform f00d --limit 3 --cursor zz"
    lhp("facts", *options.split(), *more.split())
    [(query, _)] = service.sent("GET /facts")
    assert query == {
        "workload": "linear",
        "batch": "8",
        "dims": "1197,317",
        "verdict": "faster",
        "since": "2026-03-01",
        "host": "anvil",
        "platform": "f00d",
        "limit": "3",
        "cursor": "zz",
    }


def test_json_is_the_page(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /facts", PAGE)
    assert FactPage.model_validate(json.loads(lhp("facts", "--json").out)) == PAGE


def test_without_facts_the_reason_is_said(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /facts", FactPage(items=[], next_cursor=None))
    assert lhp("facts").err == "no facts yet\n"
    assert "facts` lists them all" in lhp("facts", "--host", "anvil").err
