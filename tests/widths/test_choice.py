"""The choice of widths, against values by hand and against trying everything."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from profiler_service.widths.choice import NoChoiceError, Table, choose, total


def unary(group: int, *values: float) -> Table:
    return Table(groups=(group,), values=np.array(values))


def test_takes_the_cheapest_of_each_group_without_bounds() -> None:
    cost = [unary(0, 3.0, 1.0, 2.0), unary(1, 5.0, 6.0)]
    assert choose([3, 2], cost) == (1, 0)


def test_keeps_within_the_bounds_on_the_weight() -> None:
    # Each group has a fast heavy candidate and a slow light one. At most 3 allows one heavy one:
    # heavy in group 1 saves 5, in group 0 only 2.
    cost = [unary(0, 1.0, 3.0), unary(1, 1.0, 6.0)]
    weight = [unary(0, 2.0, 1.0), unary(1, 2.0, 1.0)]
    assert choose([2, 2], cost, weight, high=3) == (1, 0)
    assert choose([2, 2], cost, weight, high=4) == (0, 0)
    assert choose([2, 2], cost, weight, high=2.5) == (1, 1)
    assert choose([2, 2], [unary(0, 9.0, 1.0), *cost[1:]], weight, low=4, high=4) == (0, 0)


def test_a_layer_between_two_groups_decides_for_both() -> None:
    # Alone, candidate 0 is cheaper in both groups; but the layer between them is fast only if both
    # take candidate 1: 2 + 2 + 1 = 5 against 1 + 1 + 4 = 6.
    cost = [
        unary(0, 1.0, 2.0),
        unary(1, 1.0, 2.0),
        Table(groups=(0, 1), values=np.array([[4.0, 4.0], [4.0, 1.0]])),
    ]
    assert choose([2, 2], cost) == (1, 1)
    assert total(cost, (1, 1)) == 5
    assert choose([2, 2], cost, unlike=[(1, 1)]) == (0, 0)


def test_another_choice_differs_in_as_many_groups_as_asked() -> None:
    cost = [unary(group, 0.0, 1.0 + group) for group in range(4)]
    assert choose([2] * 4, cost, unlike=[(0, 0, 0, 0)]) == (1, 0, 0, 0)
    assert choose([2] * 4, cost, unlike=[(0, 0, 0, 0)], differing=2) == (1, 1, 0, 0)
    # The first one again, and both: 1 and 3 of the remaining pairs of two is cheapest.
    both = [(0, 0, 0, 0), (1, 1, 0, 0)]
    assert choose([2] * 4, cost, unlike=both, differing=2) == (1, 0, 1, 0)
    with pytest.raises(NoChoiceError):
        choose([2] * 4, cost, unlike=[(0, 0, 0, 0)], differing=5)


def test_what_is_infinite_is_never_chosen() -> None:
    cost = [
        unary(0, math.inf, 2.0),
        Table(groups=(0, 1), values=np.array([[0.0, 0.0], [math.inf, 5.0]])),
    ]
    assert choose([2, 2], cost) == (1, 1)


def test_says_that_nothing_lies_within_the_bounds() -> None:
    with pytest.raises(NoChoiceError, match="no choice of widths"):
        choose([2], [unary(0, 1.0, 2.0)], [unary(0, 5.0, 6.0)], high=4)
    with pytest.raises(NoChoiceError):
        choose([1], [unary(0, math.inf)])
    with pytest.raises(NoChoiceError):
        choose([2], [unary(0, 1.0, 2.0)], unlike=[(0,), (1,)])


@pytest.mark.parametrize("groups", [(1, 0), (0, 0), (), (0, 1, 2)])
def test_a_table_has_one_or_two_groups_in_order(groups: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="no table"):
        Table(groups=groups, values=np.zeros((2,) * len(groups)))


@pytest.mark.parametrize("seed", range(20))
def test_finds_what_trying_everything_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 5, size=4).tolist()
    pairs = [(0, 1), (1, 2), (0, 3), (1, 2)]  # one pair twice, as two layers of one shape
    cost = [
        Table(groups=pair, values=rng.lognormal(size=(sizes[pair[0]], sizes[pair[1]])))
        for pair in pairs
    ]
    weight = [Table(groups=(g,), values=rng.lognormal(size=size)) for g, size in enumerate(sizes)]
    weight.append(Table(groups=(2, 3), values=rng.lognormal(size=(sizes[2], sizes[3]))))
    every = list(itertools.product(*(range(size) for size in sizes)))
    weights = np.array([total(weight, each) for each in every])
    low, high = np.quantile(weights, [0.3, 0.6])
    allowed = [each for each, w in zip(every, weights, strict=True) if low <= w <= high]
    best = min(total(cost, each) for each in allowed)

    found = choose(sizes, cost, weight, low=low, high=high)

    assert found in allowed
    assert total(cost, found) == pytest.approx(best, rel=2e-3)


def test_a_network_of_twenty_groups_is_solved() -> None:
    """As a real network: 8 candidates a group, layers in a row, and a residual stream."""
    rng = np.random.default_rng(1)
    sizes = [8] * 20
    width = [np.sort(rng.uniform(0.85, 1.15, size)) for size in sizes]
    pairs = [(g, g + 1) for g in range(19)] + [(0, g) for g in range(2, 20)]
    weight = [Table(groups=(a, b), values=np.outer(width[a], width[b])) for a, b in pairs]
    cost = [
        Table(groups=each.groups, values=each.values * rng.lognormal(0, 0.1, each.values.shape))
        for each in weight
    ]
    middle = len(pairs) * 1.0
    found = choose(sizes, cost, weight, low=0.98 * middle, high=1.02 * middle)
    assert 0.98 * middle <= total(weight, found) <= 1.02 * middle
    nearest = [int(np.abs(each - 1).argmin()) for each in width]
    assert total(cost, found) < total(cost, nearest)
