"""Small models that Torch-Pruning prunes, and a pruner of them; sizes are odd on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch_pruning
from torch import nn
from torch.nn import functional

from profiler_service.widths.pruning import MakePruner

# Shapes: B batch, C channels, R rows and columns of an image, T tokens, E width, H heads, D width
# of a head.


class Residual(nn.Module):
    """A stream of 20 channels: a stem, and a block whose inside has 12."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 20, 3, padding=1)
        self.conv1 = nn.Conv2d(20, 12, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 20, 3, padding=1)
        self.head = nn.Linear(20, 5)

    def forward(self, x_bcrr: torch.Tensor) -> torch.Tensor:
        x_bcrr = self.stem(x_bcrr)
        inner = self.conv2(functional.relu(self.norm1(self.conv1(x_bcrr))))
        logits_bc: torch.Tensor = self.head((x_bcrr + inner).mean((2, 3)))
        return logits_bc


class Separable(nn.Module):
    """A depthwise convolution of 16 channels, and one of 24 in four groups."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.point = nn.Conv2d(16, 32, 1)
        self.grouped = nn.Conv2d(32, 24, 3, padding=1, groups=4)
        self.head = nn.Linear(24, 5)

    def forward(self, x_bcrr: torch.Tensor) -> torch.Tensor:
        y_bcrr = self.point(self.depthwise(self.stem(x_bcrr)))
        logits_bc: torch.Tensor = self.head(self.grouped(y_bcrr).mean((2, 3)))
        return logits_bc


class Attention(nn.Module):
    """Four heads of 8; `shared` of them have keys and values, or one layer makes all three."""

    def __init__(self, width: int = 32, *, shared: int = 4, fused: bool = False) -> None:
        super().__init__()
        self.fused, self.shared = fused, shared
        if fused:
            self.qkv = nn.Linear(width, 3 * 32)
        else:
            self.query = nn.Linear(width, 32)
            self.key, self.value = (nn.Linear(width, 8 * shared) for _ in range(2))
        self.output = nn.Linear(32, width)

    def forward(self, x_bte: torch.Tensor) -> torch.Tensor:
        batch, tokens, _ = x_bte.shape
        if self.fused:
            made = [
                each.reshape(batch, tokens, 4, -1).transpose(1, 2)
                for each in self.qkv(x_bte).chunk(3, -1)
            ]
        else:
            made = [
                layer(x_bte).view(batch, tokens, heads, -1).transpose(1, 2)
                for layer, heads in (
                    (self.query, 4),
                    (self.key, self.shared),
                    (self.value, self.shared),
                )
            ]
        query, key, value = made
        if self.shared < 4 and not self.fused:
            key, value = (each.repeat_interleave(4 // self.shared, 1) for each in (key, value))
        seen_bhtd = functional.scaled_dot_product_attention(query, key, value)
        y_bte: torch.Tensor = self.output(seen_bhtd.transpose(1, 2).reshape(batch, tokens, -1))
        return y_bte


class Encoder(nn.Module):
    """A stream 32 wide, attention, and an MLP of 48."""

    def __init__(self, **how: Any) -> None:
        super().__init__()
        self.tokens = nn.Embedding(50, 32)
        self.attention = Attention(**how)
        self.up, self.down = nn.Linear(32, 48), nn.Linear(48, 32)
        self.head = nn.Linear(32, 5)

    def forward(self, tokens_bt: torch.Tensor) -> torch.Tensor:
        x_bte = self.tokens(tokens_bt)
        x_bte = x_bte + self.attention(x_bte)
        x_bte = x_bte + self.down(functional.gelu(self.up(x_bte)))
        logits_bc: torch.Tensor = self.head(x_bte.mean(1))
        return logits_bc


class Recurrent(nn.Module):
    """An LSTM of 30 between an MLP of 24 and the head."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(10, 24), nn.Linear(24, 16)
        self.lstm = nn.LSTM(16, 30)
        self.head = nn.Linear(30, 5)

    def forward(self, x_tbe: torch.Tensor) -> torch.Tensor:
        y_tbe, _ = self.lstm(self.second(functional.relu(self.first(x_tbe))))
        logits: torch.Tensor = self.head(y_tbe)
        return logits


def images() -> torch.Tensor:
    """A batch of images of 8 x 8."""
    return torch.randn(2, 3, 8, 8)


def sentences() -> torch.Tensor:
    """A batch of tokens."""
    return torch.randint(0, 50, (2, 7))


def pruner_of(
    given: torch.Tensor,
    *,
    own: Mapping[str, float] | None = None,
    own_first: bool = True,
    heads: Mapping[str, int] | None = None,
    ignored: tuple[str, ...] = ("head",),
    importance: Any = None,
    **settings: Any,
) -> MakePruner:
    """Makes pruners by magnitude that prune 37 % of each group."""

    def make(model: nn.Module, ratios: dict[nn.Module, float]) -> Any:
        mine = {model.get_submodule(name): ratio for name, ratio in (own or {}).items()}
        return torch_pruning.pruner.BasePruner(
            model,
            given,
            importance=importance or torch_pruning.importance.MagnitudeImportance(p=2),
            pruning_ratio_dict={**mine, **ratios} if own_first else {**ratios, **mine},
            ignored_layers=[model.get_submodule(name) for name in ignored],
            num_heads={model.get_submodule(name): n for name, n in (heads or {}).items()},
            in_channel_groups={},  # Torch-Pruning's defaults are shared by all pruners
            out_channel_groups={},
            **{"pruning_ratio": 0.37, **settings},
        )

    return make
