"""Small layers in float64, and what they compute."""

from __future__ import annotations

import torch
from torch import Tensor

from profiler_service.networks import HLSTM, HLSTMWeights


def random_weights(
    *, input_size: int, gate_width: int, state_width: int, seed: int = 0
) -> HLSTMWeights:
    """Weights of such a layer, uniform within ±1."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (
        (4, gate_width, input_size),
        (4, gate_width, state_width),
        (4, gate_width),
        (4, state_width, gate_width),
        (4, state_width),
    )
    return HLSTMWeights(
        *(2 * torch.rand(each, generator=generator, dtype=torch.float64) - 1 for each in shapes)
    )


def random_inputs(*, steps: int, batch: int, input_size: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(steps, batch, input_size, generator=generator, dtype=torch.float64)


def outputs(weights: HLSTMWeights, x_tbi: Tensor) -> Tensor:
    """The layer's states at all time steps, [T, B, S]."""
    _, gate_width, input_size = weights.input_kgi.shape
    layer = HLSTM(input_size, weights.gate_bias_ks.shape[1], gate_width, dropout=0)
    h_tbs: Tensor = torch.func.functional_call(layer, weights._asdict(), (x_tbi,))[0]
    return h_tbs
