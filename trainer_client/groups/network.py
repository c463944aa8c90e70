"""A network with masks: which of its weights and units live.

Knows no task and no training.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainer_client.groups.discovery import find_units
from trainer_client.groups.layout import Layout, Tensors
from trainer_client.groups.masks import Masks, apply_masks, count_weights, full_masks
from trainer_client.groups.shrinking import shrink, widen
from trainer_client.groups.surgery import set_parameters, tensors_of, with_parameters


class MaskedNetwork(nn.Module, abc.ABC):
    """A network whose weights have masks. It computes with the live weights only.

    `layout` says which weights make a unit. The weights that it names can live or not; all other
    parameters always live.
    """

    layout: Layout

    @property
    @abc.abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """The parameters that the layout names."""

    @abc.abstractmethod
    def widen(self, widths: Mapping[str, int], *, seed: int = 0) -> None:
        """Adds dead units up to these widths of axes, at least the present ones.

        `seed` is that of what reads a new unit from outside the layout, which isn't zero.
        """

    @property
    def masks(self) -> Masks:
        """Which of the weights live. When it is set, weights that die become zero."""
        return Masks(
            weights={name: self.get_buffer(_called("mask", name)) for name in self.weights},
            units={
                group.name: self.get_buffer(_called("units", group.name))
                for group in self.layout.groups
            },
        )

    @masks.setter
    def masks(self, masks: Masks) -> None:
        self.keep_masks(masks)
        self.load_weights(apply_masks(self.weights, self.masks))

    def keep_masks(self, masks: Masks) -> None:
        """As buffers, which move to another device with the network; the weights stay."""
        kept = {_called("mask", name): mask for name, mask in masks.weights.items()}
        kept |= {_called("units", name): live_u for name, live_u in masks.units.items()}
        device = next(self.parameters()).device
        for name, mask in kept.items():
            self.register_buffer(name, mask.to(device), persistent=False)

    @torch.no_grad()
    def load_weights(self, weights: Tensors) -> None:
        """Copies the weights from these."""
        for name, mine in self.weights.items():
            mine.copy_(weights[name])

    @property
    def widths(self) -> dict[str, int]:
        """The number of all units, living or not, by axis."""
        counts = self.layout.count_units(self.weights)
        return {group.dimension: counts[group.name] for group in self.layout.groups}

    @property
    def live_widths(self) -> dict[str, int]:
        """The number of live units by axis: the most of any group of it."""
        live = self.masks.count_live()
        found: dict[str, int] = {}
        for group in self.layout.groups:
            found[group.dimension] = max(found.get(group.dimension, 0), live[group.name])
        return found

    def count_live_weights(self) -> int:
        """The number of live weights of the layout's matrices; biases aren't counted."""
        return count_weights(self.layout, self.masks)


class MaskedModule(MaskedNetwork):
    """Any module as a network with masks."""

    def __init__(self, module: nn.Module, layout: Layout) -> None:
        """The module itself, not a copy. Raises LayoutError if the layout doesn't fit it."""
        super().__init__()
        self.module = module
        self.layout = layout
        layout.check(tensors_of(module))
        self.keep_masks(full_masks(layout, self.weights))

    @property
    def weights(self) -> dict[str, Tensor]:  # noqa: D102  inherited
        named = {part.parameter for _, part in self.layout.parts()}
        named |= {name for matrix in self.layout.matrices for name, _ in matrix.blocks}
        tensors: dict[str, Tensor] = dict(self.module.named_parameters())
        tensors |= dict(self.module.named_buffers())
        return {name: each for name, each in tensors.items() if name in named}

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        """What the module returns, with the live weights."""
        masks = self.masks.weights
        # Buffers stay themselves: in training, a layer changes its own.
        live = {
            name: each * masks[name]
            for name, each in self.module.named_parameters()
            if name in masks
        }
        return functional_call(self.module, live, arguments, keywords)

    @torch.no_grad()
    def widen(self, widths: Mapping[str, int], *, seed: int = 0) -> None:  # noqa: D102  inherited
        weights, masks = widen(self.layout, self.weights, self.masks, widths=widths)
        set_parameters(self.module, weights)
        self.masks = masks

    def shrunk(self, widths: Mapping[str, int] | None = None) -> nn.Module:
        """A copy of the module without dead units, that computes the same.

        `widths` of axes may be larger than the live ones. Raises InvalidRequestError if they are
        smaller.
        """
        small = shrink(self.layout, self.weights, self.masks, widths=widths)
        return with_parameters(self.module, small.weights)


def masked(module: nn.Module, *example: Any, layout: Layout | None = None) -> MaskedModule:
    """The module with masks in which everything lives; its units are found with the example.

    Raises LayoutError if it has no units.
    """
    return MaskedModule(module, layout or find_units(module, *example).layout)


def _called(what: str, name: str) -> str:
    """The name of a buffer: without dots, which torch doesn't allow in it."""
    return f"{what}_{name.replace('.', '__')}"
