"""Torch-Pruning's groups as widths: prunes a model to the widths that are fastest in all.

Uses Torch-Pruning (Fang et al., "DepGraph", CVPR 2023, arXiv 2301.12900) through its public
interface alone: the ratio of each group, `pruning_ratio_dict`, gives its width.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from profiler_service.advice.example import Example
from profiler_service.client import ServiceClient
from profiler_service.errors import ModelError
from profiler_service.widths.candidates import WINDOW, find_candidates
from profiler_service.widths.search import Found, find_widths
from profiler_service.widths.structure import Group

MakePruner = Callable[[nn.Module, dict[nn.Module, float]], Any]
"""Makes the user's pruner of a model, with this `pruning_ratio_dict` besides its own settings."""


@dataclass(frozen=True, kw_only=True)
class PruningGroup:
    """A group of Torch-Pruning: what is pruned together."""

    name: str
    """Name of the layer whose outputs are pruned first."""
    width: int
    """Channels or units, or those of each head, before pruning."""
    target: int
    """... and as the user's pruner leaves them."""


def copy_model(model: nn.Module) -> nn.Module:
    """A copy with the gradients, which some measures of importance need."""
    copied = copy.deepcopy(model)
    for mine, theirs in zip(model.parameters(), copied.parameters(), strict=True):
        theirs.grad = None if mine.grad is None else mine.grad.clone()
    return copied


def find_groups(model: nn.Module, make_pruner: MakePruner) -> list[PruningGroup]:
    """The groups that the user's pruner prunes, and to which widths, in its order.

    The model itself stays as it is. Raises ModelError if the pruner prunes nothing.
    """
    copied = copy_model(model)
    pruner = make_pruner(copied, {})
    names = {module: name for name, module in copied.named_modules()}
    roots = {names[root]: (root, share) for root, share in _find_roots(pruner) if root in names}
    before = {name: _width(root) // share for name, (root, share) in roots.items()}
    pruner.step()
    found = [
        PruningGroup(name=name, width=before[name], target=_width(root) // share)
        for name, (root, share) in roots.items()
    ]
    pruned = [group for group in found if group.target < group.width]
    if not pruned:
        raise ModelError(
            "the pruner leaves every width as it is",
            hint="give it a pruning_ratio above 0, and layers that aren't ignored",
        )
    return pruned


def prune_to(
    model: nn.Module,
    make_pruner: MakePruner,
    groups: Mapping[str, int],
    widths: Mapping[str, int],
) -> nn.Module:
    """A copy of the model, with each group pruned to its width; `groups` are their widths now.

    A model in torch.channels_last stays so. Raises ModelError if the pruner prunes to other widths.
    """
    copied = copy_model(model)
    modules = dict(copied.named_modules())
    # Half a unit, so that rounding down in the pruner meets the width.
    ratios = {modules[name]: 1 - (widths[name] + 0.5) / now for name, now in groups.items()}
    pruner = make_pruner(copied, ratios)
    shares = dict(_find_roots(pruner))
    pruner.step()
    for name, width in widths.items():
        found = _width(modules[name]) // shares.get(modules[name], 1)
        if found != width:
            raise ModelError(
                f"the pruner left {found} of {name}, and not {width}",
                hint="let make_pruner pass the ratios it gets to pruning_ratio_dict, without"
                " round_to",
            )
    if any(lies_channels_last(each) for each in model.parameters()):
        copied = copied.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return copied


def lies_channels_last(weight: torch.Tensor) -> bool:
    """Whether the weight of a convolution lies in memory as torch.channels_last."""
    is_so = weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last)
    return is_so and not weight.is_contiguous()


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """A pruned model, and how its widths were found."""

    model: nn.Module
    found: Found


def prune_to_fastest(
    client: ServiceClient,
    model: nn.Module,
    make_pruner: MakePruner,
    example: Example,
    *,
    params: tuple[float, float] | None = (0.98, 1.02),
    window: float = WINDOW,
    time_s: float = 120.0,
    host: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Pruned:
    """The model pruned to the widths with which it runs the example fastest.

    `make_pruner(model, ratios)` gives the user's pruner of a model. Its `pruning_ratio_dict` has
    the `ratios` besides its own entries. Its other settings say what to prune, and how much: the
    widths that it would leave are the targets.

    The widths lie within `window` of the targets, and never above the widths now. `params` bounds
    the number of parameters, relative to that at the targets. With None, no width is below its
    target, and the number of parameters is free: each group gets the latency hysteresis point of
    its layers together.

    Takes about `time_s` seconds. If nothing is faster than the targets, the model at the targets
    is returned. The model given stays as it is. Raises ModelError, NoChoiceError, and the client's
    errors.
    """
    pruned = find_groups(model, make_pruner)
    now = {group.name: group.width for group in pruned}
    groups = [
        Group(
            name=group.name,
            width=group.target,
            candidates=find_candidates(
                group.target,
                lowest=group.target if params is None else None,
                highest=group.width,
                window=window,
            ),
        )
        for group in pruned
    ]

    def make(widths: Mapping[str, int]) -> nn.Module:
        return prune_to(model, make_pruner, now, widths)

    targets = make({group.name: group.target for group in pruned})
    number = sum(each.numel() for each in targets.parameters())
    fewest, most = (1.0, math.inf) if params is None else params
    found = find_widths(
        client,
        make,
        groups,
        example,
        fewest=fewest * number,
        most=most * number,
        time_s=time_s,
        host=host,
        say=say,
    )
    return Pruned(model=make(found.best.widths), found=found)


def _find_roots(pruner: Any) -> list[tuple[nn.Module, int]]:
    """The first layer of each group, and how many heads or groups of channels share its outputs."""
    graph = pruner.DG
    found = []
    for group in graph.get_all_groups(
        ignored_layers=pruner.ignored_layers, root_module_types=pruner.root_module_types
    ):
        shares = [1]
        for item in group:
            prunes_outputs = graph.is_out_channel_pruning_fn(item.dep.handler)
            divided = pruner.out_channel_groups if prunes_outputs else pruner.in_channel_groups
            shares += [divided[each] for each in [item.dep.target.module] if each in divided]
        found.append((group[0].dep.target.module, max(shares)))
    return found


def _width(module: nn.Module) -> int:
    """Number of a layer's outputs."""
    for name in ("out_channels", "out_features", "hidden_size", "embedding_dim"):
        value = getattr(module, name, None)
        if isinstance(value, int):
            return value
    raise ModelError(f"a {type(module).__name__} has no number of outputs")
