"""The network, and what is pruned of it: what you would replace by your own.

Knows nothing of latencies or the service.
"""

from __future__ import annotations

from typing import Any

import torch
import torch_pruning
from torch import nn

# Shapes: B batch, C channels or classes, R rows and columns of an image.

PRUNED = 0.37
"""Share of the channels of each group that is pruned. It leaves odd widths: 64 become 40."""


class Block(nn.Module):
    """Two convolutions around a residual stream."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x_bcrr: torch.Tensor) -> torch.Tensor:
        """The stream after the block."""
        inner = torch.relu(self.norm1(self.conv1(x_bcrr)))
        return torch.relu(self.norm2(self.conv2(inner)) + self.shortcut(x_bcrr))


class Network(nn.Module):
    """Three blocks of `width`, twice and four times `width` channels, and ten classes."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.Sequential(
            Block(width, width, 1), Block(width, 2 * width, 2), Block(2 * width, 4 * width, 2)
        )
        self.head = nn.Linear(4 * width, 10)

    def forward(self, x_bcrr: torch.Tensor) -> torch.Tensor:
        """The logits."""
        logits_bc: torch.Tensor = self.head(self.blocks(self.stem(x_bcrr)).mean((2, 3)))
        return logits_bc


def make_images(batch: int = 4) -> torch.Tensor:
    """Images as the network sees them in use. Latencies depend on their number and size."""
    return torch.randn(batch, 3, 32, 32)


def make_pruner(model: nn.Module, ratios: dict[nn.Module, float]) -> Any:
    """Torch-Pruning's pruner by magnitude. `model` is a copy: take every layer from it."""
    return torch_pruning.pruner.BasePruner(
        model,
        make_images(),
        importance=torch_pruning.importance.MagnitudeImportance(p=2),
        pruning_ratio=PRUNED,
        pruning_ratio_dict=ratios,
        ignored_layers=[model.get_submodule("head")],
        # Torch-Pruning's defaults for these are shared by all pruners, and grow.
        in_channel_groups={},
        out_channel_groups={},
    )
