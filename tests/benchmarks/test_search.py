"""The race's referee: its arithmetic and its verdicts."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from benchmarks.answers.measuring import Dims, Measurement, ratio_of_blocks
from benchmarks.answers.verdicts import Goal
from benchmarks.contender import Race
from benchmarks.race_verdict import ALL_RULES, find_regret, window
from benchmarks.search.referee import (
    FINALISTS,
    Pool,
    Verdict,
    find_fastest,
    find_rivals,
    name_candidates,
    time_round,
)
from benchmarks.search.report import build_report, table
from benchmarks.search.verdicts import count_alike, judge

QUERY, ANSWER = (100, 200), (104, 208)


def race(answer: Dims = ANSWER, measuring_s: float = 1.0) -> Race:
    return Race(
        answer=answer,
        wall_s=1.5,
        measuring_s=measuring_s,
        num_calls=3000,
        num_discarded=7,
        claimed=(0.9, 0.89, 0.91),
        leaders=(answer,),
        stages=(),
    )


def measurement(
    logs: Mapping[str, float | Sequence[float]], dims: Mapping[str, Dims] | None = None
) -> Measurement:
    """A measurement whose blocks hold these log ratios to the queried point."""
    blocks = {
        name: [float(log)] * 12 if isinstance(log, int | float) else list(log)
        for name, log in logs.items()
    }
    named = {"answer": ANSWER} | dict(dims or {})
    return Measurement(
        ratios={
            name: ratio_of_blocks(named.get(name, QUERY), block) for name, block in blocks.items()
        },
        latency_s=1e-4,
        blocks=blocks,
        num_rounds=60,
        seconds=1.0,
    )


def verdict(
    *, races: Sequence[Race] = (race(),), each_once_s: float = 4.0, **logs: float
) -> Verdict:
    """A query whose answer is 10 % faster than it, and whose rules all change nothing."""
    rules = {f"up{rule}": 0.0 for rule in ALL_RULES}
    found = {"answer": np.log(0.9), "control": 0.0, **rules, **logs}
    return Verdict(
        dims=QUERY,
        races=tuple(races),
        each_once_s=each_once_s,
        autorange_s=1000.0,
        measurement=measurement(found),
    )


# --- The referee ----------------------------------------------------------------------------


def test_the_window_starts_at_the_query_and_has_side_points_on_each_axis() -> None:
    assert window((5, 7), 2) == [(5, 7), (5, 8), (6, 7), (6, 8)]


def test_the_fastest_points_are_those_of_smallest_median() -> None:
    points = [(1, 1), (1, 2), (2, 1)]
    # Medians 3, 2, 5: the single 1 of the last point is an outlier.
    times_s = np.array([[3.0, 2, 5], [3, 2, 1], [3, 9, 6]])
    assert find_fastest(points, times_s, 2) == [(1, 2), (1, 1)]


def test_rivals_are_points_of_the_window_and_timing_ranks_them() -> None:
    # 8 × 8 points around 600 × 600, and nothing drawn twice: the 48 best, and all 16 others.
    points = window((600, 600), 8)
    pool = Pool(points[-1], seed=1)
    rivals = find_rivals((600, 600), 8, [(607, 607)], pool, random.Random(1))
    assert len(rivals) == len(set(rivals)) == FINALISTS
    assert set(rivals) <= set(points)
    # 900 times the operations: no noise turns these round.
    extremes = [(600, 600), (20, 20)]
    times_s = np.array([time_round(extremes, pool, random.Random(2), 1) for _ in range(9)])
    assert find_fastest(extremes, times_s, 1) == [(20, 20)]


def test_operands_have_the_layers_shapes_and_change_place() -> None:
    pool = Pool((24, 40), seed=1)
    placed = [pool.place((20, 40)) for _ in range(20)]
    assert {(tuple(x.shape), tuple(w.shape)) for x, w in placed} == {((16, 40), (20, 40))}
    assert len({w.storage_offset() for _, w in placed}) > 1
    assert {w.storage_offset() % 16 for _, w in placed} == {0}


def test_candidates_are_named_and_rounded_up() -> None:
    named = name_candidates(QUERY, [ANSWER, (108, 200)], [(112, 208)])
    assert named == {
        "answer": ANSWER,
        "control": QUERY,
        "rival1": (112, 208),
        "again1": (108, 200),
        # 100 is a multiple of 4, 200 of 8.
        "up4": (100, 200),
        "up8": (104, 200),
        "up16": (112, 208),
        "up32": (128, 224),
        "up64": (128, 256),
    }


# --- Verdicts -------------------------------------------------------------------------------


def test_regret_is_the_answer_over_the_best_of_all_candidates() -> None:
    found = find_regret(
        measurement(
            {"answer": np.log(0.90), "rival1": np.log(0.88), "rival2": np.log(0.89)},
            {"rival1": (112, 208)},
        ),
        QUERY,
    )
    assert found.best == (112, 208)
    # Constant blocks: the interval is the point 0.90 / 0.88.
    assert found.over_best.estimate == pytest.approx(0.90 / 0.88)
    assert (found.over_best.low, found.over_best.high) == pytest.approx((0.90 / 0.88,) * 2)
    assert found.split == pytest.approx(0.90 / 0.88)


def test_an_answer_that_is_the_best_has_no_regret() -> None:
    found = find_regret(measurement({"answer": -0.1, "rival1": 0.0}), QUERY)
    assert (found.best, found.excess, found.split) == (ANSWER, 0.0, 1.0)


def test_the_queried_point_may_be_the_best_and_the_control_may_not() -> None:
    found = find_regret(measurement({"answer": np.log(1.02), "control": -0.5}), QUERY)
    assert found.best == QUERY
    assert found.over_best.estimate == pytest.approx(1.02)


def test_regret_is_paired_within_blocks() -> None:
    # The two move together by far more than they differ: paired, the difference is exact.
    drift = np.linspace(-0.3, 0.3, 12)
    found = find_regret(
        measurement({"answer": list(drift - 0.99), "rival1": list(drift - 1.0)}), QUERY
    )
    assert found.over_best.low == pytest.approx(np.exp(0.01))
    assert found.over_best.high == pytest.approx(np.exp(0.01))


def test_choosing_and_timing_on_different_blocks_flatters_no_rival() -> None:
    # Twelve blocks; on even ones the first rival is 2 % faster, on odd ones 2 % slower, and the
    # second the other way round. Neither is truly faster than the answer.
    even, odd = [-0.02, 0.02] * 6, [0.02, -0.02] * 6
    found = find_regret(measurement({"answer": 0.0, "rival1": even, "rival2": odd}), QUERY)
    # Chosen on the even blocks: rival1, 2 % slower on the odd ones; and the reverse.
    assert found.split == pytest.approx(np.exp(-0.02))


def test_races_agree_in_dims_or_in_latency() -> None:
    raced = [race(), race(), race((108, 200)), race((112, 208))]
    # again1 is the answer itself. again2 is 0.4 % slower than the two, again3 0.7 % slower than
    # them and 0.3 % slower than again2: of 6 pairs, those of again3 with the two disagree.
    base = np.log(0.9)
    found = verdict(races=raced, again1=base, again2=base + 0.004, again3=base + 0.007)
    assert count_alike(found) == (4, 6)


def test_a_query_raced_once_has_no_pairs() -> None:
    assert count_alike(verdict()) == (0, 0)


def goals_of(*verdicts: Verdict) -> list[Goal]:
    return judge(verdicts, seed=1)


def test_good_cheap_and_repeatable_races_meet_every_goal() -> None:
    good = verdict(races=[race(), race()], again1=np.log(0.9), rival1=np.log(0.899))
    # Regret 0.9 / 0.899 - 1 = 0.11 %; 1000 / 1 and 1 / 4.
    assert [goal.met for goal in goals_of(good)] == [True] * 8
    assert "0.11%" in goals_of(good)[0].measured
    assert "median 1000" in goals_of(good)[3].measured
    assert "median 0.25" in goals_of(good)[4].measured


@pytest.mark.parametrize(
    ("bad", "missed"),
    [
        # 0.9 / 0.896: 0.45 %.
        (verdict(rival1=np.log(0.896)), {"regret (latency over the best point's), median"}),
        # 1.006 over the queried point, which is then the best: regret 0.6 % as well.
        (
            verdict(answer=np.log(1.006)),
            {
                "regret (latency over the best point's), median",
                "slowest answer, latency over its queried point's",
                "mean speed of the answers (1: as fast as the queried point)",
            },
        ),
        # 1000 s over 2.5 s: 400 times.
        (
            verdict(races=[race(measuring_s=2.5)]),
            {"`blocked_autorange` on every point, times the measuring time"},
        ),
        (
            verdict(each_once_s=0.9),
            {"measuring time over that of calling each point once, median"},
        ),
        # Rounding up to 16 is 5 % faster than the answer, and the regret shows it.
        (
            verdict(up16=np.log(0.85)),
            {
                "regret (latency over the best point's), median",
                "regret, 95th percentile",
                "mean speed of the answers (1: as fast as the queried point)",
            },
        ),
        (
            verdict(races=[race(), race((108, 200))], again1=np.log(0.91)),
            {"repeated races with equal dims, or latencies within 0.5%"},
        ),
        (verdict(control=0.006), {"control: a second copy of the queried point over the first"}),
    ],
    ids=["regret", "slower", "autorange", "each-once", "rule", "repeat", "control"],
)
def test_a_missed_goal_is_named(bad: Verdict, missed: set[str]) -> None:
    assert {goal.name for goal in goals_of(bad) if goal.met is False} == missed


def test_the_tail_of_the_regret_has_a_goal_of_its_own() -> None:
    # Three of twenty 2 % slower than the best: the median is 0, the 95th percentile 2 %.
    tail = verdict(rival1=np.log(0.9 / 1.02))
    goals = goals_of(*[verdict()] * 17, *[tail] * 3)
    assert [goal.met for goal in goals[:2]] == [True, False]


def test_without_repetitions_repeatability_is_not_judged() -> None:
    (goal,) = [goal for goal in goals_of(verdict()) if goal.name.startswith("repeated")]
    assert goal.met is None


# --- Report ---------------------------------------------------------------------------------


def test_the_report_has_goals_summary_and_a_line_a_query() -> None:
    verdicts = [verdict(), verdict(races=[race(), race()], again1=np.log(0.9))]
    report = build_report(
        header=["# Title", ""], notes=["a note"], goals=goals_of(*verdicts), verdicts=verdicts
    )
    assert report.startswith("# Title\n- a note\n")
    assert report.count("\n| 100,200 |") == 2
    assert "| 1 of 1 |" in report
    # Every line of a table has as many cells as its head.
    lines = table(verdicts)
    assert len({line.count(" | ") for line in (lines[0], *lines[2:])}) == 1
    json.dumps([found.to_json() for found in verdicts])
