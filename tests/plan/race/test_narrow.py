"""Narrowing: a balanced design, then draws from a posterior, as many as there is time for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from profiler_service.plan.race.narrow import Draw, Narrowing
from profiler_service.plan.race.settings import RACE
from profiler_service.plan.race.stages import End

SHAPE = (10, 20)


class Posterior:
    """Draws these positions again and again."""

    def __init__(self, *positions: tuple[int, int]) -> None:
        self._positions = np.array(positions)
        self.counts: list[int] = []

    def draw_fastest(self, rng: np.random.Generator, count: int) -> npt.NDArray[np.intp]:
        self.counts.append(count)
        return np.resize(self._positions, (count, 2)).astype(np.intp)


def narrowing_of(allowed: int) -> Narrowing:
    return Narrowing(RACE.narrow, SHAPE, np.random.default_rng(0), allowed=allowed, few=3)


@pytest.mark.parametrize(
    ("allowed", "design"),
    [
        # 14 visits of each of 20 positions are 280; 6 of each, 120, are less than 45 % of them.
        (1000, 120),
        # 45 % of 50 are 22.5.
        (50, 23),
        # 45 % of 3 are 1.35; two at least.
        (3, 2),
        (0, 2),
    ],
)
def test_the_design_is_six_visits_a_position_or_nearly_half_of_all(
    allowed: int, design: int
) -> None:
    narrowing = narrowing_of(allowed)
    assert narrowing.wanted == 280
    assert narrowing.design_size == design
    assert len(narrowing.design()) == design


def test_the_design_visits_positions_equally_often_in_random_pairs() -> None:
    points = narrowing_of(1000).design()
    rows, columns = np.unravel_index(points, SHAPE)
    # 120 visits: 12 of each of 10 rows, 6 of each of 20 columns.
    assert np.bincount(rows).tolist() == [12] * 10
    assert np.bincount(columns).tolist() == [6] * 20
    assert len(np.unique(points)) > 60


def test_the_rest_is_drawn_in_six_batches() -> None:
    narrowing, posterior = narrowing_of(1000), Posterior((2, 5), (2, 6), (3, 5), (4, 5))
    draw = narrowing.suggest(posterior, wanted=280, left=1000)
    # (280 - 120) / 6 = 26.7
    assert isinstance(draw, Draw)
    assert posterior.counts == [27] and len(draw.points) == 27
    # Rows 2, 3, 4 of 10 and columns 5, 6 of 20; point (2, 5) is number 2 · 20 + 5.
    assert (draw.field, draw.alive, draw.is_last) == (SHAPE, (3, 2), False)
    assert draw.points[0] == 45
    again = narrowing.suggest(posterior, wanted=280, left=1000)
    assert isinstance(again, Draw) and again.field == (3, 2)


def test_noise_wants_more_visits_but_no_more_than_are_allowed() -> None:
    posterior = Posterior((0, 1))
    narrowing_of(1000).suggest(posterior, wanted=420, left=1000)  # (420 - 120) / 6
    narrowing_of(300).suggest(posterior, wanted=420, left=1000)  # (300 - 120) / 6
    narrowing_of(1000).suggest(posterior, wanted=121, left=1000)  # (121 - 120) / 6, but four
    assert posterior.counts == [50, 30, 4]


def test_nothing_is_drawn_where_a_batch_does_not_fit() -> None:
    posterior = Posterior((0, 1))
    assert narrowing_of(1000).suggest(posterior, wanted=280, left=26) is End.OUT_OF_TIME
    assert posterior.counts == []


def test_narrowing_ends_at_a_few_points_but_not_at_the_first_draw() -> None:
    narrowing, few = narrowing_of(1000), Posterior((2, 5), (2, 6), (3, 5))
    first = narrowing.suggest(few, wanted=280, left=1000)
    second = narrowing.suggest(few, wanted=280, left=1000)
    assert isinstance(first, Draw) and isinstance(second, Draw)
    assert (first.is_last, second.is_last) == (False, True)
