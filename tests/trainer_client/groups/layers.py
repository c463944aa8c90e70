"""Small H-LSTM layers in float64, and what they compute."""

from __future__ import annotations

import torch
from torch import Tensor

from profiler_service.networks import HLSTM
from trainer_client.groups.layers import HIDDEN, STATE
from trainer_client.groups.layout import Tensors
from trainer_client.groups.masks import Masks

# Shapes: K the four gates, G gate_width, S state_width.


def random_weights(
    *, input_size: int, gate_width: int, state_width: int, seed: int = 0
) -> dict[str, Tensor]:
    """Weights of such a layer, uniform within ±1."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "input_kgi": (4, gate_width, input_size),
        "recurrent_kgs": (4, gate_width, state_width),
        "hidden_bias_kg": (4, gate_width),
        "gate_ksg": (4, state_width, gate_width),
        "gate_bias_ks": (4, state_width),
    }
    return {
        name: 2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1
        for name, shape in shapes.items()
    }


def random_inputs(*, steps: int, batch: int, input_size: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(steps, batch, input_size, generator=generator, dtype=torch.float64)


def outputs(weights: Tensors, x_tbi: Tensor) -> Tensor:
    """The layer's states at all time steps, [T, B, S]."""
    _, gate_width, input_size = weights["input_kgi"].shape
    layer = HLSTM(input_size, weights["gate_bias_ks"].shape[1], gate_width, dropout=0)
    h_tbs: Tensor = torch.func.functional_call(layer, dict(weights), (x_tbi,))[0]
    return h_tbs


def live_hidden_units(masks: Masks) -> Tensor:
    """Which hidden units live, bool [K, G]."""
    return torch.stack([masks.units[name] for name in HIDDEN])


def live_states(masks: Masks) -> Tensor:
    """Which state units live, bool [S]."""
    return masks.units[STATE]


def units(*, hidden_kg: Tensor | None = None, state_s: Tensor | None = None) -> dict[str, Tensor]:
    """These units, by group."""
    found = {} if state_s is None else {STATE: state_s}
    if hidden_kg is not None:
        found |= dict(zip(HIDDEN, hidden_kg, strict=True))
    return found
