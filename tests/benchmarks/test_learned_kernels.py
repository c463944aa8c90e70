"""Votes for kernels by hand, and races whose latency only the kernel's name explains."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.learned.kernels import REACH, SAME, USUAL, KernelBasis, NamedRace, compare
from profiler_service.analysis.neighbours import Neighbours
from profiler_service.latency_model.basis import Basis
from profiler_service.latency_model.first_visits import FirstVisits
from profiler_service.workload import Dims


def test_named_points_vote_by_distance_and_by_what_divides_the_dims() -> None:
    size = Basis(1).size
    basis = KernelBasis(1, [{(64,): "b", (96,): "a"}], ["a", "b", "never"])
    rows = basis.rows(np.array([[64], [65]]))
    assert rows.shape == (2, size + 3)
    # At 64: itself, ten votes for b; 96 is log2 1.5 octaves away, and one power of two less (2⁵).
    far = np.exp(-np.log2(1.5) / REACH - 1.5)
    a, b = far + USUAL / 2, SAME + USUAL / 2
    assert rows[0, size:] == pytest.approx([a / (a + b), b / (a + b), 0.0])
    # 65 is odd: six and five powers of two away. The nearer one has more votes, but few.
    assert rows[1, size] < rows[1, size + 1] < rows[0, size + 1]


def test_nothing_named_adds_nothing() -> None:
    basis = KernelBasis(1, [], ["a"])
    assert not basis.rows(np.array([[64]]))[0, Basis(1).size :].any()


def test_a_kernel_that_nothing_else_explains_is_predicted_better_by_its_name() -> None:
    """Dims of a random half run a kernel that is 10 % slower: no class and no size says which."""
    rng = np.random.default_rng(0)
    is_slow = rng.random(400) < 0.5
    races = []
    for _ in range(12):
        dims = 300 + rng.permutation(100)
        slow = is_slow[dims]
        log = np.log(dims) + 0.1 * slow + 0.005 * rng.standard_normal(len(dims))
        visits = FirstVisits(
            points=dims[:, np.newaxis].astype(np.int64),
            log_latency=log,
            near=Neighbours.of_lengths([len(dims)]),
        )
        names: dict[Dims, str] = {
            (int(dim),): "slow" if each else "fast" for dim, each in zip(dims, slow, strict=True)
        }
        races.append(NamedRace(visits=visits, names=names))
    without, with_names, told = (each.mean() for each in compare(races).values())
    assert with_names < 0.8 * without
    assert told <= 1.05 * with_names
