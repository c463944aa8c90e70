"""A transformer block as GPT-2 has it, in plain torch.

Source: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), whose norms
come before attention and MLP; Shazeer, "GLU Variants Improve Transformer" (2020), for the gate.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import nn
from torch.nn import functional

# Shapes: B batch, S sequence, W width, H heads, D head_dim, N hidden.

Activation = Callable[[torch.Tensor], torch.Tensor]
ACTIVATIONS: Final[Mapping[str, Activation]] = {
    "gelu": functional.gelu,
    "gelu_tanh": functools.partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
    "silu": functional.silu,
}


class MLP(nn.Module):
    """y_bw of x_bw: to hidden, activation, and back, without biases; with a gate as in Llama."""

    def __init__(
        self, width: int, hidden: int, *, activation: str = "gelu", gated: bool = False
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.up = nn.Linear(width, hidden, bias=False)
        self.gate = nn.Linear(width, hidden, bias=False) if gated else None
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x_bw: torch.Tensor) -> torch.Tensor:
        """The result y_bw."""
        y_bw: torch.Tensor = self.down(_activate(x_bw, self.activation, self.up, self.gate))
        return y_bw


def _activate(
    x: torch.Tensor, activation: Activation, up: nn.Module, gate: nn.Module | None
) -> torch.Tensor:
    """The activation of one product; of the gate's, times the other, if there is one."""
    return activation(up(x)) if gate is None else activation(gate(x)) * up(x)


class TransformerBlock(nn.Module):
    """x_bsw plus attention of its norm, plus an MLP of the norm of that sum: y_bsw."""

    def __init__(
        self, width: int, hidden: int, *, heads: int, activation: str = "gelu", gated: bool = False
    ) -> None:
        """The width must be a multiple of the heads. Raises ValueError if it isn't."""
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} can't be divided among {heads} heads")
        self.heads = heads
        self.activation = ACTIVATIONS[activation]
        self.norm_attention = nn.LayerNorm(width)
        self.in_projection = nn.Linear(width, 3 * width)
        self.out_projection = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.gate = nn.Linear(width, hidden) if gated else None
        self.down = nn.Linear(hidden, width)

    def forward(
        self, x_bsw: torch.Tensor, mask_ss: torch.Tensor | None = None, *, is_causal: bool = False
    ) -> torch.Tensor:
        """The result y_bsw; `mask_ss` is added to the scores."""
        batch, sequence, width = x_bsw.shape
        mixed = self.in_projection(self.norm_attention(x_bsw))
        query_bhsd, key_bhsd, value_bhsd = (
            each.view(batch, sequence, self.heads, width // self.heads).transpose(1, 2)
            for each in mixed.chunk(3, dim=-1)
        )
        seen_bhsd = functional.scaled_dot_product_attention(
            query_bhsd, key_bhsd, value_bhsd, attn_mask=mask_ss, is_causal=is_causal
        )
        sum_bsw = x_bsw + self.out_projection(seen_bhsd.transpose(1, 2).reshape(x_bsw.shape))
        normed_bsw = self.norm_mlp(sum_bsw)
        hidden_bsn = _activate(normed_bsw, self.activation, self.up, self.gate)
        result_bsw: torch.Tensor = sum_bsw + self.down(hidden_bsn)
        return result_bsw
