"""The guide's sample of `lhp advise` is of the guide's own model, in the form printed now."""

from __future__ import annotations

import re
from typing import Any

import pytest

from benchmarks.advise_guide import COMMAND, GUIDE, find_code, renew
from profiler_service.advice.example import arrange_example
from profiler_service.advice.layers import inspect_model
from profiler_service.cli.advice_text import HEADINGS

TEXT = GUIDE.read_text()


def test_the_sample_shows_the_layers_of_the_guides_model() -> None:
    found: dict[str, Any] = {}
    exec(find_code(TEXT), found)
    model = found["make_model"]()
    example = arrange_example(found["make_input"](), model)
    inspection = inspect_model(model, batch=1, steps=1, example=example)
    assert inspection.problem is None
    _, _, sample = TEXT.partition(f"$ {COMMAND}\n")
    headings, *rows = sample.partition("\n```")[0].splitlines()
    assert re.split(r" {2,}", headings) == list(HEADINGS)
    asked = [each.name for each in inspection.layers if not each.problem]
    assert [row.split()[0] for row in rows[: len(asked)]] == asked
    assert rows[len(asked)].startswith("not measured: 1 × nn.LayerNorm, ")
    assert rows[len(asked) + 1].startswith("in no layer: ")


def test_a_new_sample_takes_the_place_of_the_old_one() -> None:
    renewed = renew(TEXT, "A  B  \nrow  \n", "This output is from here.")
    assert f"```console\n$ {COMMAND}\nA  B\nrow\n```\n\nThis output is from here.\n\nThe" in renewed
    assert renewed.count("This output is from") == 1
    assert renew(renewed, "A  B\nrow", "This output is from here.") == renewed
    with pytest.raises(AssertionError, match="no sample"):
        renew("nothing", "A", "here")
