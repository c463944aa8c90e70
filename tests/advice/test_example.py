"""Examples of every form, and models that are compiled, scripted, lazy or without data."""

from __future__ import annotations

import dataclasses
from collections import UserDict
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from profiler_service.advice.example import Example, arrange_example
from profiler_service.advice.layers import find_layers, inspect_model
from tests.advice.test_layers import describe, params_of


class TakesTwo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 6)

    def forward(self, tokens: torch.Tensor, mask: object = None) -> torch.Tensor:
        result: torch.Tensor = self.layer(tokens)
        return result


class TakesBatch(TakesTwo):
    def forward(self, batch: object) -> torch.Tensor:  # type: ignore[override]
        tokens = getattr(batch, "tokens", None)
        return super().forward(batch["tokens"] if tokens is None else tokens)  # type: ignore[index]


class TakesPair(TakesTwo):
    def forward(self, pair: tuple[torch.Tensor, object]) -> torch.Tensor:  # type: ignore[override]
        return super().forward(pair[0])


class TakesAny(TakesTwo):
    def forward(self, *args: object, **kwargs: object) -> torch.Tensor:
        return super().forward(*args, **kwargs)  # type: ignore[arg-type]


@dataclasses.dataclass
class Batch:
    tokens: torch.Tensor
    mask: int = 3


class NamedBatch(NamedTuple):
    tokens: torch.Tensor
    mask: int = 3


TOKENS = torch.zeros(4, 5)
BY_NAME = {"tokens": TOKENS, "mask": 3}


@pytest.mark.parametrize(
    ("model", "value", "form"),
    [
        (TakesTwo(), TOKENS, "one"),
        (TakesTwo(), (TOKENS, 3), "several"),
        (TakesTwo(), [TOKENS], "several"),
        (TakesTwo(), BY_NAME, "names"),
        (TakesTwo(), UserDict(BY_NAME), "names"),
        (TakesTwo(), Batch(TOKENS), "names"),
        (TakesTwo(), NamedBatch(TOKENS), "names"),
        (TakesBatch(), BY_NAME, "one"),
        (TakesBatch(), UserDict(BY_NAME), "one"),
        (TakesBatch(), Batch(TOKENS), "one"),
        (TakesBatch(), NamedBatch(TOKENS), "one"),
        (TakesPair(), (TOKENS, 3), "one"),
        (TakesAny(), BY_NAME, "names"),
        (TakesAny(), (TOKENS, 3), "several"),
        (TakesAny(), TOKENS, "one"),
    ],
)
def test_examples_of_every_form(model: nn.Module, value: object, form: str) -> None:
    example = arrange_example(value, model)
    if form == "names":
        assert example.kwargs == BY_NAME and not example.args
    elif form == "several":
        assert example.args == tuple(value) and not example.kwargs  # type: ignore[arg-type]
    else:
        assert len(example.args) == 1 and example.args[0] is value and not example.kwargs
    [found] = find_layers(model, batch=16, steps=70, example=example)
    assert params_of(found)["batch"] == 4


def test_a_packed_sequence_is_one_argument() -> None:
    packed = pack_sequence([torch.zeros(4, 5), torch.zeros(2, 5)])
    example = arrange_example(packed, nn.GRU(5, 6))
    assert len(example.args) == 1 and isinstance(example.args[0], PackedSequence)
    [found] = find_layers(nn.GRU(5, 6), batch=16, steps=70, example=example)
    assert (params_of(found)["batch"], params_of(found)["steps"]) == (2, 4)


def test_a_model_without_data_runs_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Embedding(10**6, 10**4), nn.LSTM(10**4, 10**4))
    [words, states] = find_layers(
        model, batch=16, steps=70, example=Example(args=(torch.zeros(7, 2, dtype=torch.long),))
    )
    assert (params_of(words)["batch"], words.num_parameters) == (14, 10**10)
    assert (params_of(states)["batch"], params_of(states)["steps"]) == (2, 7)


def test_a_packed_sequence_is_taken_to_the_meta_device_too() -> None:
    packed = pack_sequence([torch.zeros(4, 5), torch.zeros(2, 5)])
    model = nn.Sequential(nn.GRU(5, 6, device="meta"))
    [found] = find_layers(model, batch=16, steps=70, example=arrange_example(packed, model))
    assert (params_of(found)["batch"], params_of(found)["steps"]) == (2, 4)


