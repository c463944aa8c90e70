"""The five models: what people build today, small enough for a CPU."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

# Shapes: B batch, C channels, R rows and columns of an image, T tokens, E width, H heads, D width
# of a head.


class _ResidualBlock(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x_bcrr: torch.Tensor) -> torch.Tensor:
        inner = functional.relu(self.norm1(self.conv1(x_bcrr)))
        return functional.relu(self.norm2(self.conv2(inner)) + self.shortcut(x_bcrr))


class ResNetLike(nn.Module):
    """ResNet-18's body for images of 32 x 32 (He et al., 2016): 64 to 512 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()
        )
        widths = (64, 64, 128, 256, 512)
        blocks = []
        for stage in range(4):
            blocks.append(_ResidualBlock(widths[stage], widths[stage + 1], 1 if stage == 0 else 2))
            blocks.append(_ResidualBlock(widths[stage + 1], widths[stage + 1], 1))
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(512, 10)

    def forward(self, x_bcrr: torch.Tensor) -> torch.Tensor:
        """The logits."""
        logits_bc: torch.Tensor = self.head(self.blocks(self.stem(x_bcrr)).mean((2, 3)))
        return logits_bc


class _InvertedResidual(nn.Module):
    def __init__(self, before: int, after: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = before * expansion
        self.is_residual = stride == 1 and before == after
        self.layers = nn.Sequential(
            nn.Conv2d(before, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU6(),
            nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU6(),
            nn.Conv2d(inner, after, 1, bias=False),
            nn.BatchNorm2d(after),
        )

    def forward(self, x_bcrr: torch.Tensor) -> torch.Tensor:
        y_bcrr: torch.Tensor = self.layers(x_bcrr)
        return x_bcrr + y_bcrr if self.is_residual else y_bcrr


class MobileNetLike(nn.Module):
    """MobileNetV2's inverted residuals (Sandler et al., 2018) for images of 64 x 64."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6()
        )
        blocks = []
        before = 32
        for after, number, stride in ((24, 2, 1), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2)):
            for place in range(number):
                blocks.append(_InvertedResidual(before, after, stride if place == 0 else 1, 6))
                before = after
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Sequential(
            nn.Conv2d(before, 640, 1, bias=False), nn.BatchNorm2d(640), nn.ReLU6()
        )
        self.head = nn.Linear(640, 10)

    def forward(self, x_bcrr: torch.Tensor) -> torch.Tensor:
        """The logits."""
        y_bcrr = self.last(self.blocks(self.stem(x_bcrr)))
        logits_bc: torch.Tensor = self.head(y_bcrr.mean((2, 3)))
        return logits_bc


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, head_dim: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.query, self.key, self.value = (nn.Linear(width, heads * head_dim) for _ in range(3))
        self.output = nn.Linear(heads * head_dim, width)

    def forward(self, x_bte: torch.Tensor) -> torch.Tensor:
        batch, tokens, _ = x_bte.shape
        query, key, value = (
            each(x_bte).view(batch, tokens, self.heads, -1).transpose(1, 2)
            for each in (self.query, self.key, self.value)
        )
        seen_bhtd = functional.scaled_dot_product_attention(
            query, key, value, is_causal=self.causal
        )
        y_bte: torch.Tensor = self.output(seen_bhtd.transpose(1, 2).reshape(batch, tokens, -1))
        return y_bte


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, head_dim: int, hidden: int, causal: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = _Attention(width, heads, head_dim, causal)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x_bte: torch.Tensor) -> torch.Tensor:
        x_bte = x_bte + self.attention(self.norm1(x_bte))
        y_bte: torch.Tensor = self.down(functional.gelu(self.up(self.norm2(x_bte))))
        return x_bte + y_bte


class BertLike(nn.Module):
    """An encoder of six blocks, 384 wide: heads of 64, MLPs of 1536 (Devlin et al., 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(8192, 384)
        self.blocks = nn.Sequential(*(_Block(384, 6, 64, 1536, False) for _ in range(6)))
        self.head = nn.Linear(384, 2)

    def forward(self, tokens_bt: torch.Tensor) -> torch.Tensor:
        """The logits."""
        logits_bc: torch.Tensor = self.head(self.blocks(self.tokens(tokens_bt)).mean(1))
        return logits_bc


class GptLike(nn.Module):
    """A decoder of six blocks, 384 wide, whose head shares the embedding (Radford et al., 2019)."""

    def __init__(
        self, vocabulary: int = 50257, width: int = 384, head_dim: int = 64, hidden: int = 1536
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(128, width)
        self.blocks = nn.Sequential(*(_Block(width, 6, head_dim, hidden, True) for _ in range(6)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens_bt: torch.Tensor) -> torch.Tensor:
        """The logits."""
        places_t = torch.arange(tokens_bt.shape[1], device=tokens_bt.device)
        x_bte = self.tokens(tokens_bt) + self.places(places_t)
        logits: torch.Tensor = self.head(self.norm(self.blocks(x_bte)))
        return logits


class TwoLayerLstm(nn.Module):
    """Two LSTM layers over an embedding, with a decoder (Zaremba et al., 2014)."""

    def __init__(self, hidden_1: int = 1500, hidden_2: int = 1500, embedding: int = 400) -> None:
        super().__init__()
        self.tokens = nn.Embedding(10000, embedding)
        self.first = nn.LSTM(embedding, hidden_1)
        self.second = nn.LSTM(hidden_1, hidden_2)
        self.decoder = nn.Linear(hidden_2, 10000)

    def forward(self, tokens_tb: torch.Tensor) -> torch.Tensor:
        """The logits."""
        y_tbe, _ = self.first(self.tokens(tokens_tb))
        y_tbe, _ = self.second(y_tbe)
        logits: torch.Tensor = self.decoder(y_tbe)
        return logits
