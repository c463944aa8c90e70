"""Which sizes change together, in which steps, and the best width of each group; all by hand."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from torch import nn

from profiler_service.advice.example import Example
from profiler_service.client import ServiceClient
from profiler_service.errors import ModelError
from profiler_service.widths.structure import Group, LayerSizes, Number
from profiler_service.widths.tied import Tied, TiedGroup, find_tied
from profiler_service.widths.widening import widen_each
from tests.processes.fake_worker import wait_until
from tests.widths.pruned_models import (
    Encoder,
    Recurrent,
    Residual,
    Separable,
    images,
    sentences,
)


def find(model: nn.Module, given: torch.Tensor) -> Tied:
    return find_tied(model, Example(args=(given,)))


def sizes_of(tied: TiedGroup) -> dict[str, list[str]]:
    """The sizes of each layer that follow the width, by the layer's name."""
    return {layer.name: list(layer.sizes) for layer in tied.layers}


def by_name(found: Tied) -> dict[str, TiedGroup]:
    return {each.group.name: each for each in found.groups}


def test_a_residual_stream_is_one_group() -> None:
    found = find(Residual(), images())
    groups = by_name(found)
    assert sizes_of(groups["stem"]) == {
        "stem": ["out_channels"],
        "conv1": ["in_channels"],
        "conv2": ["out_channels"],
        "head": ["in_features"],
    }
    assert sizes_of(groups["conv1"]) == {"conv1": ["out_channels"], "conv2": ["in_channels"]}
    assert groups["conv1"].left_out == ("norm1",)
    # 25 % above 20 are 25, and above 12 are 15: so few are all tried.
    assert groups["stem"].group.candidates == (20, 21, 22, 23, 24, 25)
    assert groups["conv1"].group.candidates == (12, 13, 14, 15)
    # The task fixes the classes.
    (head,) = found.kept
    assert (head.name, head.width) == ("head", 5)
    assert head.reason == "it is the size of the model's output"


def test_a_group_is_asked_with_all_others_as_they_are_now() -> None:
    """Though each one is shrunk in turn to see what follows it."""
    stem, conv1 = (by_name(find(Residual(), images()))[name] for name in ("stem", "conv1"))
    (between,) = (layer for layer in conv1.layers if layer.name == "conv1")
    assert dict(between.fixed)["in_channels"] == stem.group.width == 20
    (between,) = (layer for layer in stem.layers if layer.name == "conv1")
    assert dict(between.fixed)["out_channels"] == conv1.group.width == 12


@pytest.mark.parametrize(
    ("fused", "name", "width", "step", "factor"),
    [(False, "attention.value", 32, 4, 1), (True, "attention.qkv", 96, 12, 3)],
)
def test_heads_share_a_width(fused: bool, name: str, width: int, step: int, factor: int) -> None:
    attention = by_name(find(Encoder(fused=fused), sentences()))[name]
    assert (attention.group.width, attention.multiple_of) == (width, step)
    # Four heads of 8, 9 or 10; queries, keys and values together are three times as many.
    assert attention.group.candidates == tuple(4 * factor * size for size in (8, 9, 10))
    layers = {layer.name: layer for layer in attention.layers}
    assert layers["attention"].sizes["head_dim"].over((0,), [3]).tolist() == [8, 9, 10]
    after = layers["attention.output"].sizes["in_features"]
    assert after.over((0,), [3]).tolist() == [32, 36, 40]


def test_an_mlp_and_the_stream_around_it() -> None:
    groups = by_name(find(Encoder(), sentences()))
    assert sizes_of(groups["up"]) == {"up": ["out_features"], "down": ["in_features"]}
    assert set(sizes_of(groups["down"])) == {
        *("tokens", "head", "up", "down"),
        *(f"attention.{name}" for name in ("query", "key", "value", "output")),
    }


def test_depthwise_and_grouped_convolutions() -> None:
    groups = by_name(find(Separable(), images()))
    assert sizes_of(groups["depthwise"]) == {
        "stem": ["out_channels"],
        "depthwise": ["channels"],
        "point": ["in_channels"],
    }
    # Four groups of channels, on both sides of a convolution.
    for name, candidates in (("grouped", (24, 28)), ("point", (32, 36, 40))):
        assert groups[name].multiple_of == 4
        assert groups[name].group.candidates == candidates
    assert sizes_of(groups["point"]) == {"point": ["out_channels"], "grouped": ["in_channels"]}


