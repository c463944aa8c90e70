"""Whether a pair, a pattern, and a platform are the same after a change of platform."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from profiler_service.analysis.comparison import Verdict
from profiler_service.analysis.facts import ConfirmedPair
from profiler_service.analysis.platform_change import (
    PLATFORM_CHANGE,
    Agreement,
    Candidate,
    Contrast,
    Outcome,
    Pattern,
    bound_share,
    choose_contrasts,
    find_multiple,
    find_patterns,
    judge,
)
from profiler_service.analysis.setting_table import describe
from profiler_service.workload import Dims


def pair(
    ratio: float, *, within: float = 0.004, dims: Dims = (1197, 317), rival: Dims = (1200, 320)
) -> ConfirmedPair:
    """A pair with that ratio, whose 95 % interval reaches so far on both sides (as a logarithm)."""
    low, high = ratio * math.exp(-within), ratio * math.exp(within)
    verdict: Verdict = "faster" if high < 1 else "slower" if low > 1 else "ambiguous"
    return ConfirmedPair(
        dims=dims, rival=rival, verdict=verdict, ratio=ratio, low=low, high=high, num_pairs=100
    )


@pytest.mark.parametrize(
    ("change", "within", "outcome"),
    [
        # Two intervals of ± 0.4 % make one of ± 0.566 % on the change.
        (0.0, 0.004, "agrees"),
        (0.015, 0.004, "agrees"),  # 0.93 to 2.07 %: within 2.96 % (log 1.03)
        (0.016, 0.004, "changed"),  # 1.03 to 2.17 %: within 2.96 %, but beyond 1.00 % (log 1.01)
        (-0.016, 0.004, "changed"),  # in either direction
        (0.1, 0.004, "changed"),
        # Two of ± 1 % make ± 1.41 %.
        (0.012, 0.01, "agrees"),  # -0.2 to 2.6 %
        (0.018, 0.01, "unclear"),  # 0.4 to 3.2 %: neither within 2.96 % nor beyond 1 %
        (0.025, 0.01, "changed"),  # 1.09 to 3.91 %
        # Two of ± 2.2 % make ± 3.1 %: too wide to agree with anything.
        (0.0, 0.022, "unclear"),
        (0.1, 0.022, "changed"),
    ],
)
def test_two_ratios_agree_if_their_change_is_surely_small(
    change: float, within: float, outcome: Outcome
) -> None:
    before, after = (pair(0.9 * math.exp(log), within=within) for log in (0.0, change))
    assert judge(before, after) == outcome
    assert Contrast(before=before, after=after).outcome == outcome
    assert judge(after, before) == outcome


def test_a_pair_that_could_not_be_measured_failed() -> None:
    assert Contrast(before=pair(0.9)).outcome == "failed"


def test_a_pair_that_is_the_same_is_rarely_called_changed() -> None:
    """4,000 pairs whose ratios are the same on both platforms, and as many that differ by 1 %."""
    rng = np.random.default_rng(1)
    sd = 0.004 / 1.96
    outcomes: dict[float, Counter[Outcome]] = {}
    for change in (0.0, math.log1p(0.01)):
        outcomes[change] = Counter(
            judge(pair(0.9 * math.exp(a)), pair(0.9 * math.exp(b + change)))
            for a, b in sd * rng.standard_normal((4000, 2))
        )
    # The change has the standard deviation 0.29 %: 1 % and 0.57 % are 5.4 of it.
    assert outcomes[0.0]["changed"] == 0 and outcomes[0.0]["agrees"] == 4000
    # At the tolerance itself, 2.5 % of 4,000 are 100, give or take 10 (standard error).
    assert 70 <= outcomes[math.log1p(0.01)]["changed"] <= 130


def test_the_interval_on_a_share_is_exact() -> None:
    # All of n: the lower end p has p^n = 2.5 %.
    assert bound_share(13, 13) == pytest.approx((0.025 ** (1 / 13), 1.0))
    assert bound_share(0, 10) == pytest.approx((0.0, 1 - 0.025**0.1))
    # 5 of 10: from the tables of Clopper and Pearson.
    assert bound_share(5, 10) == pytest.approx((0.1871, 0.8129), abs=1e-4)
    assert bound_share(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("agree", "changed", "verdict"),
    [
        (30, 0, "agree"),
        (28, 2, "agree"),  # at least 77.9 %
        (27, 3, "unclear"),  # 73.5 to 97.9 %
        (18, 12, "unclear"),  # 40.6 to 77.3 %
        (17, 13, "differ"),  # at most 74.5 %
        (0, 30, "differ"),
        (13, 0, "agree"),  # 0.025^(1/13) = 75.3 %
        (12, 0, "unclear"),  # 73.5 %
        (0, 0, "unclear"),
    ],
)
def test_platforms_agree_if_surely_most_pairs_do(agree: int, changed: int, verdict: str) -> None:
    found = Agreement(num_agree=agree, num_changed=changed)
    assert found.verdict == verdict
    # What couldn't be measured, or told, says nothing.
    more = replace(found, num_failed=1, num_unclear=2)
    assert (more.verdict, more.share) == (verdict, found.share)
    assert (more.num_decided, more.num_contrasts) == (agree + changed, agree + changed + 3)


def test_outcomes_are_counted() -> None:
    found = Agreement.of(["agrees", "failed", "changed", "agrees", "unclear", "agrees"])
    assert found == Agreement(num_agree=3, num_changed=1, num_unclear=1, num_failed=1)


@pytest.mark.parametrize(
    ("dims", "rival", "multiple"),
    [
        ((1197, 317), (1200, 320), 16),  # 1200 = 16 · 75, 320 = 64 · 5
        ((1197, 317), (1197, 320), 64),  # an axis that stays says nothing
        ((1197, 320), (1200, 352), 16),  # 352 = 32 · 11; 320 is a multiple of 16, 1197 isn't
        ((100,), (512,), 128),  # 512 counts as a multiple of 128
        ((1197, 317), (1199, 319), None),  # odd
        ((32,), (96,), None),  # both are multiples of 32
        ((8, 8), (8, 8), None),
    ],
)
def test_a_pair_is_about_the_multiples_that_its_rival_has(
    dims: Dims, rival: Dims, multiple: int | None
) -> None:
    assert find_multiple(pair(0.9, dims=dims, rival=rival)) == multiple


def contrast(multiple: int, before: float, after: float | None, number: int = 0) -> Contrast:
    """A pair about multiples of that, with these ratios."""
    rival = (multiple * (2 * number + 9),)
    dims = (rival[0] - 1,)
    return Contrast(
        before=pair(before, dims=dims, rival=rival),
        after=None if after is None else pair(after, dims=dims, rival=rival),
    )


def contrasts(multiple: int, before: float, after: float | None, count: int) -> list[Contrast]:
    """So many such pairs, each with a rival of its own."""
    return [contrast(multiple, before, after, number) for number in range(count)]


def test_multiples_no_longer_win_if_surely_most_of_their_pairs_do_not() -> None:
    lost = contrasts(16, 0.9, 1.05, 6)
    still = contrasts(8, 0.9, 0.9, 6)
    assert find_patterns([*lost, *still]) == (Pattern(multiple=16, wins_now=False),)
    # 0.025^(1/5) = 48 % is less than half.
    assert find_patterns([*lost[:5], *still]) == ()
    # 7 of 8 lie above 47 %, 8 of 9 above 52 %.
    held = contrast(16, 0.9, 0.9, 20)
    assert find_patterns([*contrasts(16, 0.9, 1.05, 7), held]) == ()
    eight = contrasts(16, 0.9, 1.05, 8)
    assert find_patterns([*eight, held]) == (Pattern(multiple=16, wins_now=False),)
    # What couldn't be measured says nothing, nor does what can't be told (0 to 3.2 %).
    unclear = Contrast(before=pair(0.9, within=0.01), after=pair(0.9 * 1.018, within=0.01))
    assert unclear.outcome == "unclear"
    assert find_patterns([*lost[:5], contrast(16, 0.9, None, 9), unclear]) == ()


def test_multiples_of_a_larger_power_are_multiples_of_a_smaller_one() -> None:
    # Two, two and two: none is enough by itself, and all together are.
    few = [each for multiple in (4, 8, 32) for each in contrasts(multiple, 0.95, 1.01, 2)]
    assert find_patterns(few) == (Pattern(multiple=4, wins_now=False),)
    # Those of 4 still win, so nothing is said of them: 4 of 4 are 40 % at least.
    held = [*few[2:], *contrasts(4, 0.95, 0.95, 3)]
    assert find_patterns(held) == ()
    # Nor can many of 32 speak for the single pair about 8, which still wins.
    many = [*contrasts(32, 0.95, 1.01, 20), contrast(8, 0.95, 0.95)]
    assert find_patterns(many) == (Pattern(multiple=32, wins_now=False),)
    # Multiples of 64 still win: they are multiples of 8, too.
    split = [*contrasts(8, 0.95, 1.01, 20), *contrasts(64, 0.95, 0.95, 2)]
    assert find_patterns(split) == ()


def test_pairs_that_win_by_less_have_changed_and_still_win() -> None:
    assert find_patterns(contrasts(16, 0.8, 0.9, 9)) == ()


def test_a_win_within_the_tolerance_is_none() -> None:
    # 0.8 % faster now, surely, and 10 % before.
    barely = contrasts(16, 0.9, 0.992, 6)
    assert {each.after.verdict for each in barely if each.after} == {"faster"}
    assert find_patterns(barely) == (Pattern(multiple=16, wins_now=False),)
    # Who won by 0.8 % before had nothing to lose.
    assert find_patterns(contrasts(16, 0.992, 1.1, 6)) == ()


def test_multiples_that_win_only_now_are_a_pattern_too() -> None:
    gained = contrasts(8, 1.05, 0.9, 6)
    lost = contrasts(16, 0.9, 1.0, 6)
    assert find_patterns([*gained, *lost]) == (
        Pattern(multiple=16, wins_now=False),
        Pattern(multiple=8, wins_now=True),
    )


def candidate(
    fact_id: str, workload: str, dims: Dims, ratio: float = 0.9, rival: Dims | None = None
) -> Candidate:
    larger = rival or tuple(dim + 1 for dim in dims)
    return Candidate(id=fact_id, workload_key=workload, pair=pair(ratio, dims=dims, rival=larger))


def test_workloads_take_turns_and_so_do_sizes() -> None:
    # The newest first: five of one size, one of another; then a workload with a single fact.
    candidates = [candidate(f"a{n}", "a", (200 + n,)) for n in range(5)]
    candidates += [candidate("large", "a", (300,)), candidate("b0", "b", (200,))]
    # 200 to 204 lie in [128, 256), 300 in [256, 512).
    assert choose_contrasts(candidates) == ["a0", "b0", "large", "a1", "a2", "a3", "a4"]
    few = replace(PLATFORM_CHANGE, num_contrasts=3)
    assert choose_contrasts(candidates, few) == ["a0", "b0", "large"]
    assert choose_contrasts([]) == []


def test_each_pair_is_chosen_once_the_newest_fact_of_it() -> None:
    candidates = [
        candidate("newest", "a", (5,), rival=(8,)),
        candidate("older", "a", (5,), rival=(8,)),
        candidate("other rival", "a", (5,), rival=(7,)),
        candidate("other workload", "b", (5,), rival=(8,)),
    ]
    assert choose_contrasts(candidates) == ["newest", "other workload", "other rival"]


def test_pairs_that_were_told_apart_come_before_others_of_their_size() -> None:
    candidates = [
        candidate("undecided", "a", (5,), 1.0),
        candidate("slower", "a", (6,), 1.1),
        candidate("faster", "a", (7,), 0.9),
    ]
    assert choose_contrasts(candidates) == ["slower", "faster", "undecided"]


def test_the_settings_are_documented() -> None:
    table = describe(PLATFORM_CHANGE)
    assert "| `num_contrasts` | 30 | pairs |" in table
    assert "| `tolerance` | 0.01 | share |" in table