def test_a_model_with_some_data_needs_the_example_where_it_has_it() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.Linear(6, 7, device="meta"))
    found = inspect_model(model, batch=16, steps=70, example=arrange_example(TOKENS, model))
    assert "the model, run on the example input, raised" in str(found.problem)


def test_a_lazy_model_has_its_sizes_after_the_run() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(6))
    before = find_layers(model, batch=16, steps=70)
    assert [each.num_parameters for each in before] == [0, 0]
    assert all("give an --example" in each.problem for each in before)
    images = torch.zeros(2, 3, 5, 5)
    after = find_layers(model, batch=16, steps=70, example=Example(args=(images,)))
    # 4 channels of 3 · 3 pixels.
    assert describe(after) == [("0", "conv2d", (4, 3)), ("2", "linear", (6, 36))]
    assert [each.num_parameters for each in after] == [4 * 27 + 4, 36 * 6 + 6]
    assert not any(each.notes for each in after)


def test_a_model_in_bfloat16() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.Linear(6, 7)).to(torch.bfloat16)
    example = Example(args=(torch.zeros(4, 5, dtype=torch.bfloat16),))
    found = find_layers(model, batch=16, steps=70, example=example)
    assert [params_of(each)["dtype"] for each in found] == ["bfloat16"] * 2


def test_compiled_models_are_looked_into_and_compile_nothing() -> None:
    compiled: list[object] = []

    def compile_nothing(graph: object, inputs: object) -> object:
        compiled.append(graph)
        raise AssertionError

    block = torch.compile(nn.Sequential(nn.Linear(5, 6)), backend=compile_nothing)
    assert isinstance(block, nn.Module)
    model = torch.compile(nn.Sequential(block, nn.Linear(6, 7)), backend=compile_nothing)
    assert isinstance(model, nn.Module)
    found = find_layers(model, batch=16, steps=70, example=arrange_example(TOKENS, model))
    assert describe(found) == [("0.0", "linear", (6, 5)), ("1", "linear", (7, 6))]
    assert {params_of(each)["batch"] for each in found} == {4}
    assert not compiled


def test_a_compiled_layer_with_a_parametrisation_is_listed_once() -> None:
    layer = torch.compile(parametrizations.weight_norm(nn.Linear(5, 6)), backend="eager")
    assert isinstance(layer, nn.Module)
    [found] = find_layers(nn.Sequential(layer), batch=16, steps=70)
    assert (found.name, found.class_name) == ("0", "nn.Linear")
    assert found.num_parameters == 30 + 6 + 6  # weights, a norm for each row, biases


# torch announces that it will drop torch.jit.
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("is_traced", [False, True])
def test_scripted_layers_are_named(is_traced: bool) -> None:
    plain = nn.Sequential(nn.Linear(5, 6))
    traced: nn.Module = torch.jit.trace(plain, TOKENS)  # type: ignore[no-untyped-call]
    scripted = traced if is_traced else torch.jit.script(plain)
    model = nn.Sequential(scripted, nn.Linear(6, 7))
    inner, last = find_layers(model, batch=16, steps=70, example=Example(args=(TOKENS,)))
    assert (inner.name, inner.class_name) == ("0.0", "Linear (scripted)")
    assert inner.problem == "scripted: give the model as it is before torch.jit"
    assert inner.num_parameters == 36 and inner.question is None
    assert describe([last]) == [("1", "linear", (7, 6))] and params_of(last)["batch"] == 4
    [only] = find_layers(scripted, batch=16, steps=70, example=arrange_example(TOKENS, scripted))
    assert only.problem == inner.problem


def test_the_modes_of_layers_and_of_torch_are_as_before() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.Dropout())
    model[1].eval()
    torch.backends.mha.set_fastpath_enabled(True)
    find_layers(model, batch=16, steps=70, example=Example(args=(TOKENS,)))
    assert (model.training, model[0].training, model[1].training) == (True, True, False)
    assert torch.backends.mha.get_fastpath_enabled()
    assert not any(each._forward_pre_hooks for each in model.modules())
