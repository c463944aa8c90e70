"""Narrowing: a balanced design, then draws from a posterior, as many as there is time for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from profiler_service.plan.race.narrow import Draw, Narrowing
from profiler_service.plan.race.priors import find_alignments
from profiler_service.plan.race.settings import RACE
from profiler_service.plan.race.stages import End

SHAPE = (10, 20)
DIMS = [np.arange(100, 110), np.arange(200, 220)]


class Posterior:
    """Draws these positions again and again."""

    def __init__(self, *positions: tuple[int, int]) -> None:
        self._positions = np.array(positions)
        self.counts: list[int] = []

    def draw_fastest(self, rng: np.random.Generator, count: int) -> npt.NDArray[np.intp]:
        self.counts.append(count)
        return np.resize(self._positions, (count, 2)).astype(np.intp)


def narrowing_of(allowed: int) -> Narrowing:
    return Narrowing(RACE.narrow, DIMS, np.random.default_rng(0), allowed=allowed, few=3)


@pytest.mark.parametrize(
    ("allowed", "design"),
    [
        # 8 visits of each of 20 positions are 160; 4 of each, 80, are no more than half of them.
        (1000, 80),
        # Half of 50.
        (50, 25),
        # Half of 3 are 1.5; two at least.
        (3, 2),
        (0, 2),
    ],
)
def test_the_design_is_four_visits_a_position_or_half_of_all(allowed: int, design: int) -> None:
    narrowing = narrowing_of(allowed)
    assert narrowing.wanted == 160
    assert narrowing.design_size == design
    assert len(narrowing.design()) == design


def test_the_design_visits_positions_equally_often_in_random_pairs() -> None:
    points = narrowing_of(1000).design()
    rows, columns = np.unravel_index(points, SHAPE)
    # 80 visits: 8 of each of 10 rows, 4 of each of 20 columns.
    assert np.bincount(rows).tolist() == [8] * 10
    assert np.bincount(columns).tolist() == [4] * 20
    assert len(np.unique(points)) > 40


def test_a_few_visits_have_every_alignment_of_each_axis() -> None:
    """100 … 109 have one multiple of 8 (104), one of 4 (100, 108) …; 200 … 219 one of 16 (208)."""
    for seed in range(50):
        rng = np.random.default_rng(seed)
        narrowing = Narrowing(RACE.narrow, DIMS, rng, allowed=10, few=3)
        rows, columns = np.unravel_index(narrowing.design(), SHAPE)
        assert len(rows) == 5
        # Odd, 2 (102, 106), 4 (100, 108), 8 (104): one of each, and one more of any.
        assert {4} < set(rows.tolist())
        assert {*find_alignments(DIMS[0][rows]).tolist()} == {1, 2, 4, 8}
        # Odd, 2, 4, 8 (200, 216), 16 (208): one of each.
        assert sorted(find_alignments(DIMS[1][columns]).tolist()) == [1, 2, 4, 8, 16]


def test_alignments_of_several_axes_are_paired_at_random() -> None:
    """A position of 16 meets others than the position of 8: no axis follows the other one."""
    met = set()
    for seed in range(50):
        narrowing = Narrowing(RACE.narrow, DIMS, np.random.default_rng(seed), allowed=10, few=3)
        rows, columns = np.unravel_index(narrowing.design(), SHAPE)
        met.add(int(rows[columns == 8][0]))
    assert len(met) > 5


def test_the_rest_is_drawn_in_six_batches() -> None:
    narrowing, posterior = narrowing_of(1000), Posterior((2, 5), (2, 6), (3, 5), (4, 5))
    draw = narrowing.suggest(posterior, wanted=160, left=1000)
    # (160 - 80) / 6 = 13.3
    assert isinstance(draw, Draw)
    assert posterior.counts == [14] and len(draw.points) == 14
    # Rows 2, 3, 4 of 10 and columns 5, 6 of 20; point (2, 5) is number 2 · 20 + 5.
    assert (draw.field, draw.alive, draw.is_last) == (SHAPE, (3, 2), False)
    assert draw.points[0] == 45
    again = narrowing.suggest(posterior, wanted=160, left=1000)
    assert isinstance(again, Draw) and again.field == (3, 2)


def test_noise_wants_more_visits_but_no_more_than_are_allowed() -> None:
    posterior = Posterior((0, 1))
    narrowing_of(1000).suggest(posterior, wanted=320, left=1000)  # (320 - 80) / 6
    narrowing_of(200).suggest(posterior, wanted=320, left=1000)  # (200 - 80) / 6
    narrowing_of(1000).suggest(posterior, wanted=81, left=1000)  # (81 - 80) / 6, but four
    assert posterior.counts == [40, 20, 4]


def test_nothing_is_drawn_where_a_batch_does_not_fit() -> None:
    posterior = Posterior((0, 1))
    assert narrowing_of(1000).suggest(posterior, wanted=160, left=13) is End.OUT_OF_TIME
    assert posterior.counts == []


def test_narrowing_ends_at_a_few_points_but_not_at_the_first_draw() -> None:
    narrowing, few = narrowing_of(1000), Posterior((2, 5), (2, 6), (3, 5))
    first = narrowing.suggest(few, wanted=160, left=1000)
    second = narrowing.suggest(few, wanted=160, left=1000)
    assert isinstance(first, Draw) and isinstance(second, Draw)
    assert (first.is_last, second.is_last) == (False, True)
