"""The model of `benchmarks.advise`: 200 layers of 20 distinct shapes, as pruning leaves them.

Seven stages of ten MLP blocks, and three stages of ten blocks of two convolutions; a stage needs no
other. `lhp advise` imports it.
"""

from __future__ import annotations

import os

import torch
from torch import nn

# Shapes: B batch, W width, C channels, R rows and columns of an image.

MLPS = ((197, 789), (245, 611), (317, 1197), (384, 1531), (413, 1003), (509, 1277), (601, 901))
"""Width and hidden width of each stage of MLPs."""
CONVOLUTIONS = ((37, 61), (83, 97), (121, 150))
"""Channels of the first and the second convolution of each stage."""
BLOCKS = 10
BATCH, IMAGES, SIDE = 64, 4, 16
NUM_STAGES = int(os.environ.get("ADVISED_STAGES", len(MLPS) + len(CONVOLUTIONS)))
"""So many stages the model has: fewer to try the benchmark."""


class Stages(nn.Module):
    """Stages beside each other; each gets an input of its own."""

    def __init__(self) -> None:
        super().__init__()
        mlps = [
            [nn.Sequential(nn.Linear(w, n), nn.ReLU(), nn.Linear(n, w)) for _ in range(BLOCKS)]
            for w, n in MLPS
        ]
        images = [
            [
                nn.Sequential(nn.Conv2d(c, d, 3, padding=1), nn.ReLU(), nn.Conv2d(d, c, 1))
                for _ in range(BLOCKS)
            ]
            for c, d in CONVOLUTIONS
        ]
        stages = [nn.Sequential(*blocks) for blocks in (*mlps, *images)]
        self.stages = nn.ModuleList(stages[:NUM_STAGES])

    def forward(self, *inputs: torch.Tensor) -> list[torch.Tensor]:
        """The result of each stage."""
        return [stage(each) for stage, each in zip(self.stages, inputs, strict=True)]


def make_model() -> nn.Module:
    """The model."""
    return Stages()


def make_inputs() -> tuple[torch.Tensor, ...]:
    """An input for each stage: rows_bw, or images_bcrr."""
    rows = [torch.randn(BATCH, width) for width, _ in MLPS]
    images = [torch.randn(IMAGES, channels, SIDE, SIDE) for channels, _ in CONVOLUTIONS]
    return tuple([*rows, *images][:NUM_STAGES])
