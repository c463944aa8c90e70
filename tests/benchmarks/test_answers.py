"""The referee's arithmetic and its verdicts."""

from __future__ import annotations

import gc
import math
import os

import pytest

from benchmarks.answers import measuring
from benchmarks.answers.machine import RefereeError, measuring_conditions
from benchmarks.answers.measuring import (
    ROUNDS_PER_BLOCK,
    Dims,
    Measurement,
    Ratio,
    draw_queries,
    median_interval,
    round_up,
)
from benchmarks.answers.service import Failure, Reply
from benchmarks.answers.verdicts import FRESH_QUERY, Trial, judge, mean_speeds, speed_difference


def test_the_median_interval_is_the_sign_tests() -> None:
    # n = 10: P(Bin < 2) = 11/1024 = 1.07 % <= 2.5 %, P(Bin < 3) = 56/1024 = 5.5 %: so the
    # 2nd smallest and the 2nd largest.
    assert median_interval([9, 1, 8, 2, 7, 3, 6, 4, 5, 10]) == (2, 9)
    # n = 6: P(Bin < 1) = 1/64 = 1.6 %, P(Bin < 2) = 7/64: the extremes.
    assert median_interval([3, 1, 2, 6, 5, 4]) == (1, 6)


def test_five_values_give_no_interval() -> None:
    # P(Bin(5) < 1) = 1/32 = 3.1 % > 2.5 %: even the extremes promise too little.
    assert median_interval([1, 2, 3, 4, 5]) == (-math.inf, math.inf)
    assert median_interval([]) == (-math.inf, math.inf)


def test_rounding_up_leaves_multiples_alone() -> None:
    assert round_up((1197, 317), 8) == (1200, 320)
    assert round_up((1200, 320), 8) == (1200, 320)


def test_equal_seeds_draw_equal_queries_in_range() -> None:
    drawn = draw_queries(200, seed=5)
    assert drawn == draw_queries(200, seed=5) != draw_queries(200, seed=6)
    assert all(100 <= dim <= 1300 for dims in drawn for dim in dims)


def measure(candidates: dict[str, Dims], dims: Dims = (64, 64)) -> Measurement:
    return measuring.measure(
        dims, candidates, watch=["control"], max_seconds=0.2, seed=1, threads=1, cpus=1
    )


def test_a_product_64_times_as_large_is_seen_to_be_slower() -> None:
    affinity = os.sched_getaffinity(0)
    found = measure({"answer": (512, 512), "control": (64, 64)})
    # 64 times the operations; a call at 64 × 64 is mostly fixed cost, so far less than 64.
    assert found.ratios["answer"].low > 3
    assert found.num_rounds == len(found.blocks["answer"]) * ROUNDS_PER_BLOCK
    assert 0 < found.latency_s < 0.01
    # Nothing of the measuring conditions stays behind.
    assert os.sched_getaffinity(0) == affinity
    assert gc.isenabled()


def test_equal_points_share_a_measurement_but_the_control_is_a_copy() -> None:
    found = measure({"answer": (72, 64), "up8": (72, 64), "up4": (64, 64), "control": (64, 64)})
    assert found.blocks["answer"] == found.blocks["up8"]
    assert set(found.blocks["up4"]) == {0.0}
    assert set(found.blocks["control"]) != {0.0}


def test_more_processors_than_there_are_is_refused() -> None:
    with (
        pytest.raises(RefereeError, match="processors"),
        measuring_conditions(threads=1, cpus=10_000),
    ):
        pass


def trial(*, answer: float, rules: float = 1.0, control: float = 1.0, random: bool = True) -> Trial:
    """A trial with these latencies over the queried point's."""
    estimates = {"answer": answer, "control": control}
    estimates |= {f"up{rule}": rules for rule in (4, 8, 16, 32, 64)}
    return Trial(
        dims=(100, 100),
        answer=(101, 101),
        measurement=Measurement(
            ratios={
                name: Ratio(dims=(101, 101), estimate=x, low=x * 0.99, high=x * 1.01)
                for name, x in estimates.items()
            },
            latency_s=1e-4,
            blocks={},
            num_rounds=100,
            seconds=1.0,
        ),
        reply=None,
        random=random,
    )


