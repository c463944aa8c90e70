"""What a race gets from the host's model, to JSON and back."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from profiler_service.grid import Grid
from profiler_service.kinds import MATMUL
from profiler_service.plan.learned import Learned, PredictedPair, effects_from_json
from profiler_service.plan.spec import SweepSpec

PAIR = PredictedPair(
    dims=(304, 320), log_ratio=-0.05, deviation=0.01, half_width=0.02, distance=0.25
)
LEARNED = Learned(effects=((0.01, -0.01), (0.0, 0.02, -0.02)), pair=PAIR)


@pytest.mark.parametrize(
    "pair",
    [
        PAIR,
        replace(PAIR, half_width=None),
        replace(PAIR, half_width=0.0, dims=(300, 300)),
        replace(PAIR, distance=math.inf),  # nothing was learned
    ],
)
def test_what_was_learned_comes_back_from_json(pair: PredictedPair) -> None:
    learned = replace(LEARNED, pair=pair)
    # PostgreSQL's JSON knows neither Infinity nor NaN.
    text = json.dumps(learned.to_json(), allow_nan=False)
    assert Learned.from_json(json.loads(text)) == learned


def test_a_pair_alone_comes_back_from_json() -> None:
    """Too little is known to start from it, but the pair is scored."""
    learned = replace(LEARNED, effects=None)
    assert Learned.from_json(json.loads(json.dumps(learned.to_json()))) == learned


def test_nothing_learned_is_none() -> None:
    assert Learned.from_json(None) is None


def test_effects_are_floats_whatever_json_had() -> None:
    effects = effects_from_json([[0, 1], [0.5]])
    assert effects == ((0.0, 1.0), (0.5,))
    assert all(isinstance(value, float) for axis in effects for value in axis)
    assert hash(effects) is not None


def test_a_spec_keeps_what_was_learned_and_is_the_same_question_without_it() -> None:
    spec = SweepSpec(
        workload=MATMUL.describe(), mode="race", grid=Grid(axes=Grid.window((300,), (1,)).axes)
    )
    learned = Learned(effects=((0.01, -0.01),), pair=replace(PAIR, dims=(301,)))
    known = replace(spec, learned=learned)
    assert SweepSpec.from_json(json.loads(json.dumps(known.to_json()))) == known
    assert SweepSpec.from_json(json.loads(json.dumps(spec.to_json()))).learned is None
    assert known.key == spec.key


def test_effects_of_other_positions_than_the_grids_are_refused() -> None:
    with pytest.raises(ValueError, match=r"effects of \[2, 3\] values, for \(2,\)"):
        SweepSpec(
            workload=MATMUL.describe(), mode="race", grid=Grid.window((300,), (1,)), learned=LEARNED
        )
