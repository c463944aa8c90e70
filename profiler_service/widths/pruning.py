"""Torch-Pruning's groups as widths: prunes a model to the widths that are fastest in all.

Uses Torch-Pruning (Fang et al., "DepGraph", CVPR 2023, arXiv 2301.12900) through its public
interface alone: the ratio of each group, `pruning_ratio_dict`, gives its width.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from profiler_service.advice.example import Example
from profiler_service.advice.loading import describe_raised
from profiler_service.advice.running import run_on
from profiler_service.client import ServiceClient
from profiler_service.errors import ModelError
from profiler_service.widths.candidates import WINDOW, find_candidates
from profiler_service.widths.search import Found, Search
from profiler_service.widths.structure import Group

MakePruner = Callable[[nn.Module, dict[nn.Module, float]], Any]
"""Makes the user's pruner of a model, with this `pruning_ratio_dict` besides its own settings."""
Finish = Callable[[nn.Module], object]
"""Corrects a model that was pruned, such as a number of heads or features that it keeps itself."""


@dataclass(frozen=True, kw_only=True)
class PruningGroup:
    """A group of Torch-Pruning: what is pruned together."""

    name: str
    """Name of the layer whose outputs are pruned first."""
    layers: tuple[str, ...]
    """Names of the layers whose outputs are pruned together, that one first."""
    width: int
    """Channels or units before pruning: of each head, if heads share them, or of each group."""
    target: int
    """... and as the user's pruner leaves them."""


def copy_model(model: nn.Module) -> nn.Module:
    """A copy with the gradients, which some measures of importance need."""
    copied = copy.deepcopy(model)
    for mine, theirs in zip(model.parameters(), copied.parameters(), strict=True):
        theirs.grad = None if mine.grad is None else mine.grad.clone()
    return copied


def find_groups(model: nn.Module, make_pruner: MakePruner) -> list[PruningGroup]:
    """The groups that the user's pruner may prune, and to which widths, in its order.

    The model itself stays as it is. Raises ModelError if the pruner prunes nothing or fails.
    """
    copied = copy_model(model)
    pruner = _make(make_pruner, copied, {})
    names = {module: name for name, module in copied.named_modules()}
    roots = [each for each in _find_roots(pruner) if each.layers[0] in names]
    before = [root.width(pruner) for root in roots]
    _step(pruner)
    found = [
        PruningGroup(
            name=names[root.layers[0]],
            layers=tuple(names[each] for each in root.layers if each in names),
            width=width,
            target=root.width(pruner),
        )
        for root, width in zip(roots, before, strict=True)
    ]
    if all(group.target == group.width for group in found):
        raise ModelError(
            "the pruner leaves every width as it is",
            hint="give it a pruning_ratio above 0, and layers that aren't ignored",
        )
    return found


