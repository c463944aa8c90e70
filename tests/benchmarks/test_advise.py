"""The checks on runs of `lhp advise`, and the model that it advises there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.advise import NUM_LAYERS, NUM_SHAPES, Run, check, find_distinct, table_of_layers
from benchmarks.advised_model import make_inputs, make_model
from profiler_service.advice.example import arrange_example
from profiler_service.advice.layers import inspect_model


def layer(width: int, *, is_answered: bool = True) -> dict[str, Any]:
    answer = {
        "dims": [width, 8],
        "lhp": [width + 1, 8],
        "speedup": 1.1,
        "speedup_interval": [1.05, 1.15],
        "settled": True,
    }
    return {
        "kind": "linear",
        "dims": [width, 8],
        "params": {"batch": 4},
        "time_share": 0.125,
        "answer": answer if is_answered else None,
        "problem": "" if is_answered else "too large",
    }


LAYERS = [layer(width % NUM_SHAPES + 1) for width in range(NUM_LAYERS)]
FIRST = Run(
    name="first",
    seconds=50.0,
    exit_code=0,
    asked=NUM_SHAPES,
    again=2,
    races=NUM_SHAPES + 2,
    layers=LAYERS,
)
KNOWN = replace(FIRST, name="second", seconds=5.0, again=0, races=0)


def test_a_run_that_is_as_wanted_holds() -> None:
    assert all(each.holds for each in check([FIRST, KNOWN]))


@pytest.mark.parametrize(
    ("first", "known", "failing"),
    [
        (replace(FIRST, seconds=60.1), KNOWN, 0),
        (replace(FIRST, layers=[*LAYERS[1:], layer(1, is_answered=False)]), KNOWN, 1),
        (replace(FIRST, exit_code=3), KNOWN, 1),
        (replace(FIRST, asked=NUM_SHAPES + 1), KNOWN, 2),
        (FIRST, replace(KNOWN, races=1), 3),
        (FIRST, replace(KNOWN, seconds=61.0), 4),
    ],
)
def test_each_check_can_fail(first: Run, known: Run, failing: int) -> None:
    assert [number for number, each in enumerate(check([first, known])) if not each.holds] == [
        failing
    ]


def test_equal_layers_are_one_row_with_all_their_time() -> None:
    found = find_distinct([layer(5), layer(6), layer(5)])
    assert [(each["dims"], each["time_share"]) for each in found] == [
        ([5, 8], 0.25),
        ([6, 8], 0.125),
    ]
    rows = table_of_layers([layer(5), layer(5), layer(7, is_answered=False)])[2:]
    assert rows == [
        "| `linear` | 5 × 8 | 6 × 8 | 10.0 % (5.0 to 15.0 %) | yes | 25.0 % |",
        "| `linear` | 7 × 8 | – | too large | | 12.5 % |",
    ]


def test_the_model_has_that_many_layers_and_shapes() -> None:
    model = make_model()
    found = inspect_model(model, batch=1, steps=1, example=arrange_example(make_inputs(), model))
    assert found.problem is None
    questions = [each.question for each in found.layers]
    assert (len(questions), len(set(questions)), None in questions) == (200, 20, False)
    assert (NUM_LAYERS, NUM_SHAPES) == (200, 20)
