"""What a race gets from the host's model: what survives JSON, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.plan.learned import Learned
from profiler_service.plan.spec import SweepSpec
from tests.plan.predicting import learn_nothing, predict

GRID = Grid.window((100, 200), (2, 1))
SPEC = SweepSpec(workload=LINEAR.describe(), mode="race", grid=GRID)
LEARNED = Learned(effects=((0.0, -0.02, 0.01), (0.0, 0.03)), pair=predict((101, 200)))


@pytest.mark.parametrize("distance", [0.25, math.inf])
@pytest.mark.parametrize("half_width", [0.03, None])
def test_what_was_learned_survives_json(distance: float, half_width: float | None) -> None:
    pair = replace(LEARNED.pair, distance=distance, half_width=half_width)
    spec = replace(SPEC, learned=replace(LEARNED, pair=pair))
    # Databases refuse JSON with infinities.
    assert SweepSpec.from_json(json.loads(json.dumps(spec.to_json(), allow_nan=False))) == spec


def test_nothing_learned_is_no_field() -> None:
    assert "learned" not in SPEC.to_json()
    assert Learned.from_json(None) is None


def test_what_was_learned_makes_no_other_request() -> None:
    assert replace(SPEC, learned=LEARNED).key == SPEC.key


@pytest.mark.parametrize(
    "effects",
    [((0.0,) * 3, (0.0,) * 3), ((0.0,) * 2, (0.0,) * 2), ((0.0,) * 3,)],
    ids=["a longer axis", "a shorter axis", "an axis less"],
)
def test_effects_must_fit_their_window(effects: tuple[tuple[float, ...], ...]) -> None:
    with pytest.raises(ValueError, match=r"learned effects of .* values, for \(3, 2\)"):
        replace(SPEC, learned=replace(LEARNED, effects=effects))


@pytest.mark.parametrize("dims", [(101,), (103, 200), (99, 200), (101, 200, 1)])
def test_the_predicted_point_must_be_in_the_window(dims: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="which isn't in the window"):
        replace(SPEC, learned=replace(LEARNED, pair=predict(dims)))


def test_a_guide_must_fit_beside_what_was_learned_too() -> None:
    with pytest.raises(ValueError, match="a guide"):
        replace(SPEC, learned=LEARNED, guide=((0.0,), (0.0,)))
    assert replace(SPEC, learned=learn_nothing(GRID, (102, 201)), guide=LEARNED.effects)
