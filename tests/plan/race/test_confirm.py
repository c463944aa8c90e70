"""The confirmation: fresh samples, and when a gain is claimed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from profiler_service.analysis.samples import Samples
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR, MATMUL
from profiler_service.plan.create import create_planner
from profiler_service.plan.race.confirm import (
    Confirmation,
    LookPlan,
    find_least_gain,
    pair_log_ratios,
    plan_looks,
)
from profiler_service.plan.race.planner import RacePlanner
from profiler_service.plan.race.settings import RACE
from profiler_service.plan.race.stages import End
from profiler_service.plan.spec import SweepSpec
from tests.plan.asking import ask, curve_from, spec_above
from tests.synthetic import SyntheticDevice

CONFIRM = RACE.confirm
TWO_LOOKS = LookPlan(looks=(10, 20), attempts=1)


def confirm(
    *pieces: list[float], noise: float = 0.025, least_gain: float | None = None
) -> tuple[list[End | None], Confirmation]:
    """What a confirmation of two looks says after each piece of paired ratios."""
    rule = Confirmation(CONFIRM, TWO_LOOKS, noise=noise, least_gain=least_gain)
    said = []
    for ratios in pieces:
        calm = np.zeros(2 * len(ratios), dtype=bool)
        said.append(rule.update(np.log(np.array(ratios)), calm, len(ratios)))
    return said, rule


def test_looks_share_the_error_of_one_answer() -> None:
    # 5 %, shared by 2 looks at each of 3 rivals.
    assert LookPlan(looks=(10, 20), attempts=3).confidence == pytest.approx(1 - 0.05 / 6)
    assert TWO_LOOKS.confidence == 0.975


@pytest.mark.parametrize(
    ("affordable", "pair_s", "looks", "attempts"),
    [
        # 15 ms are 15 pairs of 1 ms; 500 hold the first four looks, and the first one 10 times.
        (500, 1e-3, (50, 100, 200, 400), 3),
        (120, 1e-3, (50, 100), 2),
        # 15 ms are 150 pairs of 0.1 ms.
        (1000, 1e-4, (200, 400, 800), 3),
        # No look fits: one of all that do.
        (120, 1e-4, (120,), 1),
        (12, 1.0, (12,), 1),
    ],
)
def test_looks_are_those_that_fit_and_last_long_enough(
    affordable: int, pair_s: float, looks: tuple[int, ...], attempts: int
) -> None:
    assert plan_looks(CONFIRM, affordable, pair_s) == LookPlan(looks=looks, attempts=attempts)


# At 97.5 % the interval of 10 pairs goes from the 2nd to the 9th: P(Binomial(10, 1/2) < 2) is
# 11/1024 = 1.07 %, below 1.25 %, and with a third 5.5 %. Of 20 it goes from the 5th to the 16th.


def test_pairs_that_agree_confirm_at_the_first_look() -> None:
    said, rule = confirm([0.9] * 4, [0.9] * 6)
    assert said == [None, End.FASTER]
    assert rule.comparison is not None
    assert (rule.comparison.verdict, rule.comparison.num_pairs) == ("faster", 10)
    assert rule.comparison.high == pytest.approx(0.9)


def test_pairs_are_asked_for_until_the_next_look() -> None:
    rule = Confirmation(CONFIRM, TWO_LOOKS, noise=0.025)
    assert (rule.pairs_to_look, rule.has_begun) == (10, False)
    rule.update(np.log(np.full(4, 0.9)), np.zeros(8, dtype=bool), 4)
    assert (rule.pairs_to_look, rule.has_begun) == (6, True)
    assert rule.comparison is None


def test_two_outliers_leave_the_first_look_open_and_not_the_second() -> None:
    # The 9th of 8 × 0.9 and 2 × 1.1 is 1.1; the 16th of 18 × 0.9 and 2 × 1.1 is 0.9.
    said, rule = confirm([0.9] * 8 + [1.1] * 2, [0.9] * 10)
    assert said == [None, End.FASTER]
    assert rule.comparison is not None and rule.comparison.num_pairs == 20


def test_a_slower_rival_is_told_as_such() -> None:
    assert confirm([1.1] * 10)[0] == [End.SLOWER]


def test_confirming_ends_where_no_worthwhile_gain_is_possible() -> None:
    # From 0.996 on: the rival can't be faster by 0.5 %. From 0.994 on it can.
    assert confirm([0.996] * 5 + [1.004] * 5)[0] == [End.NO_GAIN]
    assert confirm([0.994] * 5 + [1.004] * 5)[0] == [None]


def test_the_last_look_may_leave_it_open() -> None:
    said, rule = confirm([0.9, 1.1] * 5, [0.9, 1.1] * 5)
    assert said == [None, End.UNDECIDED]
    assert rule.comparison is not None and rule.comparison.verdict == "ambiguous"


def test_rounds_without_a_pair_compare_nothing() -> None:
    rule = Confirmation(CONFIRM, TWO_LOOKS, noise=0.025)
    assert rule.update(np.zeros(0), np.zeros(4, dtype=bool), 10) is End.NOTHING_SEEN
    assert rule.comparison is None


def test_on_a_disturbed_host_a_small_gain_is_not_claimed() -> None:
    """0.4 %, surely: enough on a calm host, less than the 0.5 % that a noise above 5 % asks for."""
    assert confirm([0.996] * 10, noise=0.025)[0] == [End.FASTER]
    said, rule = confirm([0.996] * 10, noise=0.06)
    assert said == [End.NO_GAIN]
    assert rule.comparison is not None and rule.comparison.verdict == "ambiguous"
    assert confirm([0.994] * 10, noise=0.06)[0] == [End.FASTER]


def test_a_gain_below_a_given_margin_is_not_claimed() -> None:
    # 2.4 % are there, 3 % are asked for.
    said, _ = confirm([0.976] * 10, [0.976] * 10, least_gain=0.03)
    assert said == [None, End.UNDECIDED]
    assert confirm([0.96] * 10, least_gain=0.03)[0] == [End.FASTER]


@pytest.mark.parametrize(
    ("noise", "deviation", "unstable", "least_gain"),
    [
        # Pairs ± a have a spread of 1.48 a / √2 = 1.047 a, as the noise of one of their samples.
        (0.02, 0.04, 0, 0.0),  # 0.042
        (0.02, 0.06, 0, 0.005),  # 0.063, above 0.05
        (0.06, 0.04, 0, 0.005),  # disturbed before
        (0.02, 0.04, 1, 0.0),  # 1 of 10 samples is a tenth, and no more
        (0.02, 0.04, 2, 0.005),
    ],
)
def test_a_host_is_disturbed_by_noise_before_or_now_or_by_unstable_samples(
    noise: float, deviation: float, unstable: int, least_gain: float
) -> None:
    pairs = np.array([-deviation, deviation] * 10) - 0.01
    marks = np.arange(10) < unstable
    assert find_least_gain(CONFIRM, noise, pairs, [marks]) == least_gain


def test_ratios_are_paired_within_rounds() -> None:
    """Round 5: 2 ms over 1 ms. Round 6 has no sample of the rival, round 7 none of the other."""
    samples = Samples(
        point=np.array([3, 0, 0, 3], dtype=np.int32),
        round=np.array([5, 5, 6, 7], dtype=np.int32),
        time_s=np.zeros(4, dtype=np.float32),
        latency_s=np.array([2e-3, 1e-3, 1e-3, 9e-3]),
        calls=1,
        unstable=np.zeros(4, dtype=bool),
    )
    assert np.exp(pair_log_ratios(samples, rival=3, reference=0)) == pytest.approx([2.0])


@pytest.mark.parametrize(("backend", "moves"), [("packed", True), ("compiled", False)])
def test_a_kernel_that_keeps_its_place_must_win_by_more_than_places_do(
    backend: str, moves: bool
) -> None:
    """2.4 % faster: less than copies of one compiled product differ."""
    truth = np.full(33, 1e-4)
    truth[0] /= 0.976
    moved = 0
    for seed in range(5):
        spec = spec_above((100,), "race", seed=seed)
        spec = replace(spec, workload=MATMUL.describe({"backend": backend}))
        device = SyntheticDevice(truth, noise=0.006, spikes=0, drift=0, seed=seed)
        moved += ask(spec, device).lhp != (100,)
    assert moved == (5 if moves else 0)


def test_nobody_is_sent_to_a_point_that_failed_while_it_was_confirmed() -> None:
    """Calls of 20 ms: several batches a look. The rival is ahead, and fails from the second on."""
    spec = spec_above((100, 100), "race")
    truth = np.full(spec.grid.size, 20e-3)
    truth[0] *= 1.25
    planner = RacePlanner(spec)
    device = SyntheticDevice(truth, noise=0.004, spikes=0, drift=0)
    rivals: list[int] = []
    while (batch := planner.next_batch()) is not None:
        seen = np.unique(batch.point)
        if len(seen) == 2 and seen[0] == 0:
            rivals.append(int(seen[1]))
            if rivals.count(rivals[-1]) == 2:
                device.failing |= {rivals[-1]}
        planner.record(device.measure(batch))
    failed = set(device.failing)
    assert failed
    # Not tried again and again.
    assert all(rivals.count(rival) == 2 for rival in failed)
    curve = curve_from(planner)
    assert failed <= set(curve.failures)
    assert int(curve.answers.target[0]) not in failed


@pytest.mark.parametrize(("disturbed_noise", "moves"), [(0.05, True), (0.00025, False)])
def test_on_a_disturbed_host_a_gain_must_be_worthwhile(disturbed_noise: float, moves: bool) -> None:
    """0.4 % faster, surely so: a reason to move, but not beside a neighbour.

    The same noise of 1 % is taken for a quiet host's and for a disturbed one's: under the noise
    of a real neighbour 0.4 % wouldn't be sure in the first place. The queried point is the only
    slow one of 33: every contestant is that much faster. (Not each race moves even when left to
    itself: some see first that 0.5 % are out of reach.)
    """
    settings = replace(RACE, confirm=replace(CONFIRM, disturbed_noise=disturbed_noise))
    truth = np.full(33, 1e-4)
    truth[0] /= 0.996
    moved = 0
    for seed in range(5):
        device = SyntheticDevice(truth, noise=0.006, spikes=0, drift=0, seed=seed)
        planner = RacePlanner(spec_above((100,), "race", seed=seed), settings)
        device.run(planner)
        moved += curve_from(planner).answers.target[0] != 0
    assert moved >= 3 if moves else moved == 0


@pytest.mark.parametrize("call_s", [2e-6, 1e-5, 1e-4])
def test_a_look_outlasts_a_hosts_states(call_s: float) -> None:
    """All points but the queried one are a fifth faster, which few pairs would show at once. Yet
    they are looked at for 15 ms, even if calling each of the 1,089 points once takes 2 ms."""
    truth = np.full(33 * 33, call_s)
    truth[0] *= 1.25
    grid = Grid.window((100, 100), (32, 32))
    planner = RacePlanner(SweepSpec(workload=LINEAR.describe(), mode="race", grid=grid))
    SyntheticDevice(truth, noise=0.005, spikes=0, drift=0).run(planner)
    [confirming] = [stage for stage in planner.stages if stage.name == "confirm"]
    assert confirming.kept
    # The planner knows beforehand what visits take, not to the microsecond.
    assert confirming.seconds > 0.012


def test_confirmation_uses_samples_taken_after_the_choice() -> None:
    """The published ratio must come from the confirming rounds alone."""
    spec = spec_above((100,), "race")
    truth = np.full(33, 1e-4)
    truth[12] = 0.9e-4
    planner = create_planner(spec)
    device = SyntheticDevice(truth, noise=0, spikes=0, drift=0)
    # Confirming batches hold two points, each once a round.
    while (batch := planner.next_batch()) is not None:
        confirming = set(batch.point.tolist()) == {0, 12} and len(batch.point) == 2 * len(
            set(batch.round.tolist())
        )
        if confirming:
            device.latency_s = np.where(np.arange(33) == 12, 0.95e-4, truth)
        planner.record(device.measure(batch))
    curve = curve_from(planner)
    assert curve.answers.ratio[0] == pytest.approx(0.95)
