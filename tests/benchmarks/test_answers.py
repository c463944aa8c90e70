"""The verdicts on answers: each fails where its failure is planted, and only there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.answers.bounds import (
    describe_bounds,
    find_tau,
    least_margins,
    window_margins,
)
from benchmarks.answers.calibration import Claim, draw, judge_calibration, read_claims
from benchmarks.answers.dims import Dims, draw_queries, growth, round_up, window_end
from benchmarks.answers.machine import RefereeError
from benchmarks.answers.report import build_report, judge
from benchmarks.answers.statistics import student_95
from benchmarks.answers.trials import Findings
from benchmarks.answers.verdicts import (
    Goal,
    compare_answers,
    find_regret,
    judge_agreement,
    judge_cold,
    judge_control,
    judge_preferences,
    judge_regret,
    judge_slower,
)
from tests.benchmarks.planted import ASKED, FAILURE, measured, outcome, reply, trial

NEAR: Dims = (102, 201)
FAR: Dims = (110, 220)


def met(goals: list[Goal]) -> list[bool | None]:
    return [goal.met for goal in goals]


# --- Queries --------------------------------------------------------------------------------


def test_rounding_up_leaves_multiples_alone() -> None:
    assert round_up((1197, 317), 8) == (1200, 320)
    assert round_up((1200, 320), 8) == (1200, 320)


def test_equal_seeds_draw_equal_queries_in_range() -> None:
    drawn = draw_queries(200, seed=5)
    assert drawn == draw_queries(200, seed=5) != draw_queries(200, seed=6)
    assert all(100 <= dim <= 1300 for dims in drawn for dim in dims)


def test_a_window_reaches_an_eighth_and_at_least_32_points() -> None:
    # 1197/8 = 149.6; 100/8 = 12.5; 16000/8 = 2000.
    assert window_end((1197, 100)) == (1197 + 149, 132)
    assert window_end((16000, 256)) == (16000 + 1024, 288)


def test_growth_is_the_sum_of_the_axes() -> None:
    assert growth((100, 200), (110, 230)) == pytest.approx(0.10 + 0.15)


# --- Agreement ------------------------------------------------------------------------------


def both(second_over_first: float, **margins: float) -> Any:
    """Two services' answers of different dims, which differ in latency by this."""
    pair = (reply(NEAR, **margins), reply(FAR))
    return trial(*pair, measurement=measured({NEAR: 0.95, FAR: 0.95 * second_over_first}))


def test_answers_within_half_a_percent_agree() -> None:
    assert met(judge_agreement([both(1.004)]))[0] is True
    assert met(judge_agreement([both(1.008)]))[0] is False
    # Also if it is the first that is slower.
    assert met(judge_agreement([both(1 / 1.008)]))[0] is False


def test_a_margin_allows_a_larger_difference_but_not_any() -> None:
    within, beyond = both(1.008, margin=0.01), both(1.02, margin=0.01)
    assert met(judge_agreement([within])) == [True, True]
    pair = compare_answers(within)
    assert pair is not None and pair.agrees and not pair.agrees_closely
    assert met(judge_agreement([beyond]))[0] is False
    # A margin that allows everything is a miss of its own: its median is above 1 %.
    assert met(judge_agreement([both(1.02, margin=0.03)])) == [True, False]


def test_equal_dims_agree_and_a_missing_answer_does_not() -> None:
    same = trial(reply(NEAR), reply(NEAR), measurement=measured({NEAR: 0.9}))
    missing = trial(reply(NEAR), FAILURE, measurement=measured({NEAR: 0.9}))
    assert met(judge_agreement([same]))[0] is True
    assert met(judge_agreement([same] * 19 + [missing]))[0] is True
    assert met(judge_agreement([same] * 18 + [missing] * 2))[0] is False


def test_a_difference_is_sure_only_beyond_the_referees_own_error() -> None:
    pairs = [
        compare_answers(
            trial(
                reply(NEAR),
                reply(FAR),
                measurement=measured({NEAR: 1.0, FAR: 1.01}, tau=tau, seed=4),
            )
        )
        for tau in (0.0005, 0.01)
    ]
    # Errors of 0.03 % and of 0.6 %, beside 1 %.
    assert [pair is not None and pair.surely_differs for pair in pairs] == [True, False]


