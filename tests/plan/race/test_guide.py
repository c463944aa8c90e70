"""Stored curves of operators as guides for races of networks."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from profiler_service.analysis.comparison import F64
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import get_workload_kind
from profiler_service.kinds.products import LINEAR
from profiler_service.plan.race.guide import covers, find_factors, guide_of
from profiler_service.plan.race.planner import RacePlanner
from profiler_service.plan.race.priors import guided_prior
from profiler_service.plan.spec import SweepSpec
from profiler_service.workload import Workload
from tests.api.curves import build_curve
from tests.synthetic import PLATFORM, PROTOCOL, SyntheticDevice

HLSTM_LM = get_workload_kind("hlstm_lm")
WINDOW = Grid(axes=(GridAxis(first=100, count=3), GridAxis(first=40, count=2)))


def test_a_product_of_all_gates_has_four_rows_for_each_of_a_gates() -> None:
    factors = find_factors(HLSTM_LM.describe(), LINEAR.describe())
    assert factors == (4, 1)
    # Rows 400, 404, 408 and columns 40, 41: steps of 1 and of 4 have them, steps of 8 don't.
    for step, count, is_covered in ((1, 9, True), (4, 3, True), (8, 3, False), (4, 2, False)):
        grid = Grid(axes=(GridAxis(first=400, count=count, step=step), WINDOW.axes[1]))
        assert covers(grid, factors, WINDOW) is is_covered


@pytest.mark.parametrize(
    ("other", "is_guide"),
    [
        (HLSTM_LM.describe({"steps": 2}), True),  # the same over fewer steps
        (get_workload_kind("hlstm").describe(), True),
        (HLSTM_LM.describe(), False),  # the very same: its curve answers by itself
        (LINEAR.describe({"batch": 8}), False),
        (LINEAR.describe({"dtype": "bfloat16"}), False),
        (LINEAR.describe({"backend": "packed"}), False),
        (LINEAR.describe({"backend": "csr", "sparsity": 0.9}), False),
        (get_workload_kind("lstm").describe(), False),
    ],
)
def test_which_curves_guide(other: Workload, is_guide: bool) -> None:
    assert (find_factors(HLSTM_LM.describe(), other) is not None) is is_guide


def test_a_sparse_network_is_guided_by_products_as_sparse() -> None:
    network = HLSTM_LM.describe({"backend": "csr", "sparsity": 0.9})
    for sparsity, is_guide in ((0.9, True), (0.5, False)):
        other = LINEAR.describe({"backend": "csr", "sparsity": sparsity})
        assert (find_factors(network, other) is not None) is is_guide


def test_products_themselves_are_raced_without_a_guide() -> None:
    assert find_factors(LINEAR.describe(), LINEAR.describe({"batch": 8})) is None


def test_a_guide_is_what_each_position_adds() -> None:
    """Rows 400, 404, 408 add 0, 0.1, 0.5 and columns 40, 41 add 0, 0.2; one point is missing."""
    rows, columns = {400: 0.0, 404: 0.1, 408: 0.5}, {40: 0.0, 41: 0.2}

    def latency_s(dims: Sequence[int]) -> float:
        return 1e-3 * float(np.exp(rows[dims[0]] + columns[dims[1]]))

    grid = Grid(axes=(GridAxis(first=400, count=3, step=4), WINDOW.axes[1]))
    guide = guide_of(build_curve(grid, latency_s, failing=[(408, 41)]), (4, 1), WINDOW)
    # Around a mean of zero: 0, 0.1, 0.5 less 0.2; 0 and 0.2 less 0.1.
    assert guide is not None
    assert guide[0] == pytest.approx((-0.2, -0.1, 0.3))
    assert guide[1] == pytest.approx((-0.1, 0.1))
    # Nothing is known of row 404.
    blank = build_curve(grid, latency_s, failing=[(404, 40), (404, 41)])
    assert guide_of(blank, (4, 1), WINDOW) is None


def test_points_beside_the_window_say_nothing_of_it() -> None:
    """Rows like 401 and column 42 are 100 times slower; the window's own points are alike."""
    grid = Grid(axes=(GridAxis(first=400, count=9), GridAxis(first=40, count=3)))

    def latency_s(dims: Sequence[int]) -> float:
        return 1e-3 if dims[0] % 4 == 0 and dims[1] < 42 else 0.1

    guide = guide_of(build_curve(grid, latency_s), (4, 1), WINDOW)
    assert guide == ((0.0,) * 3, (0.0,) * 2)


