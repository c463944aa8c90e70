"""Masks of an H-LSTM layer: they say which weights and which units are live.

A layer's masks are `HLSTMWeights` of bool tensors. A live weight takes part in the computation; a
dead or dormant one is zero. The masks of the biases say which units live: hidden unit g of gate k
if `hidden_bias_kg[k, g]`, state unit s if `gate_bias_ks[:, s]` (equal for all four gates). A dead
unit has no live weight:

- a hidden unit is one row of its gate's H (input and state part) and one column of its W;
- a state unit is one row of every gate's W, and one column of the state part of every H. It is also
a column of the next layer. But a dead state is always zero (its W and b are zero), so that column
has no effect and needs no mask.

Each gate has its own hidden units: the four H are separate matrices and share no index. All four
gates have the same number of hidden units, so the layer shrinks to four equal dense matrices (see
`shrink`).

Doesn't know why a weight lives or dies. No function changes its arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from profiler_service.errors import InvalidRequestError
from profiler_service.networks import HLSTMWeights

# Shapes: K the four gates, I input_size, G gate_width, S state_width; M rows and N columns of
# any matrix.

Masks = HLSTMWeights
"""One bool for each weight: whether it lives."""


def map_matrices(function: Callable[..., Tensor], *layers: HLSTMWeights) -> HLSTMWeights:
    """The first layer, with `function` of the layers' matrices instead of its own matrices.

    Called for each gate's whole H [G, I + S] and each gate's W [S, G]: eight times.
    """
    hidden_kgm = torch.stack(
        [
            function(*(torch.cat([w.input_kgi[k], w.recurrent_kgs[k]], 1) for w in layers))
            for k in range(len(layers[0].gate_ksg))
        ]
    )
    gate_ksg = torch.stack(
        [function(*(w.gate_ksg[k] for w in layers)) for k in range(len(layers[0].gate_ksg))]
    )
    widths = [layers[0].input_kgi.shape[2], layers[0].recurrent_kgs.shape[2]]
    input_kgi, recurrent_kgs = torch.split(hidden_kgm, widths, dim=2)
    return layers[0]._replace(
        input_kgi=input_kgi.contiguous(),
        recurrent_kgs=recurrent_kgs.contiguous(),
        gate_ksg=gate_ksg,
    )


def full_masks(weights: HLSTMWeights) -> Masks:
    """Masks in which all weights and units live."""
    return HLSTMWeights(*(torch.ones_like(weight, dtype=torch.bool) for weight in weights))


def seed_masks(weights: HLSTMWeights, *, density: float = 0.5, generator: torch.Generator) -> Masks:
    """Masks of a seed: a random share `density` of every matrix lives, and all biases live.

    `generator` is on the CPU, so that every device gets the same seed. Source: section 5.1,
    step (a): 50 % sparsity. Raises InvalidRequestError for a density outside 0 to 1.
    """
    if not 0 < density <= 1:
        raise InvalidRequestError(
            f"density={density} is outside 0 to 1", hint="half is what the paper starts from"
        )

    def draw(mask_mn: Tensor) -> Tensor:
        order = torch.randperm(mask_mn.numel(), generator=generator).to(mask_mn.device)
        return (order < round(density * mask_mn.numel())).view_as(mask_mn)

    return map_matrices(draw, full_masks(weights))


def apply_masks(weights: HLSTMWeights, masks: Masks) -> HLSTMWeights:
    """W ⊗ Msk: the weights, with zeros for dead weights."""
    return HLSTMWeights(*(w * mask for w, mask in zip(weights, masks, strict=True)))


def live_hidden_units(masks: Masks) -> Tensor:
    """Which hidden units live, bool [K, G]."""
    return masks.hidden_bias_kg


def live_states(masks: Masks) -> Tensor:
    """Which state units live, bool [S]."""
    return masks.gate_bias_ks.any(0)


def count_weights(masks: Masks) -> int:
    """The number of live weights of H and W; biases aren't counted, as in the paper."""
    matrices = (masks.input_kgi, masks.recurrent_kgs, masks.gate_ksg)
    return sum(int(mask.sum()) for mask in matrices)