# --- Regret and slower answers --------------------------------------------------------------


def test_the_regret_is_the_distance_from_the_planted_best() -> None:
    found = find_regret(measured({NEAR: 0.99, FAR: 0.96}), ASKED, NEAR)
    assert found.estimate == pytest.approx(0.99 / 0.96)
    assert find_regret(measured({NEAR: 0.99, FAR: 0.96}), ASKED, FAR).estimate == 1.0
    # The queried point may be the best, too.
    assert find_regret(measured({NEAR: 1.02}), ASKED, NEAR).estimate == pytest.approx(1.02)


def test_a_point_beyond_the_window_is_no_rival() -> None:
    # 32 above 100 is 132.
    outside = measured({NEAR: 1.0, (133, 210): 0.5, (132, 210): 0.9})
    assert find_regret(outside, ASKED, NEAR).estimate == pytest.approx(1 / 0.9)


def test_noise_alone_is_no_regret() -> None:
    """Choosing the best of many equal points on the blocks that time it would show one."""
    crowd = {(101 + n, 201): 1.0 for n in range(12)}
    regrets = [
        find_regret(measured(crowd, tau=0.004, seed=seed), ASKED, (101, 201)).log
        for seed in range(300)
    ]
    # Each has an error of about √2 · 0.4 %/√6 = 0.23 %, the mean of 300 one of 0.013 %. The
    # smallest of 15 would be ahead by about 1.7 · 0.16 %.
    assert abs(np.mean(regrets)) < 0.0005


def test_one_answer_with_two_percent_regret_in_ten_misses() -> None:
    good = trial(reply(NEAR), measurement=measured({NEAR: 0.97, FAR: 0.969}))
    bad = trial(reply(NEAR), measurement=measured({NEAR: 0.97, FAR: 0.95}))
    assert met(judge_regret([good] * 10)) == [True]
    assert met(judge_regret([good] * 9 + [bad])) == [False]
    # The median alone.
    lame = trial(reply(NEAR), measurement=measured({NEAR: 0.97, FAR: 0.966}))
    assert met(judge_regret([lame] * 10)) == [False]


def test_an_answer_surely_slower_than_asked_misses() -> None:
    slower = trial(reply(NEAR), measurement=measured({NEAR: 1.01}))
    assert met(judge_slower([slower])) == [False]
    assert met(judge_slower([trial(reply(NEAR), measurement=measured({NEAR: 1.004}))])) == [True]
    assert (
        "1 of 3"
        in judge_slower([slower, *[trial(reply(), measurement=measured({}))] * 2])[0].measured
    )


def test_the_referees_own_error_makes_no_answer_surely_slower() -> None:
    edge = [
        trial(reply(NEAR), measurement=measured({NEAR: 1.005}, tau=0.01, seed=seed))
        for seed in range(400)
    ]
    # An answer exactly at the bound: 2.5 % of 400 lie surely above, give or take 3.
    assert 1 <= int(judge_slower(edge)[0].measured.split()[0]) <= 20


# --- Calibration ----------------------------------------------------------------------------


def claims(*, claimed: float, true: float, own: float, count: int = 2000) -> list[Claim]:
    """Claims with the standard error `claimed`, whose errors really have `true`; the referee's
    processes differ by `own`."""
    rng = np.random.default_rng(5)
    found = []
    for _ in range(count):
        values = own * rng.standard_normal(6)
        estimate = true * float(rng.standard_normal())
        found.append(
            Claim(
                low=estimate - 1.96 * claimed,
                high=estimate + 1.96 * claimed,
                estimate=estimate,
                refereed=float(values.mean()),
                referee_se=float(values.std(ddof=1)) / math.sqrt(6),
                processes=6,
            )
        )
    return found


def share(found: list[Claim], *, fair: bool) -> float:
    return float(np.mean([c.is_inside_without_error if fair else c.is_inside for c in found]))


