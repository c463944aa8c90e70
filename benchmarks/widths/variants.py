"""The contenders of each model: original, pruned, rounded, and at the widths that we choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning
from torch import nn

from benchmarks.widths.models import (
    BertLike,
    GptLike,
    MobileNetLike,
    ResNetLike,
    TwoLayerLstm,
)
from profiler_service.advice.example import Example
from profiler_service.client import ServiceClient
from profiler_service.widths.candidates import find_candidates
from profiler_service.widths.pruning import prune_to_fastest
from profiler_service.widths.search import Found, Search
from profiler_service.widths.structure import Group

RATIO = 0.37
"""Share of the channels or units of each group that is pruned: most widths become odd."""
ROUND_TO = (4, 8, 16, 32)
PARAMS_WITHIN = 0.02
HEADS = 6


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model, and how its widths shrink."""

    name: str
    make: Callable[..., nn.Module]
    make_input: Callable[[], torch.Tensor]
    widths: Mapping[str, int] | None = None
    """Arguments of `make` that give the pruned model; None: Torch-Pruning prunes it."""
    only_grows: str = ""
    """One of the widths that the task doesn't let shrink."""


CASES = {
    "resnet": Case(
        name="ResNet-like", make=ResNetLike, make_input=lambda: torch.randn(4, 3, 32, 32)
    ),
    "mobilenet": Case(
        name="MobileNet-like", make=MobileNetLike, make_input=lambda: torch.randn(4, 3, 64, 64)
    ),
    "bert": Case(
        name="BERT-like", make=BertLike, make_input=lambda: torch.randint(0, 8192, (4, 64))
    ),
    "gpt": Case(
        name="GPT-2-like",
        make=GptLike,
        make_input=lambda: torch.randint(0, 50257, (2, 64)),
        widths={"vocabulary": 50257, "width": 373, "head_dim": 41, "hidden": 967},
        only_grows="vocabulary",
    ),
    "lstm": Case(
        name="two-layer LSTM",
        make=TwoLayerLstm,
        make_input=lambda: torch.randint(0, 10000, (35, 8)),
        widths={"hidden_1": 373, "hidden_2": 315},
    ),
}


class Contenders:
    """The models of one case in one dtype. Convolutions in bfloat16 lie in channels_last."""

    def __init__(self, case: Case, dtype: torch.dtype, device: str) -> None:
        torch.manual_seed(0)
        self._case = case
        self._dtype, self._device = dtype, device
        given = case.make_input().to(device)
        self.is_image = given.is_floating_point()
        self.input = self._lay_out(given.to(dtype)) if self.is_image else given
        self.models: dict[str, nn.Module] = {"original": self._finish(case.make())}
        if case.widths is None:
            for round_to in (None, *ROUND_TO):
                model = self._finish(case.make())
                model.load_state_dict(self.models["original"].state_dict())
                self._make_pruner(model, {}, round_to).step()
                self.models[_name(round_to)] = self._finish(model)
        else:
            for round_to in (None, *ROUND_TO):
                widths = {
                    name: _round(width, round_to or 1, up=name == case.only_grows)
                    for name, width in case.widths.items()
                }
                self.models[_name(round_to)] = self._finish(case.make(**widths))

    def add_ours(
        self,
        client: ServiceClient,
        *,
        like: str,
        time_s: float,
        say: Callable[[str], None],
    ) -> tuple[str, Found]:
        """Adds the model at the widths that we choose, with as many parameters as `like` has.

        Gives its name, and how it was found.
        """
        case = self._case
        example = Example(args=(self.input,))
        share = count(self.models[like]) / count(self.models["pruned"])
        bounds = (1 - PARAMS_WITHIN) * share, (1 + PARAMS_WITHIN) * share
        name = "ours" if like == "pruned" else f"ours like {like}"
        if case.widths is None:
            pruned = prune_to_fastest(
                client,
                self.models["original"],
                lambda model, ratios: self._make_pruner(model, ratios, None),
                example,
                params=bounds,
                time_s=time_s,
                say=say,
            )
            self.models[name] = pruned.model
            return name, pruned.found
        groups = [
            Group(
                name=argument,
                width=width,
                candidates=find_candidates(
                    width, lowest=width if argument == case.only_grows else None
                ),
            )
            for argument, width in case.widths.items()
        ]
        search = Search(
            client,
            lambda widths: self._finish(case.make(**widths)),
            groups,
            example,
            time_s=time_s,
            say=say,
        )
        number = search.num_parameters_now
        found = search.find_fastest(fewest=bounds[0] * number, most=bounds[1] * number)
        self.models[name] = self._finish(case.make(**found.best.widths))
        return name, found

    def _finish(self, model: nn.Module) -> nn.Module:
        finished: nn.Module = self._lay_out(model.to(self._dtype).to(self._device).eval())
        return finished

    def _lay_out(self, given: Any) -> Any:
        is_last = self.is_image and self._dtype is torch.bfloat16
        return given.to(memory_format=torch.channels_last) if is_last else given

    def _make_pruner(self, model: Any, ratios: dict[nn.Module, float], round_to: int | None) -> Any:
        heads = {}
        if isinstance(model, BertLike):
            attentions: list[Any] = [each.attention for each in model.blocks]
            heads = {
                layer: HEADS for each in attentions for layer in (each.query, each.key, each.value)
            }
        return torch_pruning.pruner.MetaPruner(
            model,
            self.input,
            importance=torch_pruning.importance.MagnitudeImportance(p=2),
            pruning_ratio=RATIO,
            pruning_ratio_dict=ratios,
            ignored_layers=[model.head],
            num_heads=heads,
            in_channel_groups={},
            out_channel_groups={},
            round_to=round_to,
        )


def count(model: nn.Module) -> int:
    """Number of the model's parameters."""
    return sum(each.numel() for each in model.parameters())


def _name(round_to: int | None) -> str:
    return "pruned" if round_to is None else f"round_to {round_to}"


def _round(width: int, multiple: int, *, up: bool) -> int:
    """As Torch-Pruning rounds: down to a multiple; up where a width may not shrink."""
    return -(-width // multiple) * multiple if up else max(multiple, width // multiple * multiple)
