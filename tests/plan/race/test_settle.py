"""The final: its looks, its statements, and what differs between processes and arenas."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from profiler_service.analysis.comparison import F64
from profiler_service.analysis.samples import Samples
from profiler_service.plan.race.repeatability import (
    Repeatability,
    choose_margin,
    expect_repeatability,
)
from profiler_service.plan.race.settings import RACE
from profiler_service.plan.race.settle import Final, plan_looks

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
    first: int = 0,
    child: int = 0,
    noise: float = 0.02,
) -> Samples:
    """One batch of rounds of the field, from `first`, with log latencies `truth` [points]."""
    point = np.concatenate([rng.permutation(field) for _ in range(count)]).astype(np.int32)
    n = len(point)
    return Samples(
        point=point,
        round=np.repeat(np.arange(first, first + count), len(field)).astype(np.int32),
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


def test_a_final_of_a_thousand_rounds_has_seven_looks() -> None:
    """Halves of 1000, rounded down. The shares 1, 2, 4, … 64 of 127 add up to 1."""
    looks = plan_looks(SETTLE, 1000)
    assert [*looks] == [15, 31, 62, 125, 250, 500, 1000]
    assert [*looks.values()] == pytest.approx([2**i / 127 for i in range(7)])


def test_without_time_for_the_first_look_there_is_none() -> None:
    assert dict(plan_looks(SETTLE, SETTLE.first_look - 1)) == {}


def test_what_is_expected_of_processes_is_learned_or_a_setting() -> None:
    plain = expect_repeatability(SETTLE, tau=None, is_compiled=False)
    assert (plain.children, plain.arenas) == (0.003, 0.004)
    learned = expect_repeatability(SETTLE, tau=0.01, is_compiled=False)
    assert (learned.children, learned.arenas) == (0.01, 0.004)
    quiet = expect_repeatability(SETTLE, tau=0.001, is_compiled=False)
    assert quiet.children == 0.001
    compiled = expect_repeatability(SETTLE, tau=0.001, is_compiled=True)
    assert (compiled.children, compiled.arenas) == (0.0125, 0.0125)


def test_the_margin_is_what_two_processes_resolve_or_what_was_asked() -> None:
    """1.96 · √(0.8² / 2 + 0.8² / 8) % = 1.96 · 0.6325 % = 1.240 %, and 1.5 times as much.

    If the same processes chose from 25 points, 0.1 % of each end is left: 3.09 in place of 1.96.
    """
    restless = Repeatability(children=0.008, arenas=0.008)
    assert restless.half_width(2, 8) == pytest.approx(0.012396, rel=1e-3)
    assert choose_margin(SETTLE, restless, None, chosen_from=1) == pytest.approx(
        1.5 * (1 - np.exp(-0.012396)), rel=1e-3
    )
    assert restless.half_width(2, 8, chosen_from=25) == pytest.approx(
        0.012396 * 3.0902 / 1.96, rel=1e-3
    )
    assert choose_margin(SETTLE, restless, 0.002, chosen_from=1) == 0.002
    # Half as much, 0.93 %, is less than the least margin.
    plain = Repeatability(children=0.004, arenas=0.004)
    assert choose_margin(SETTLE, plain, None, chosen_from=1) == SETTLE.least_margin == 0.01


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
    final.add(rounds_of(np.zeros(2), [0], rng, count=20), 20)
    assert final.judge(1.0) is None


def test_all_statements_of_a_final_hold_at_once() -> None:
    """100 finals of 4 points that are as fast as the queried one, with two looks each.

    The error of all statements is 10 %, half of it to one side: 5 of 100 finals ± 2.2. Three
    deviations more are 12.
    """
    looks = {32: 1 / 3, 64: 2 / 3}
    wrong = 0
    for seed in range(100):
        rng, is_wrong = np.random.default_rng(seed), False
        final = final_of(4, margin=1e-6, error=0.1)
        for rounds, share in looks.items():
            missing = rounds - final.num_rounds
            first = final.num_rounds
            batch = rounds_of(np.zeros(5), [*range(5)], rng, count=missing, first=first)
            final.add(batch, missing)
            judgement = final.judge(share)
            assert judgement is not None
            is_wrong |= any(each.verdict == "faster" for each in judgement.comparisons.values())
        wrong += is_wrong
    assert wrong <= 12


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
            first = final.num_rounds
            samples = rounds_of(truth, [0, 1], rng, count=12, first=first, child=child, noise=1e-4)
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


def find_arena_variance(
    rng: np.random.Generator, *, children: list[int], between: float, rounds: int = 24
) -> float | None:
    """Of a final with an arena for each of `children`, which differ by 0.5 % one from the next.

    The log ratio of a round has noise of 1 %.
    """
    final = final_of(1)
    for child in children:
        truth = np.array([0.0, 0.005 * child + between * rng.standard_normal()])
        batch = rounds_of(
            truth,
            [0, 1],
            rng,
            count=rounds,
            first=final.num_rounds,
            child=child,
            noise=0.01 / math.sqrt(2),
        )
        final.add(batch, rounds)
    origin = final.find_origin(1)
    assert origin.num_children == len(set(children))
    assert origin.num_arenas == len(children)
    return origin.between_arenas


@pytest.mark.parametrize("between", [0.0, 0.005, 0.01])
def test_the_variance_between_arenas_is_found(between: float) -> None:
    """100 finals: the mean of their estimates is the variance put in, within a third of the noise.

    The center of an arena of 24 rounds has the variance (1 %)² / 24 = 4.2e-6.
    """
    rng = np.random.default_rng(5)
    found = [find_arena_variance(rng, children=[0, 1] * 8, between=between) for _ in range(100)]
    variances = [each for each in found if each is not None]
    assert len(variances) == 100
    assert float(np.mean(variances)) == pytest.approx(between**2, abs=1.4e-6 + 0.12 * between**2)


def test_one_arena_of_each_child_shows_no_variance() -> None:
    rng = np.random.default_rng(0)
    assert find_arena_variance(rng, children=[0, 1], between=0.01) is None
    assert find_arena_variance(rng, children=[0, 1, 1], between=0.01) is not None


def test_the_noise_of_a_pair_is_told_without_what_processes_add() -> None:
    """200 rounds with noise of 2 %: √2 · 2 % / √200 = 0.2 %, whatever τ is; none of 3 rounds."""
    restless = Repeatability(children=0.05, arenas=0.05)
    for rounds, expected in ((200, 0.002), (3, None)):
        final, rng = final_of(1, repeatability=restless), np.random.default_rng(0)
        final.add(rounds_of(np.zeros(2), [0, 1], rng, count=rounds), rounds)
        noise = final.find_origin(1).noise
        assert noise == (None if expected is None else pytest.approx(expected, rel=0.2))


def test_finalists_are_compared_alike_both_ways() -> None:
    """What a look says of two points doesn't depend on which of them it asks for first."""
    final, rng = final_of(2), np.random.default_rng(0)
    final.add(rounds_of(np.array([0.0, -0.05, -0.02]), [0, 1, 2], rng, count=100), 100)
    one, other = final._compare(1, 2, 0.5), final._compare(2, 1, 0.5)
    assert one is not None and other is not None
    assert (one.verdict, other.verdict) == ("faster", "slower")
    assert one.low == pytest.approx(1 / other.high) and one.high == pytest.approx(1 / other.low)
    assert one.low < math.exp(-0.03) < one.high