def test_an_lstm_is_fed_by_a_group() -> None:
    groups = by_name(find(Recurrent(), torch.randn(3, 2, 10)))
    assert sizes_of(groups["second"]) == {"second": ["out_features"], "lstm": ["input_size"]}


class Shared(nn.Module):
    """A language model whose head has the embedding's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(50, 24)
        self.mix = nn.Linear(24, 24)
        self.head = nn.Linear(24, 50, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens_bt: torch.Tensor) -> torch.Tensor:
        x_bte = self.tokens(tokens_bt)
        logits: torch.Tensor = self.head(x_bte + self.mix(x_bte))
        return logits


def test_a_shared_weight_stays_shared() -> None:
    """Else the head would no longer be measured as one that shares its weight."""
    (stream,) = find(Shared(), sentences()).groups
    assert {layer.name: layer.kind for layer in stream.layers} == {
        "tokens": "embedding",
        "mix": "linear",
        "head": "lm_head",
    }


class Rigid(nn.Module):
    """It takes no other number of features than 8."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(4, 8), nn.Linear(8, 6)
        self.last = nn.Linear(6, 3)

    def forward(self, x_be: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.last(self.norm(self.first(x_be).view(len(x_be), 8)))
        return logits


def test_a_width_that_the_model_insists_on_is_kept_and_the_rest_is_asked() -> None:
    found = find(Rigid(), torch.randn(2, 4))
    kept = {each.name: each.reason for each in found.kept}
    assert kept["first"].startswith("the model runs at no other width: shape '[2, 8]' is invalid")
    (norm,) = found.groups
    assert sizes_of(norm) == {"norm": ["out_features"], "last": ["in_features"]}
    assert dict(norm.layers[0].fixed)["in_features"] == 8


def test_a_width_without_larger_ones_near_it_is_kept() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    found = find(model, torch.randn(2, 4))
    assert found.groups == ()
    assert found.kept[0].reason == "no larger multiple of 1 lies within 25% of it"


def test_a_model_without_data() -> None:
    with torch.device("meta"):
        model = Encoder()
    found, real = find(model, sentences()), find(Encoder(), sentences())
    assert [each.group for each in found.groups] == [each.group for each in real.groups]
    assert len(found.groups) == 3


def test_the_model_itself_stays_as_it_is() -> None:
    model = Encoder().train()
    before = copy.deepcopy(model.state_dict())
    find(model, sentences())
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_without_torch_pruning_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(ModelError, match="isn't installed") as caught:
        find(Residual(), images())
    assert caught.value.hint == "pip install torch-pruning"


def test_an_example_that_the_model_does_not_take() -> None:
    with pytest.raises(ModelError, match="the model, run on the example input, raised"):
        find(Residual(), torch.randn(2, 4, 8, 8))


# The best width of each group


def linear(name: str, first: int, sizes: dict[str, Sequence[int]], **fixed: Any) -> LayerSizes:
    return LayerSizes(
        name=name,
        kind="linear",
        fixed=tuple(sorted({"batch": 4, "dtype": "float32", "bias": "yes", **fixed}.items())),
        sizes={
            key: Number(now=first, changes={0: np.array(change)}) for key, change in sizes.items()
        },
    )


def test_a_real_service_measures_the_layers_of_each_group(real_service: str) -> None:
    wait_until(lambda: httpx.get(f"{real_service}/readyz").status_code == 200)
    model = nn.Sequential(nn.Linear(48, 61), nn.ReLU(), nn.Linear(61, 48))
    tied = find(model, torch.randn(8, 48))
    # A layer that is larger than what the service measures.
    impossible = TiedGroup(
        group=Group(name="huge", width=64, candidates=(64, 128)),
        multiple_of=64,
        layers=(linear("huge", 64, {"out_features": [0, 64]}, in_features=10**9),),
        left_out=(),
    )
    with ServiceClient(real_service) as client:
        hidden, huge = widen_each(client, [*tied.groups, impossible], time_s=3.0)
    assert hidden.now_s is not None and hidden.chosen_s is not None
    assert 0 < hidden.chosen_s <= hidden.now_s < 1
    assert hidden.width in hidden.tied.group.candidates
    assert (hidden.chosen_s < 0.99 * hidden.now_s) == (hidden.width != 61)
    assert (huge.width, huge.now_s, huge.chosen_s) == (64, None, None)
    assert [each.names for each in huge.missing] == [("huge",)]