def test_right_claims_are_inside_however_large_the_referees_error_is() -> None:
    # Its standard errors: 0.08 %, 0.2 % (as large as the claims') and 0.6 %.
    for own in (0.002, 0.005, 0.015):
        found = claims(claimed=0.002, true=0.002, own=own)
        # 95 % of 2000, give or take 0.5 %. Welch's approximation is a little off.
        assert share(found, fair=True) == pytest.approx(0.95, abs=0.015)
        assert judge_calibration(found)[0].met is True
    # With the referee's error left in, right claims look wrong: here one in three or more.
    assert share(claims(claimed=0.002, true=0.002, own=0.005), fair=False) < 0.88


def test_claims_that_are_half_as_wide_as_they_should_be_miss() -> None:
    found = claims(claimed=0.001, true=0.002, own=0.001)
    # P(|z| < 0.98) = 67 % without the referee's error.
    assert share(found, fair=True) < 0.80
    assert judge_calibration(found)[0].met is False


def test_the_side_of_a_lopsided_interval_counts_on_which_the_referee_is() -> None:
    lopsided = Claim(low=-0.001, high=0.02, estimate=0.0, refereed=0.01, referee_se=0, processes=6)
    assert lopsided.is_inside_without_error
    other = Claim(low=-0.001, high=0.02, estimate=0.0, refereed=-0.01, referee_se=0, processes=6)
    assert not other.is_inside_without_error


def test_only_answers_other_than_the_queried_point_are_claims() -> None:
    speed = 1 / 0.95
    moved = reply(NEAR, claimed_speedup=speed, claimed_interval=(speed * 0.99, speed * 1.01))
    found = read_claims([trial(moved, reply(ASKED), measurement=measured({NEAR: 0.95}))])
    assert len(found) == 1
    assert found[0].is_inside and found[0].is_inside_without_error


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    draw(claims(claimed=0.002, true=0.003, own=0.002, count=30), tmp_path / "claims.png")
    assert (tmp_path / "claims.png").read_bytes()[:4] == b"\x89PNG"


# --- Preferences and cold answers -----------------------------------------------------------


def prefer(which: str, answer: Dims, over_asked: dict[Dims, float], **changes: Any) -> Any:
    """Of the three goals of a preference: time, slower than asked, missed."""
    one = trial(reply(answer, **changes), measurement=measured(over_asked), prefer=which)
    return met(judge_preferences([one]))


def test_a_nearest_answer_is_larger_than_necessary_if_a_smaller_one_would_do() -> None:
    assert prefer("nearest", FAR, {FAR: 0.97, NEAR: 1.0}) == [True, True, True]
    assert prefer("nearest", FAR, {FAR: 0.97, NEAR: 0.98}) == [True, True, False]
    # The largest may have smaller ones below it.
    assert prefer("largest", FAR, {FAR: 0.97, NEAR: 0.98}) == [True, True, True]
    # An answer that stays where it is, though something larger is surely faster.
    assert prefer("nearest", ASKED, {FAR: 0.97}) == [True, True, False]
    assert prefer("largest", ASKED, {FAR: 0.97}) == [True, True, False]


def test_a_preferred_answer_may_be_slower_by_its_slack_only() -> None:
    assert prefer("largest", FAR, {FAR: 1.004}) == [True, True, True]
    assert prefer("largest", FAR, {FAR: 1.012}) == [True, False, True]
    assert prefer("largest", FAR, {FAR: 1.012}, slack=0.02) == [True, True, True]
    assert prefer("largest", FAR, {FAR: 1.022}, slack=0.02) == [True, False, True]


def test_a_preferred_answer_takes_seconds() -> None:
    assert prefer("nearest", FAR, {FAR: 0.9}, wall_s=5.1)[0] is False
    unanswered = trial(FAILURE, prefer="nearest")
    assert judge_preferences([unanswered])[0].met is False


def test_cold_answers_settle_and_are_fast() -> None:
    def goals(*replies: Any) -> list[bool | None]:
        return met(judge_cold([trial(r, measurement=measured({})) for r in replies]))

    good = reply()
    assert goals(*[good] * 10) == [True, True]
    # Nine of ten may do; not eight.
    assert goals(*[good] * 9, reply(settled=False)) == [True, True]
    assert goals(*[good] * 8, *[reply(settled=None)] * 2) == [False, True]
    assert goals(*[good] * 9, reply(wall_s=5.1)) == [True, False]
    assert goals(reply(wall_s=2.1)) == [True, False]
    # One that was known already says nothing of cold ones.
    assert goals(reply(wall_s=99.0, settled=False, cold=False), good) == [True, True]