def test_more_rounds_are_taken_into_account() -> None:
    """30 rounds can't tell 0.5 % with noise of 2 %; 1,000 more can (0.09 %)."""
    final, rng, truth = final_of(1, margin=1e-6), np.random.default_rng(1), np.array([0.0, -0.005])
    final.add(rounds_of(truth, [0, 1], rng, count=30), 30)
    early = final.judge(0.3)
    assert early is not None and early.comparisons[1].verdict == "ambiguous"
    final.add(rounds_of(truth, [0, 1], rng, count=1000, first=30), 1000)
    late = final.judge(0.7)
    assert late is not None and late.comparisons[1].verdict == "faster"
    assert (early.comparisons[1].num_pairs, late.comparisons[1].num_pairs) == (30, 1030)


def test_a_jump_of_the_host_hides_no_difference() -> None:
    """The host takes 20 % longer in every other 15 visits; points differ by 1 %, noise is 0.5 %."""
    final, rng = final_of(3), np.random.default_rng(0)
    samples = rounds_of(np.array([0.0, -0.01, 0.01, 0.0]), final.field, rng, count=60, noise=0.005)
    slow = np.arange(len(samples)) // 15 % 2 == 1
    latency_s = samples.latency_s * np.where(slow, 1.2, 1.0)
    final.add(replace(samples, latency_s=latency_s), 60)
    judgement = final.judge(1.0)
    assert judgement is not None and judgement.answer == 1
    verdicts = [judgement.comparisons[point].verdict for point in (1, 2, 3)]
    assert verdicts == ["faster", "slower", "ambiguous"]


def test_a_visit_without_a_sample_costs_its_round_only() -> None:
    """Point 1 has no sample in every fourth round, point 2 in none."""
    final, rng = final_of(2), np.random.default_rng(0)
    samples = rounds_of(np.array([0.0, -0.05, -0.05]), [0, 1, 2], rng, count=80)
    kept = np.flatnonzero((samples.point != 1) | (samples.round % 4 != 0))
    final.add(
        replace(
            samples,
            point=samples.point[kept],
            round=samples.round[kept],
            time_s=samples.time_s[kept],
            latency_s=samples.latency_s[kept],
            unstable=samples.unstable[kept],
        ),
        80,
    )
    judgement = final.judge(1.0)
    assert judgement is not None
    assert [judgement.comparisons[point].num_pairs for point in (1, 2)] == [60, 80]
