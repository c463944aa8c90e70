"""Points that fail in a race: never an answer, never a fact, whenever they fail."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from profiler_service.analysis.curve import LatencyCurve
from profiler_service.analysis.samples import Samples
from profiler_service.plan.base import Batch
from profiler_service.plan.race.planner import RacePlanner
from profiler_service.plan.spec import RaceTerms
from tests.plan.asking import curve_from, spec_above
from tests.synthetic import SyntheticDevice, smooth

BEST = 12


@dataclass
class FailingDevice(SyntheticDevice):
    """A device on which the point BEST fails once it was visited so often."""

    visits_of_best: int = 0
    fails_after: int = 1_000_000

    def measure(self, batch: Batch) -> Samples:
        self.failing = frozenset({BEST} if self.visits_of_best >= self.fails_after else ())
        self.visits_of_best += int(np.count_nonzero(batch.point == BEST))
        return super().measure(batch)


def race(fails_after: int) -> tuple[RacePlanner, LatencyCurve, FailingDevice]:
    """A race over 33 points, of which BEST is 10 % faster than the queried one, and no other is."""
    spec = replace(spec_above((100,), "race"), terms=RaceTerms(margin=0.001))
    truth = smooth(spec.grid)
    truth[BEST] = 0.9 * truth[0]
    device = FailingDevice(truth, noise=0.02, spikes=0, drift=0, fails_after=fails_after)
    planner = RacePlanner(spec)
    device.run(planner)
    return planner, curve_from(planner), device


def test_the_fastest_point_is_the_answer_if_it_never_fails() -> None:
    _, curve, _ = race(1_000_000)
    assert int(curve.answers.target[0]) == BEST
    assert curve.grid.dims(BEST) in [pair.rival for pair in curve.confirmed]


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7])
def test_a_point_that_fails_at_any_time_is_neither_answer_nor_fact(share: float) -> None:
    """It fails after that share of the visits that it has in a race in which it never fails."""
    _, _, device = race(1_000_000)
    planner, curve, _ = race(int(share * device.visits_of_best))
    assert BEST in planner._failures
    assert int(curve.answers.target[0]) == 0, "nothing else is faster"
    assert curve.answers.rival is not None and int(curve.answers.rival[0]) != BEST
    assert curve.grid.dims(BEST) not in [pair.rival for pair in curve.confirmed]


def test_a_point_that_fails_after_its_final_is_neither_answer_nor_fact() -> None:
    """As in a second contest, which visits again what the first final has confirmed."""
    planner, curve, _ = race(1_000_000)
    assert int(curve.answers.target[0]) == BEST
    planner._failures[BEST] = "out of memory"
    left = curve_from(planner)
    assert int(left.answers.target[0]) == 0
    assert left.evidence.settled is False and left.evidence.margin is None
    assert curve.grid.dims(BEST) not in [pair.rival for pair in left.confirmed]


def test_comparisons_of_too_few_pairs_are_no_facts() -> None:
    """They have no interval, so nobody could combine them with others."""
    planner, curve, _ = race(1_000_000)
    assert curve.confirmed
    planner._finals = [
        (
            final,
            replace(
                judgement,
                comparisons={
                    point: replace(each, low=0.0, high=np.inf, verdict="ambiguous")
                    for point, each in judgement.comparisons.items()
                },
            ),
        )
        for final, judgement in planner._finals
    ]
    assert curve_from(planner).confirmed == ()
