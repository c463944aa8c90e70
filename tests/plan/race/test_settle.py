"""The final: its looks, its statements, and what differs between processes and arenas."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from profiler_service.analysis.comparison import F64
from profiler_service.analysis.samples import Samples
from profiler_service.plan.race.settings import RACE
from profiler_service.plan.race.settle import (
    Final,
    Repeatability,
    _find_arena_variance,
    choose_margin,
    expect_repeatability,
    plan_looks,
)

SETTLE = RACE.settle
SAME = Repeatability(children=0.0, arenas=0.0)
EXACT = replace(SETTLE, tau=0.0)
"""For devices whose processes and arenas are alike."""


def final_of(
    finalists: int,
    *,
    margin: float = 0.01,
    repeatability: Repeatability = SAME,
    error: float = 0.025,
) -> Final:
    """Points 1, 2, … against point 0."""
    return Final(
        EXACT,
        asked=0,
        finalists=[*range(1, finalists + 1)],
        margin=margin,
        repeatability=repeatability,
        error=error,
    )


def rounds_of(
    truth: F64,
    field: list[int],
    rng: np.random.Generator,
    *,
    count: int,
    child: int = 0,
    noise: float = 0.02,
) -> Samples:
    """One batch of rounds of the field, with log latencies `truth` [points]."""
    point = np.concatenate([rng.permutation(field) for _ in range(count)]).astype(np.int32)
    n = len(point)
    return Samples(
        point=point,
        round=np.repeat(np.arange(count), len(field)).astype(np.int32),
        time_s=np.linspace(0, 1, n, endpoint=False).astype(np.float32),
        latency_s=1e-3 * np.exp(truth[point] + noise * rng.standard_normal(n)),
        calls=1,
        unstable=np.zeros(n, dtype=bool),
        failures={},
        seconds=1.0,
        child=child,
    )


@pytest.mark.parametrize("affordable", [12, 100, 500, 5000, 10**6])
def test_each_look_comes_after_twice_the_rounds_and_may_err_twice_as_often(affordable: int) -> None:
    looks = plan_looks(SETTLE, affordable)
    rounds, shares = [*looks], [*looks.values()]
    assert sum(shares) == pytest.approx(1)
    assert SETTLE.first_look <= rounds[0] and rounds[-1] <= affordable
    assert len(rounds) <= SETTLE.looks
    for before, after in itertools.pairwise(shares):
        assert after == pytest.approx(2 * before)
    for earlier, later in itertools.pairwise(rounds):
        assert later / earlier == pytest.approx(2, rel=0.1)


def test_without_time_for_the_first_look_there_is_none() -> None:
    assert dict(plan_looks(SETTLE, SETTLE.first_look - 1)) == {}


def test_what_is_expected_of_processes_is_learned_or_a_setting() -> None:
    plain = expect_repeatability(SETTLE, tau=None, is_compiled=False)
    assert (plain.children, plain.arenas) == (0.004, 0.004)
    learned = expect_repeatability(SETTLE, tau=0.01, is_compiled=False)
    assert (learned.children, learned.arenas) == (0.01, 0.004)
    quiet = expect_repeatability(SETTLE, tau=0.001, is_compiled=False)
    assert quiet.children == 0.001
    compiled = expect_repeatability(SETTLE, tau=0.001, is_compiled=True)
    assert (compiled.children, compiled.arenas) == (0.0125, 0.0125)


def test_the_margin_is_what_two_processes_resolve_or_what_was_asked() -> None:
    """1.96 · √(0.8² / 2 + 0.8² / 8) % = 1.96 · 0.6325 % = 1.240 %, and 1.5 times as much."""
    restless = Repeatability(children=0.008, arenas=0.008)
    assert restless.half_width(2, 8) == pytest.approx(0.012396, rel=1e-3)
    assert choose_margin(SETTLE, restless, None) == pytest.approx(
        1.5 * (1 - np.exp(-0.012396)), rel=1e-3
    )
    assert choose_margin(SETTLE, restless, 0.002) == 0.002
    # Half as much, 0.93 %, is less than the least margin.
    plain = Repeatability(children=0.004, arenas=0.004)
    assert choose_margin(SETTLE, plain, None) == SETTLE.least_margin == 0.01


def test_a_clear_step_is_the_answer_and_others_leave_the_field() -> None:
    final, rng = final_of(3), np.random.default_rng(0)
    truth = np.array([0.0, -0.05, 0.0, 0.05])
    final.add(rounds_of(truth, final.field, rng, count=200), 200)
    judgement = final.judge(1.0)
    assert judgement is not None
    assert (judgement.answer, judgement.best) == (1, 1)
    assert judgement.is_decided and judgement.margin == 0.0
    verdicts = {point: each.verdict for point, each in judgement.comparisons.items()}
    assert verdicts[1] == "faster" and verdicts[3] == "slower"
    assert final.field == [0, 1]


def test_a_finalist_that_fails_is_never_an_answer() -> None:
    final, rng = final_of(2), np.random.default_rng(0)
    truth = np.array([0.0, -0.3, -0.05])
    final.add(rounds_of(truth, final.field, rng, count=100), 100)
    before = final.judge(0.5)
    assert before is not None and before.answer == 1
    final.drop(1)
    assert final.field == [0, 2] or final.field == [0]
    after = final.judge(0.5)
    assert after is not None
    assert after.answer == 2
    assert 1 not in after.comparisons


def test_a_final_without_a_common_round_says_nothing() -> None:
    final, rng = final_of(1), np.random.default_rng(0)
    assert final.judge(1.0) is None
    final.add(rounds_of(np.zeros(2), [0], rng, count=20), 20)
    assert final.judge(1.0) is None


def test_all_statements_of_a_final_hold_at_once() -> None:
    """400 finals of 4 points that are as fast as the queried one, with two looks each.

    The error of all statements is 2.5 %: 10 of 400 finals ± 3.1. Three deviations more are 19.
    """
    looks = {32: 1 / 3, 64: 2 / 3}
    wrong = 0
    for seed in range(400):
        rng, final, is_wrong = np.random.default_rng(seed), final_of(4, margin=1e-6), False
        for rounds, share in looks.items():
            missing = rounds - final.num_rounds
            final.add(rounds_of(np.zeros(5), [*range(5)], rng, count=missing), missing)
            judgement = final.judge(share)
            assert judgement is not None
            is_wrong |= any(each.verdict == "faster" for each in judgement.comparisons.values())
        wrong += is_wrong
    assert wrong <= 19


def test_processes_that_disagree_make_no_claim_closer_than_they_allow() -> None:
    """Children disagree by 1 %: 0.5 % faster in one, 0.5 % slower in the other.

    Noise is nearly none. Expected is τ = 0.4 % for both: with 2 children and 8 arenas half the
    interval is 0.62 % at least, and 1.41 % if the host has learned that τ is 1 %.
    """
    for tau, least in ((0.004, 0.0062), (0.01, 0.0141)):
        repeatability = expect_repeatability(SETTLE, tau=tau, is_compiled=False)
        final = Final(
            SETTLE,
            asked=0,
            finalists=[1],
            margin=0.005,
            repeatability=repeatability,
            error=0.025,
        )
        rng = np.random.default_rng(1)
        for arena in range(8):
            child = arena % 2
            truth = np.array([0.0, 0.005 if child else -0.005])
            samples = rounds_of(truth, [0, 1], rng, count=12, child=child, noise=1e-4)
            final.add(samples, 12)
        judgement = final.judge(1.0)
        assert judgement is not None
        pair = judgement.comparisons[1]
        assert pair.verdict == "ambiguous"
        # Arenas of one child agree here, which is seen: what they add shrinks.
        between_children = 1.96 * tau / math.sqrt(2)
        assert math.log(pair.high / pair.ratio) >= between_children
        assert math.log(pair.high / pair.ratio) >= 0.85 * least
        assert judgement.margin > 0.005 and not judgement.is_decided


def arenas_of(
    rng: np.random.Generator, *, between: float, rounds: int = 24
) -> tuple[F64, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """8 arenas of each of two children that differ by 0.5 %; rounds have noise of 1 %."""
    arena = np.repeat(np.arange(16), rounds)
    child = arena % 2
    ratios = between * rng.standard_normal(16)[arena] + 0.01 * rng.standard_normal(len(arena))
    return ratios + 0.005 * child, arena, child


@pytest.mark.parametrize("between", [0.0, 0.005, 0.01])
def test_the_variance_between_arenas_is_found(between: float) -> None:
    """200 finals: the mean of their estimates is the variance put in, within a fifth of the noise.

    An arena's median of 24 rounds has the variance (1.25 · 1 %)² / 24 = 6.5e-6.
    """
    rng = np.random.default_rng(5)
    found = [_find_arena_variance(*arenas_of(rng, between=between)) for _ in range(200)]
    assert {free for _, free in found} == {14}
    mean = float(np.mean([variance for variance, _ in found]))
    assert mean == pytest.approx(between**2, abs=2.5e-6 + 0.12 * between**2)


def test_one_arena_of_each_child_shows_no_variance() -> None:
    arena = np.repeat([0, 1], 20)
    ratios = np.random.default_rng(0).standard_normal(40)
    assert _find_arena_variance(ratios, arena, arena) == (0.0, 0)
