"""Which answers are doubtful, and what people are told of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profiler_service.analysis.evidence import Evidence
from profiler_service.answering.caveats import find_caveats, find_width, is_noisy
from profiler_service.plan.modes import Mode


def evidence(*, samples: int = 700, discarded: int = 0, unstable: int = 0) -> Evidence:
    return Evidence(samples=samples, discarded=discarded, unstable=unstable)


def test_a_quiet_answer_has_no_caveat() -> None:
    quiet = evidence(discarded=30, unstable=1)
    assert not is_noisy(quiet, 0.02)
    assert find_caveats(quiet, host="here", mode="race", width=0.02) == []
    assert (
        find_caveats(Evidence(), host="here", mode="race") == []
    )  # of a curve kept by an earlier version


@pytest.mark.parametrize(
    ("discarded", "unstable", "noisy"),
    [
        (300, 0, False),  # 300 of 1,000
        (300, 1, True),
        (301, 0, True),
        (0, 210, False),  # 210 of 700
        (0, 211, True),
    ],
)
def test_an_answer_is_noisy_when_more_than_three_samples_in_ten_were_disturbed(
    discarded: int, unstable: int, noisy: bool
) -> None:
    assert is_noisy(evidence(discarded=discarded, unstable=unstable)) is noisy


@pytest.mark.parametrize(("width", "noisy"), [(0.2, False), (0.21, True), (None, False)])
def test_an_answer_is_noisy_when_its_interval_is_wide(width: float | None, noisy: bool) -> None:
    assert is_noisy(evidence(), width) is noisy


def test_the_width_of_an_interval_is_relative() -> None:
    # From 43 ms to 144 ms around 100 ms.
    assert find_width(0.1, (0.043, 0.144)) == pytest.approx(1.01)
    assert find_width(0.1, (None, None)) is None


def test_a_noisy_answer_says_how_noisy_it_is_and_what_helps() -> None:
    noisy = evidence(samples=708, discarded=1758, unstable=12)
    (caveat,) = find_caveats(noisy, host="anvil", mode="race", width=1.01)
    # 1,770 of 2,466 samples: 71.8 %.
    assert "72% of 2,466 samples were disturbed (1,758 discarded, 12 kept)" in caveat
    assert "interval on the latency is 101% wide" in caveat
    assert "`lhp doctor` on anvil" in caveat and "effort=thorough" in caveat


def test_a_larger_budget_is_advised_where_one_was_given() -> None:
    noisy = evidence(discarded=700)
    (caveat,) = find_caveats(noisy, host="anvil", mode="race")
    assert "budget" not in caveat
    (caveat,) = find_caveats(replace(noisy, asked_budget_s=0.1), host="anvil", mode="race")
    assert "a larger budget helps" in caveat


@pytest.mark.parametrize("mode", ["survey", "grid", "kernels"])
def test_what_no_question_would_measure_again_needs_a_new_sweep(mode: Mode) -> None:
    (caveat,) = find_caveats(evidence(discarded=700), host="anvil", mode=mode)
    assert "POST /sweeps" in caveat and "effort" not in caveat


def test_a_disturbed_answer_says_how_much_others_used() -> None:
    disturbed = Evidence(samples=700, others_share=0.344, disturbed=True)
    (caveat,) = find_caveats(disturbed, host="anvil", mode="race")
    assert caveat.startswith("disturbed: others used 34% of the measured device's time")
    assert "anvil" in caveat


def test_how_to_measure_again_is_told_once() -> None:
    both = replace(evidence(discarded=700), others_share=0.5, disturbed=True)
    disturbed, noisy = find_caveats(both, host="anvil", mode="race")
    assert "effort=thorough" not in disturbed
    assert noisy.endswith("Asking with effort=thorough starts a new, longer measurement.")


def test_a_little_use_by_others_is_no_caveat() -> None:
    little = Evidence(others_share=0.04, disturbed=False)
    assert find_caveats(little, host="here", mode="race") == []
