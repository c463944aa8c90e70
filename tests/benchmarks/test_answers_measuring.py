"""The referee's own measuring: it sees what is larger, and leaves nothing behind."""

from __future__ import annotations

import gc
import os
import random

import numpy as np
import pytest

from benchmarks.answers.machine import RefereeError, measuring_conditions
from benchmarks.answers.measuring import (
    CHOICES,
    Pool,
    choose_positions,
    find_fastest,
    find_rivals,
    measure_turn,
    predict,
    time_round,
)
from benchmarks.answers.processes import open_referee


def test_a_product_64_times_as_large_is_seen_to_be_slower() -> None:
    affinity = os.sched_getaffinity(0)
    with open_referee(seconds=0.3, seed=1, processes=3) as referee:
        found = referee.measure([(64, 64), (64, 64), (512, 512)], threads=1, cpus=1)
    # 64 times the operations; a call at 64 × 64 is mostly fixed cost, so far less than 64.
    assert found.ratio((512, 512), (64, 64)).low > 3
    assert found.ratio((64, 64), (512, 512)).high < 1 / 3
    assert 0 < found.latency_s < 0.01
    # Three processes, two turns of at least two blocks each.
    assert len(found.logs) == 3 and all(len(blocks) >= 4 for blocks in found.logs)
    # The control has operands of its own: it is not 1 by definition, as a point over itself is.
    assert found.control().se > 0 == found.ratio((64, 64), (64, 64)).se
    assert os.sched_getaffinity(0) == affinity


def test_a_turn_leaves_no_measuring_conditions_behind() -> None:
    affinity = os.sched_getaffinity(0)
    turn = measure_turn([(40, 40), (40, 40)], seconds=0.01, seed=1, threads=1, cpus=1)
    assert len(turn.logs) >= 2 and turn.spread > 0
    assert os.sched_getaffinity(0) == affinity
    assert gc.isenabled()


def test_more_processors_than_there_are_is_refused() -> None:
    with (
        pytest.raises(RefereeError, match="processors"),
        measuring_conditions(threads=1, cpus=10_000),
    ):
        pass


def test_the_search_looks_at_the_first_position_and_at_multiples() -> None:
    found = choose_positions(101, 133, random.Random(1))
    # The next multiples of 2 to 64, and the other multiples of 8.
    assert {101, 102, 104, 112, 128, 120} <= set(found)
    assert found == sorted(set(found)) and found[0] == 101 and found[-1] <= 133
    assert len(choose_positions(1000, 2000, random.Random(1))) == CHOICES


def test_the_fit_predicts_points_that_were_not_seen() -> None:
    # Row 2 is 0.5 faster than row 1, column 3 by 0.2 than column 1: (2, 3) is the fastest.
    seen = [(1, 1), (1, 3), (2, 1)]
    found = predict(seen, np.array([1.0, 0.8, 0.5]), [(1, 1), (2, 3)])
    assert found == pytest.approx([1.0, 0.3])


def test_the_fastest_points_are_those_of_the_smallest_latency() -> None:
    assert find_fastest([(1, 1), (1, 2), (2, 1)], np.array([3.0, 2.0, 5.0]), 2) == [(1, 2), (1, 1)]


def test_rivals_are_larger_points_of_the_window_and_timing_ranks_them() -> None:
    conditions = {"threads": 1, "cpus": 1}
    found = find_rivals((600, 600), (632, 632), count=4, seconds=0.1, seed=1, **conditions)
    assert len(found) == len(set(found)) == 4 and (600, 600) not in found
    assert all(600 <= dim <= 632 for point in found for dim in point)
    # 900 times the operations: no noise turns these round.
    rng = random.Random(1)
    times_s = time_round([(600, 600), (20, 20)], Pool((600, 600), rng), rng)
    assert times_s[0] > times_s[1]


def test_rivals_of_a_nearest_answer_grow_less_than_it() -> None:
    conditions = {"threads": 1, "cpus": 1}
    found = find_rivals(
        (100, 100), (132, 132), count=4, seconds=0.1, seed=1, below=0.05, **conditions
    )
    # At most four units on both axes together, of a hundred each.
    assert found and all(0 < sum(point) - 200 < 5 for point in found)