def without_units(masks: Masks, *, hidden_kg: Tensor, state_s: Tensor) -> Masks:
    """The masks without these units, bool [K, G] and [S], and without their weights."""
    keep_kg, keep_s = ~hidden_kg, ~state_s
    return HLSTMWeights(
        input_kgi=masks.input_kgi & keep_kg[:, :, None],
        recurrent_kgs=masks.recurrent_kgs & keep_kg[:, :, None] & keep_s,
        hidden_bias_kg=masks.hidden_bias_kg & keep_kg,
        gate_ksg=masks.gate_ksg & keep_kg[:, None, :] & keep_s[:, None],
        gate_bias_ks=masks.gate_bias_ks & keep_s,
    )


def without_unconnected(masks: Masks) -> Masks:
    """The masks without the units that have no inputs or no outputs, and without their weights.

    A hidden unit needs a weight in its row of H and one in its column of W; a state unit needs one
    in its rows of W (the next layer is always its output). Source: section 4.1.
    """
    while True:
        has_input_kg = masks.input_kgi.any(2) | masks.recurrent_kgs.any(2)
        lonely_kg = masks.hidden_bias_kg & ~(has_input_kg & masks.gate_ksg.any(1))
        lonely_s = live_states(masks) & ~masks.gate_ksg.any(2).any(0)
        if not (lonely_kg.any() or lonely_s.any()):
            return masks
        masks = without_units(masks, hidden_kg=lonely_kg, state_s=lonely_s)


@dataclass(frozen=True, kw_only=True, eq=False)
class ShrunkLayer:
    """A smaller layer that computes the same, and the origin of its units."""

    weights: HLSTMWeights
    masks: Masks
    hidden_index_kg: Tensor
    """Its hidden unit g of gate k was unit `hidden_index_kg[k, g]`."""
    state_index_s: Tensor
    """Its state unit s was unit `state_index_s[s]`: the columns of a decoder to keep."""


def shrink(
    weights: HLSTMWeights,
    masks: Masks,
    *,
    gate_width: int | None = None,
    state_width: int | None = None,
) -> ShrunkLayer:
    """The layer without its dead units: the same outputs from smaller dense matrices.

    Units keep their order. The default of a width is the smallest one that holds every live unit.
    If the gates have different numbers of units, or a larger width is asked for, some dead units
    stay, all zero.

    Raises InvalidRequestError for a width below the number of live units, or above that of all.
    """
    hidden_index_kg = _live_first(live_hidden_units(masks), gate_width, "gate_width")
    state_index_s = _live_first(live_states(masks)[None], state_width, "state_width")[0]

    def gather(layer: HLSTMWeights) -> HLSTMWeights:
        rows = hidden_index_kg[:, :, None]
        gate_ksg = layer.gate_ksg[:, state_index_s]
        return HLSTMWeights(
            input_kgi=layer.input_kgi.take_along_dim(rows, 1),
            recurrent_kgs=layer.recurrent_kgs[:, :, state_index_s].take_along_dim(rows, 1),
            hidden_bias_kg=layer.hidden_bias_kg.take_along_dim(hidden_index_kg, 1),
            gate_ksg=gate_ksg.take_along_dim(hidden_index_kg[:, None, :], 2),
            gate_bias_ks=layer.gate_bias_ks[:, state_index_s],
        )

    return ShrunkLayer(
        weights=gather(apply_masks(weights, masks)),
        masks=gather(masks),
        hidden_index_kg=hidden_index_kg,
        state_index_s=state_index_s,
    )


def _live_first(live_rn: Tensor, width: int | None, name: str) -> Tensor:
    """For each row r, the indices of `width` units in order: the live ones, then dead ones."""
    most = int(live_rn.sum(1).max())
    width = most if width is None else width
    if not max(most, 1) <= width <= live_rn.shape[1]:
        raise InvalidRequestError(
            f"{name}={width}, but {most} of {live_rn.shape[1]} units live",
            hint="prune to that width first, or keep more",
        )
    live_before_dead = torch.argsort(~live_rn, dim=1, stable=True)
    return live_before_dead[:, :width].sort(dim=1).values
