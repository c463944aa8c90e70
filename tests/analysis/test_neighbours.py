"""Which samples are neighbours in time, what they say of each other, and their noise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from profiler_service.analysis.neighbours import REACH, Neighbours
from tests.analysis.series import draw_states


def pairs_of(near: Neighbours) -> set[tuple[int, int]]:
    return set(zip(near.first.tolist(), near.second.tolist(), strict=True))


def test_neighbours_are_those_within_reach_of_one_batch() -> None:
    """Visits 0, 1, 8, 9 and 17, of which the first two are 8 or less from the third.

    The second batch begins with visit 0 again: it is no neighbour of the first one's.
    """
    assert REACH == 8
    near = Neighbours(np.array([0, 0, 0, 0, 0, 1, 1]), np.array([0, 1, 8, 9, 17, 0, 4]))
    expected = {(0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (3, 4), (5, 6)}
    assert pairs_of(near) == expected
    assert len(near.first) == len(expected), "each pair once"


def test_neighbours_are_found_as_by_definition() -> None:
    rng = np.random.default_rng(0)
    batch = np.repeat([0, 1, 2, 3], [30, 1, 2, 40])
    visit = np.concatenate([np.cumsum(rng.integers(1, 4, n)) for n in (30, 1, 2, 40)])
    expected = {
        (i, j)
        for i, j in itertools.combinations(range(len(batch)), 2)
        if batch[i] == batch[j] and visit[j] - visit[i] <= REACH
    }
    assert pairs_of(Neighbours(batch, visit)) == expected


def test_neighbours_of_batches_one_after_the_other() -> None:
    assert pairs_of(Neighbours.of_lengths([2, 0, 3, 1])) == {(0, 1), (2, 3), (2, 4), (3, 4)}
    # Nine visits: only the first and the last are eight apart, which is near enough; of ten not.
    assert (0, 8) in pairs_of(Neighbours.of_lengths([10]))
    assert (0, 9) not in pairs_of(Neighbours.of_lengths([10]))


@pytest.mark.parametrize("lengths", [[], [0], [1], [1, 1, 1]])
def test_without_pairs_there_is_no_noise(lengths: list[int]) -> None:
    near = Neighbours.of_lengths(lengths)
    value = np.arange(float(sum(lengths)))
    assert not len(near.first)
    assert near.find_noise(value) is None
    assert near.pull(value, 0.01).tolist() == [0.0] * len(value)
    assert near.remove_states(value).tolist() == [0.0] * len(value), "each is all it knows"


def test_what_neighbours_say_of_a_sample() -> None:
    """Two equal samples and one a width w above: a difference d counts as d / (1 + d²/w²).

    That is 0 for equals and ± w/2 for d = w. Its slope is 1 and 0, its weight 1 and ½.
    """
    near, width = Neighbours.of_lengths([3]), 0.02
    value = np.array([5.0, 5.0, 5.02])
    assert near.differ(value) == pytest.approx([0.0, -0.02, -0.02])
    assert near.pull(value, width) == pytest.approx([-0.01, -0.01, 0.02])
    assert near.hold(value, width) == pytest.approx([1.0, 1.0, 0.0])
    assert near.weigh(value, width) == pytest.approx([1.0, 0.5, 0.5])
    only_last = np.array([False, False, True])
    assert near.hold(value, width, among=~only_last) == pytest.approx([1.0, 1.0, 0.0])
    assert near.hold(value, width, among=only_last) == pytest.approx([0.0, 0.0, 0.0], abs=1e-12)


def test_the_hold_is_how_the_pull_grows() -> None:
    """Raising one sample by h raises its own pull by h times its hold."""
    near, value = Neighbours.of_lengths([20]), 0.01 * np.random.default_rng(0).standard_normal(20)
    hold = near.hold(value, 0.01)
    for number in range(20):
        raised = value.copy()
        raised[number] += 1e-7
        grown = (near.pull(raised, 0.01) - near.pull(value, 0.01))[number] / 1e-7
        assert hold[number] == pytest.approx(grown, abs=1e-4)


def test_far_neighbours_count_little() -> None:
    """A difference of 100 widths: 100 / (1 + 100²), a hundredth of a width."""
    near = Neighbours.of_lengths([2])
    assert near.pull(np.array([1.0, 0.0]), 0.01) == pytest.approx([1e-4, -1e-4], rel=1e-3)


@pytest.mark.parametrize("has_states", [False, True])
def test_noise_is_that_within_a_state(has_states: bool) -> None:
    """Noise of 1 %. A sample is compared with 16 neighbours, which err, too: √(17/16) of it.

    Cauchy's weights take at most a tenth more of normal noise. States differ by 12 % (they are
    uniform within ± 20 %), and cost some of the neighbours: at a jump every 22 visits, and with
    neighbours 4.5 visits away, one in five. So the noise found is below twice that put in.
    """
    rng = np.random.default_rng(0)
    value = 0.01 * rng.standard_normal(4000)
    if has_states:
        value += draw_states(4000, rng, visits=(5, 40), correlation=0.0)
    noise = Neighbours.of_lengths([4000]).find_noise(value)
    assert noise is not None
    assert 0.0098 < noise.deviation < (0.02 if has_states else 0.0115)
    assert 0.003 < noise.width < 0.04


def test_states_are_removed_and_what_is_a_samples_own_stays() -> None:
    """Two batches at other levels, in which the host changes its state once, and one slow visit."""
    value = np.repeat([1.0, 3.0, 7.0], [40, 40, 40])
    value[20] += 0.5
    own = Neighbours.of_lengths([80, 40]).remove_states(value)
    expected = np.zeros(120)
    expected[20] = 0.5
    # Whose neighbours are as many of the one state as of the other has the median of both: none,
    # because a sample itself is of one of them.
    np.testing.assert_allclose(own, expected, atol=1e-12)
