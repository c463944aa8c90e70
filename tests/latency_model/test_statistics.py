"""Sums of what visits say, and how old ones are forgotten."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from profiler_service.latency_model.settings import LearningSettings
from profiler_service.latency_model.statistics import Statistics, add_up


def statistics_of(number: int, *, num_sweeps: float = 1.0) -> Statistics:
    """Statistics of two features and one window, all of that number."""
    return Statistics(
        matrix=np.full((2, 2), float(number)),
        right=np.full(2, 10.0 * number),
        num_visits=100.0 * number,
        num_sweeps=num_sweeps,
        windows=np.full((1, 1, 2), number, dtype=np.int64),
    )


def windows_of(statistics: Statistics) -> list[int]:
    return [int(window[0, 0]) for window in statistics.windows]


def test_statistics_add_up_to_the_same_in_any_order() -> None:
    sums = [
        add_up([statistics_of(number) for number in order], 2, 1)
        for order in itertools.permutations((1, 2, 4))
    ]
    for each in sums:
        # 1 + 2 + 4 = 7 of everything
        assert each.matrix.tolist() == [[7, 7], [7, 7]]
        assert each.right.tolist() == [70, 70]
        assert (each.num_visits, each.num_sweeps) == (700, 3)
        assert sorted(windows_of(each)) == [1, 2, 4]


def test_of_no_visits() -> None:
    empty = add_up([], 2, 1)
    assert empty.matrix.tolist() == [[0, 0], [0, 0]]
    assert empty.windows.shape == (0, 1, 2)
    followed = empty.followed_by(statistics_of(3))
    assert followed.matrix.tolist() == statistics_of(3).matrix.tolist()
    assert (followed.num_visits, followed.num_sweeps) == (300, 1)


def test_a_sweep_counts_half_after_a_half_life_of_sweeps() -> None:
    """With a half life of 2: after two sweeps 1/2, after four 1/4. Those since: 1/√2 each."""
    settings = LearningSettings(half_life=2.0)
    known = statistics_of(8)
    for expected in (8 / 2**0.5, 4.0, 4 / 2**0.5, 2.0):
        known = known.followed_by(statistics_of(0), settings)
        assert known.right == pytest.approx([10 * expected] * 2)
        assert known.matrix == pytest.approx(np.full((2, 2), expected))
        assert known.num_visits == pytest.approx(100 * expected)
    # 1/4 of the first, and of the last four 1, 2^-½, 2^-1, 2^-1½
    weights = [0.5 ** (number / 2) for number in range(5)]
    assert known.num_sweeps == pytest.approx(sum(weights))


def test_the_number_of_sweeps_converges() -> None:
    """To 1 / (1 - 2^(-1/h)): 4.0 for h = 2.41. Nothing grows for ever."""
    settings = LearningSettings(half_life=2.41)
    known = statistics_of(1)
    for _ in range(200):
        known = known.followed_by(statistics_of(1), settings)
    assert known.num_sweeps == pytest.approx(1 / (1 - 0.5 ** (1 / 2.41)))
    assert known.num_visits == pytest.approx(100 * known.num_sweeps)


def test_what_said_nothing_makes_nothing_be_forgotten() -> None:
    """Sweeps count, and no clock: a host that measures nothing for a year knows what it knew."""
    known = statistics_of(8)
    after = known.followed_by(Statistics.empty(2, 1), LearningSettings(half_life=1.0))
    assert after.matrix.tolist() == known.matrix.tolist()
    assert after.num_sweeps == known.num_sweeps


def test_sweeps_that_were_added_up_are_forgotten_as_if_they_came_one_by_one() -> None:
    """The older part alike; the newer ones don't forget each other when they come together."""
    settings = LearningSettings(half_life=3.0)
    one_by_one = statistics_of(8)
    for _ in range(3):
        one_by_one = one_by_one.followed_by(statistics_of(0), settings)
    at_once = statistics_of(8).followed_by(add_up([statistics_of(0)] * 3, 2, 1), settings)
    assert at_once.right == pytest.approx(one_by_one.right)
    assert at_once.right == pytest.approx([40, 40])


def test_the_newest_windows_are_remembered() -> None:
    settings = LearningSettings(windows=3)
    known = Statistics.empty(2, 1)
    for number in range(1, 6):
        known = known.followed_by(statistics_of(number), settings)
    assert windows_of(known) == [3, 4, 5]


def test_a_share_of_statistics() -> None:
    half = statistics_of(4).scaled(0.5)
    assert half.matrix.tolist() == [[2, 2], [2, 2]]
    assert half.right.tolist() == [20, 20]
    assert (half.num_visits, half.num_sweeps) == (200, 0.5)
    assert windows_of(half) == [4]