def prune_to(
    model: nn.Module,
    make_pruner: MakePruner,
    groups: Sequence[PruningGroup],
    widths: Mapping[str, int],
    *,
    finish: Finish | None = None,
) -> nn.Module:
    """A copy of the model, with each group pruned to its width in `widths`; the others to targets.

    A model in torch.channels_last stays so. Raises ModelError if the pruner fails, or prunes to
    other widths.
    """
    copied = copy_model(model)
    modules = dict(copied.named_modules())
    wanted = {group.name: widths.get(group.name, group.target) for group in groups}
    ratios = {
        # Half a unit, so that rounding down in the pruner meets the width.
        modules[name]: max(0.0, 1 - (wanted[group.name] + 0.5) / group.width)
        for group in groups
        for name in group.layers
    }
    pruner = _make(make_pruner, copied, ratios)
    if not getattr(pruner, "head_pruning_ratio", 0):
        # Each group has a ratio of its own. A common threshold would prune ties as well.
        pruner.global_pruning = False
    names = {module: name for name, module in modules.items()}
    roots = {names[each.layers[0]]: each for each in _find_roots(pruner) if each.layers[0] in names}
    _step(pruner)
    for name, width in wanted.items():
        found = roots[name].width(pruner)
        if found != width:
            raise ModelError(
                f"the pruner left {found} of {name}, and not {width}",
                hint="let make_pruner pass the ratios that it gets to pruning_ratio_dict, after"
                " entries of your own, and give no round_to",
            )
    was_training = {name: each.training for name, each in model.named_modules()}
    for name, each in modules.items():
        each.training = was_training[name]
    if any(lies_channels_last(each) for each in model.parameters()):
        copied = copied.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if finish is not None:
        finish(copied)
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
    finish: Finish | None = None,
    host: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Pruned:
    """The model pruned to the widths with which it runs the example fastest.

    `make_pruner(model, ratios)` gives the user's pruner of a model. Its `pruning_ratio_dict` has
    the `ratios` besides its own entries. Its other settings say what to prune, and how much: the
    widths that it would leave, after all of its steps, are the targets. `finish` is called with
    each pruned model: for models that keep a size of their own, such as that of a head.

    The widths lie within `window` of the targets, and never above the widths now. `params` bounds
    the number of parameters, relative to that at the targets. With None, no width is below its
    target, and the number of parameters is free: each group gets the latency hysteresis point of
    its layers together.

    Takes about `time_s` seconds. If nothing is faster than the targets, the model at the targets
    is returned. The model given stays as it is. Raises ModelError, NoChoiceError, and the client's
    errors.
    """
    problem = run_on(model, example).problem
    if problem is not None:
        raise problem
    found_groups = find_groups(model, make_pruner)
    pruned = [group for group in found_groups if group.target < group.width]
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
        return prune_to(model, make_pruner, found_groups, widths, finish=finish)

    targets = make({group.name: group.target for group in pruned})
    problem = run_on(targets, example).problem
    if problem is not None:
        raise ModelError(
            f"the pruned model doesn't run: {problem}",
            hint="if it keeps a size of its own, such as that of a head, correct it in finish",
        )
    fewest, most = (1.0, math.inf) if params is None else params
    search = Search(client, make, groups, example, time_s=time_s, host=host, say=say)
    number = search.num_parameters_now
    found = search.find_fastest(fewest=fewest * number, most=most * number)
    return Pruned(model=make(found.best.widths), found=found)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Root:
    """Where a group begins, and how its width is counted."""

    layers: tuple[nn.Module, ...]
    """Those whose outputs are pruned, the root first."""
    counted: nn.Module
    counts_outputs: bool
    """Whether the width is that of the outputs of `counted`, or of its inputs."""
    divided: tuple[tuple[Mapping[nn.Module, int], nn.Module], ...]
    """Where it stands how many heads or groups share the width. Pruning heads changes it."""

    def width(self, pruner: Any) -> int:
        """Channels or units of one head or group."""
        graph = pruner.DG
        read = graph.get_out_channels if self.counts_outputs else graph.get_in_channels
        return int(read(self.counted)) // max([1, *(number[each] for number, each in self.divided)])


def _find_roots(pruner: Any) -> list[_Root]:
    """The groups, as the pruner ranks their units: of each head, or of each group of channels.

    The outputs of a layer that makes queries, keys and values together are three times as many, and
    those of shared keys are fewer: so the inputs of the layer after attention are counted.
    """
    graph = pruner.DG
    types = tuple(pruner.root_module_types)
    found = []
    for group in graph.get_all_groups(
        ignored_layers=pruner.ignored_layers, root_module_types=pruner.root_module_types
    ):
        root = group[0].dep.target.module
        layers: dict[nn.Module, None] = {root: None}
        divided = []
        after = None
        for item in group:
            layer = item.dep.target.module
            prunes_outputs = graph.is_out_channel_pruning_fn(item.dep.handler)
            numbers = pruner.out_channel_groups if prunes_outputs else pruner.in_channel_groups
            if layer in numbers:
                divided.append((numbers, layer))
            if isinstance(layer, types):
                if prunes_outputs:
                    layers[layer] = None
                else:
                    after = layer
        has_heads = any(layer in pruner.num_heads for layer in layers)
        found.append(
            _Root(
                layers=tuple(layers),
                counted=after if has_heads and after is not None else root,
                counts_outputs=not has_heads or after is None,
                divided=tuple(divided),
            )
        )
    return found


def _make(make_pruner: MakePruner, model: nn.Module, ratios: dict[nn.Module, float]) -> Any:
    """The user's pruner of the model. Raises ModelError if it isn't about this model."""
    try:
        pruner = make_pruner(model, ratios)
    except Exception as error:
        hint = "look at what it does with the model and the ratios that it gets"
        raise describe_raised("make_pruner", error, hint=hint) from error
    if not all(hasattr(pruner, name) for name in ("DG", "step", "model", "ignored_layers")):
        raise ModelError(
            f"make_pruner gives a {type(pruner).__name__}, no pruner of Torch-Pruning",
            hint="return torch_pruning.pruner.BasePruner(model, …), or another class of its kind",
        )
    own = set(model.modules())
    named = {*pruner.ignored_layers, *pruner.num_heads, *pruner.pruning_ratio_dict}
    if pruner.model is not model or not named <= own:
        raise ModelError(
            "make_pruner makes a pruner of another model than the one that it gets",
            hint="take every layer from that argument, which is a copy: model.head, or"
            " model.get_submodule(name)",
        )
    return pruner


def _step(pruner: Any) -> None:
    """Prunes in all of the pruner's steps. Raises ModelError if it does."""
    try:
        for _ in range(pruner.iterative_steps):
            pruner.step()
    except Exception as error:
        hint = "Torch-Pruning can't prune some layers: name them in its ignored_layers"
        raise describe_raised("the pruner", error, hint=hint) from error