def reply(*, wall_s: float, cold: bool = True) -> Reply:
    return Reply(
        dims=FRESH_QUERY,
        wall_s=wall_s,
        cold=cold,
        answer=(1200, 320),
        claimed_speedup=1.1,
        claimed_interval=(1.05, 1.15),
        platform="p",
        body={},
    )


def verdicts(
    trials: list[Trial],
    failures: list[Failure] | None = None,
    fresh: Reply | Failure | None = None,
) -> dict[str, bool | None]:
    """Whether each goal is met, by the first word of its name."""
    goals = judge(trials, failures or [], fresh=fresh, seed=1)
    return {goal.name.split()[0].rstrip(":"): goal.met for goal in goals}


def test_all_goals_are_met_by_faster_answers() -> None:
    assert verdicts([trial(answer=0.9), trial(answer=1.0)], fresh=reply(wall_s=14)) == {
        "cold": True,
        "slowest": True,
        "mean": True,
        "control": True,
    }


def test_one_answer_more_than_a_percent_slower_misses() -> None:
    assert verdicts([trial(answer=0.9), trial(answer=1.009)])["slowest"] is True
    assert verdicts([trial(answer=0.9), trial(answer=1.011)])["slowest"] is False
    # The fixed query counts here too.
    fixed = trial(answer=1.011, random=False)
    assert verdicts([trial(answer=0.9), fixed])["slowest"] is False


def test_the_mean_speed_is_compared_with_the_best_rule_over_random_queries() -> None:
    # Speeds 1/0.8 = 1.25 and 1: mean 1.125 against 1/0.9 = 1.111 of every rule.
    good = [trial(answer=0.8, rules=0.9), trial(answer=1.0, rules=0.9)]
    assert verdicts(good)["mean"] is True
    assert mean_speeds(good)["answer"] == pytest.approx(1.125)
    # 1/0.9 against 1/0.89.
    bad = [trial(answer=0.9, rules=0.89)]
    assert verdicts(bad)["mean"] is False
    # A fixed query, however fast, doesn't help.
    assert verdicts([*bad, trial(answer=0.1, random=False)])["mean"] is False


def test_multiples_of_64_are_no_part_of_the_goal() -> None:
    one = trial(answer=0.9, rules=0.95)
    ratio = Ratio(dims=(128, 128), estimate=0.5, low=0.5, high=0.5)
    measurement = Measurement(
        ratios={**one.measurement.ratios, "up64": ratio},
        latency_s=1e-4,
        blocks={},
        num_rounds=1,
        seconds=1.0,
    )
    changed = Trial(dims=one.dims, answer=one.answer, measurement=measurement, reply=None)
    assert verdicts([changed])["mean"] is True


def test_the_bootstrap_interval_of_equal_differences_is_that_difference() -> None:
    # 1/0.8 - 1 = 0.25 for every query: resampling changes nothing.
    found = speed_difference([trial(answer=0.8)] * 5, "up8", seed=1)
    assert found == pytest.approx((0.25, 0.25, 0.25))


def test_a_referee_that_errs_by_more_than_a_percent_cannot_judge() -> None:
    assert verdicts([trial(answer=0.9, control=1.009)])["control"] is True
    assert verdicts([trial(answer=0.9, control=0.985)])["control"] is False


def test_a_slow_warm_or_missing_first_answer_misses() -> None:
    good = [trial(answer=0.9)]
    assert verdicts(good, fresh=reply(wall_s=15.5))["cold"] is False
    assert verdicts(good, fresh=reply(wall_s=1, cold=False))["cold"] is False
    failed = Failure(dims=FRESH_QUERY, wall_s=1, reason="status 503")
    assert verdicts(good, [failed], failed) == {
        "cold": False,
        "queries": False,
        "slowest": True,
        "mean": True,
        "control": True,
    }
    assert verdicts(good, fresh=None)["cold"] is None