def test_growth_isnt_taken_from_a_guide() -> None:
    dims = np.arange(100, 148)
    plain, guided = guided_prior(dims, np.zeros(48)), guided_prior(dims, 3 * np.log(dims))
    for one, other in zip(plain, guided, strict=True):
        assert one == pytest.approx(other, abs=1e-9)
    # Multiples of 16 are 4 % faster in the guide: expected to be 2 % faster, give or take.
    mean, _ = guided_prior(dims, np.where(dims % 16 == 0, -0.04, 0.0))
    gain = (mean - plain[0])[dims % 16 == 0].mean() - (mean - plain[0])[dims % 16 != 0].mean()
    assert gain == pytest.approx(-0.02, abs=0.001)


def regret_of(window: Grid, truth: F64, seed: int, guide: tuple[F64, F64] | None) -> float:
    given = None if guide is None else tuple(tuple(axis.tolist()) for axis in guide)
    spec = SweepSpec(
        workload=HLSTM_LM.describe(),
        mode="race",
        grid=window,
        seed=seed,
        guide=given,
        budget_s=6.0,
    )
    device = SyntheticDevice(truth.ravel(), noise=0.01, drift=0.01, seed=seed)
    planner = RacePlanner(spec)
    device.run(planner)
    curve = planner.build_curve(PLATFORM, PROTOCOL, dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    assert curve.evidence.guided == (guide is not None)
    answer = int(curve.answers.target[0])
    assert truth.ravel()[answer] <= 1.005 * truth.ravel()[0]
    return float(truth.ravel()[answer] / truth.min() - 1)


def test_a_guide_shows_where_to_look_and_a_wrong_one_costs_no_direction() -> None:
    """Random rows and columns of 48 × 48 points are 5 % faster: nothing but an operator's curve
    would tell which. The operator has twice these effects, and noise. Calls take 20 ms, so 6 s are
    150 visits."""
    window = Grid(axes=(GridAxis(first=401, count=48), GridAxis(first=201, count=48)))
    plain, guided, misled = [], [], []
    for seed in range(16):
        rng = np.random.default_rng(seed)
        effects = []
        for _ in range(2):
            effect = np.zeros(48)
            effect[1 + rng.choice(47, size=2, replace=False)] = -0.05
            effects.append(effect)
        truth = 0.02 * np.exp(np.add.outer(*effects))
        told = tuple(2 * effect + 0.01 * rng.standard_normal(48) for effect in effects)
        wrong = tuple(rng.permutation(effect) for effect in effects)
        plain.append(regret_of(window, truth, seed, None))
        guided.append(regret_of(window, truth, seed, (told[0], told[1])))
        misled.append(regret_of(window, truth, seed, (wrong[0], wrong[1])))
    assert np.median(guided) < 0.005
    assert np.mean(guided) < 0.5 * np.mean(plain)
    assert np.mean(misled) < np.mean(plain) + 0.02


def test_a_guide_must_fit_its_window() -> None:
    spec = SweepSpec(workload=HLSTM_LM.describe(), mode="race", grid=WINDOW)
    guided = replace(spec, guide=((0.1, 0.2, 0.3), (0.1, 0.2)))
    assert guided.key == spec.key, "another guide is no other request"
    assert SweepSpec.from_json(guided.to_json()) == guided
    with pytest.raises(ValueError, match="guide"):
        replace(spec, guide=((0.1, 0.2), (0.1, 0.2)))