def test_a_referee_that_errs_by_half_a_percent_cannot_judge() -> None:
    def goals(control: float) -> list[bool | None]:
        return met(judge_control([trial(reply(), measurement=measured({}, control=control))]))

    assert goals(1.004) == [True]
    assert goals(1.006) == [False]
    assert goals(0.994) == [False]


# --- What noise allows, and the report ------------------------------------------------------


def test_tau_is_found_again() -> None:
    crowd = {(101 + n, 201): 1.0 for n in range(6)}
    found = [
        trial(reply(), measurement=measured(crowd, tau=0.004, noise=0.002, seed=seed))
        for seed in range(60)
    ]
    # 60 · 10 ratios with 5 degrees of freedom each; the medians of 8 blocks are not quite normal.
    assert find_tau(found) == pytest.approx(0.004, rel=0.1)


def test_the_least_margin_follows_from_the_time_and_the_noise() -> None:
    # 0.8 s of calls of 100 µs: 2000 pairs. 1.96 · √(π/2 · 0.03²/2000 + 0.004²/2) = 0.58 %.
    (least,) = least_margins([trial(reply(), measurement=measured({}))], tau=0.004)
    expected = 1.96 * math.sqrt(math.pi / 2 * 0.03**2 / 2000 + 0.004**2 / 2)
    assert math.log1p(least) == pytest.approx(expected, rel=1e-4)


def test_the_margin_of_a_window_follows_from_its_rows_the_time_and_the_noise() -> None:
    # 4 s of visits of 200 µs: 20,000 visits of 20 rows, so 1000 of each. 1.96 · 0.03 / √1000.
    body = {"evidence": {"candidates": 400, "budget_s": 4.0}}
    ((margin, settled),) = window_margins(
        [trial(reply(body=body, settled=True), measurement=measured({}))]
    )
    assert math.log1p(margin) == pytest.approx(1.96 * 0.03 / math.sqrt(1000), rel=1e-4)
    assert settled
    assert window_margins([trial(reply(body={}), measurement=measured({}))]) == []


def findings() -> Findings:
    speed = 1 / 0.97
    moved = reply(NEAR, claimed_speedup=speed, claimed_interval=(speed * 0.99, speed * 1.01))
    fastest = trial(
        moved, reply(FAR), measurement=measured({NEAR: 0.97, FAR: 0.99}, tau=0.002, noise=0.002)
    )
    largest = trial(reply(FAR), measurement=measured({FAR: 0.99}), prefer="largest")
    return Findings(
        settings={"seed": 1},
        heading=["# Title"],
        notes=["a note"],
        trials=[fastest, trial(FAILURE, FAILURE), largest],
        noise={"equal, drift": [vars(outcome(gain=0.0))]},
    )


def test_findings_are_the_same_when_they_are_read_again(tmp_path: Path) -> None:
    found = findings()
    found.write(tmp_path / "new" / "found.json")
    again = Findings.read(tmp_path / "new" / "found.json", {"seed": 1})
    assert again == found


def test_findings_of_other_settings_are_not_gone_on_with(tmp_path: Path) -> None:
    findings().write(tmp_path / "found.json")
    with pytest.raises(RefereeError, match="measured with"):
        Findings.read(tmp_path / "found.json", {"seed": 2})
    with pytest.raises(RefereeError, match="nothing to resume"):
        Findings.read(tmp_path / "missing.json", {"seed": 1})


def test_the_report_names_what_was_missed() -> None:
    found = findings()
    goals = judge(found)
    report = build_report(found, goals, "picture.png")
    missed = {goal.name for goal in goals if goal.met is False}
    # One of two queries has no answer, and the answers differ by 2 %.
    assert any("two empty services" in name for name in missed)
    for name in missed:
        assert name in report.partition("Missed: ")[2]
    assert "none: status 503" in report
    assert "(picture.png)" in report and "a note" in report
    # 3.24 τ / 0.5 %.
    assert describe_bounds(found.trials)[1] in report


def test_the_quantile_of_the_picture_is_that_of_its_processes() -> None:
    assert student_95(5) == pytest.approx(2.5706, abs=1e-4)
