"""Whole models as people build them: what is asked about each, and that its kinds take it."""

from __future__ import annotations

import collections
from pathlib import Path

import pytest
from torch import nn

from profiler_service.advice.example import arrange_example
from profiler_service.advice.layers import Inspection, inspect_model
from profiler_service.kinds import get_workload_kind
from reference_pages.markdown import table
from tests.advice.whole_models import MODELS, WholeModel

pytestmark = [
    # torch announces that it will drop these classes.
    pytest.mark.filterwarnings("ignore:.*quantiz.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*quantiz.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Lazy modules.*:UserWarning"),
]
PAGE = Path(__file__).parents[2] / "docs/advise.md"


def inspect(whole: WholeModel, model: nn.Module, *, timed: bool = False) -> Inspection:
    example = arrange_example(whole.value, model)
    return inspect_model(model, batch=16, steps=70, example=example, timed=timed)


@pytest.mark.parametrize("whole", MODELS, ids=lambda whole: whole.title)
def test_every_layer_is_asked_about_or_named_with_the_reason(whole: WholeModel) -> None:
    model = whole.make()
    found = inspect(whole, model)
    assert found.problem is None
    asked = [each for each in found.layers if each.question is not None and not each.problem]
    assert collections.Counter(each.question.kind for each in asked if each.question) == whole.kinds
    for question in {each.question for each in asked if each.question}:
        kind = get_workload_kind(question.kind)
        kind.check_point(kind.describe(dict(question.params)), question.dims)
        multiples = question.multiple_of or (1,) * len(question.dims)
        assert not any(dim % each for dim, each in zip(question.dims, multiples, strict=True))
    assert not any("doesn't reach" in note for each in found.layers for note in each.notes)
    named = {each.class_name: each.problem for each in found.layers if each.problem}
    assert named.keys() == whole.named.keys()
    assert all(reason in named[name] for name, reason in whole.named.items())


@pytest.mark.parametrize(
    "whole",
    [each for each in MODELS if "quantised" not in each.title],
    ids=lambda whole: whole.title,
)
def test_no_parameter_is_counted_twice_or_left_out(whole: WholeModel) -> None:
    model = whole.make()
    counted = sum(each.num_parameters for each in inspect(whole, model).layers)
    assert counted == sum(each.numel() for each in model.parameters())


@pytest.mark.parametrize("whole", MODELS, ids=lambda whole: whole.title)
def test_each_model_but_those_without_data_has_shares_of_time(whole: WholeModel) -> None:
    found = inspect(whole, whole.make(), timed=True)
    if "without data" in whole.title:
        assert found.shares is None and "meta" in str(found.shares_problem)
        return
    assert found.shares is not None and found.shares_problem is None
    by_layer = {
        id(each) if each.whole_name is None else each.whole_name: each.time_share
        for each in found.layers
    }
    shares = [each for each in by_layer.values() if each is not None]
    assert len(shares) == len(by_layer) and sum(shares) + found.shares.rest == pytest.approx(1)


def test_equal_layers_are_one_question() -> None:
    [whole] = (each for each in MODELS if each.title == "200 equal layers")
    found = inspect(whole, whole.make())
    assert len(found.layers) == 200 and len({each.question for each in found.layers}) == 1


def test_a_model_is_asked_about_in_its_own_dtype() -> None:
    [whole] = (each for each in MODELS if "bfloat16" in each.title)
    found = inspect(whole, whole.make())
    dtypes = {dict(each.question.params)["dtype"] for each in found.layers if each.question}
    assert dtypes == {"bfloat16"}


def test_the_page_says_of_each_model_what_is_found() -> None:
    rows = []
    for whole in MODELS:
        kinds = [f"{number} × `{kind}`" for kind, number in whole.kinds.items()]
        named = [f"{name}: {reason}" for name, reason in whole.named.items()]
        rows.append([whole.title, ", ".join(kinds), "; ".join(named), whole.remark])
    expected = table(["model", "asked about", "named as not measured", "remark"], rows)
    assert expected in PAGE.read_text(), f"write this table into {PAGE.name}:\n\n{expected}"
