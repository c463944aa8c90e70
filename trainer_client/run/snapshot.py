"""A model at one moment: copied from a model, copied back, or packed for a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from trainer_client.groups.masks import Masks
from trainer_client.groups.network import MaskedNetwork
from trainer_client.groups.surgery import set_parameters


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """A model at one moment."""

    weights: dict[str, Tensor]
    masks: Masks | None
    """None for a model without masks: the baseline."""
    value: float
    """The task's metric on the validation data; the worst value if it hasn't been measured."""


def take_snapshot(model: nn.Module, value: float) -> Snapshot:
    """The model as it is, on the CPU."""
    weights = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
    masks = None
    if isinstance(model, MaskedNetwork):
        masks = Masks(
            weights={name: mask.cpu().clone() for name, mask in model.masks.weights.items()},
            units={name: live_u.cpu().clone() for name, live_u in model.masks.units.items()},
        )
    return Snapshot(weights=weights, masks=masks, value=value)


def load_snapshot(model: nn.Module, snapshot: Snapshot) -> None:
    """Restores the model, which has masks if the snapshot has. It may have other widths now."""
    there = model.state_dict()
    if any(each.shape != there[name].shape for name, each in snapshot.weights.items()):
        set_parameters(model, {k: each.to(there[k].device) for k, each in snapshot.weights.items()})
    model.load_state_dict(snapshot.weights)
    if snapshot.masks is not None:
        assert isinstance(model, MaskedNetwork)
        model.masks = snapshot.masks


def pack_snapshot(snapshot: Snapshot) -> dict[str, Any]:
    """The snapshot packed for a checkpoint."""
    masks = None
    if snapshot.masks is not None:
        masks = {"weights": dict(snapshot.masks.weights), "units": dict(snapshot.masks.units)}
    return {"weights": snapshot.weights, "masks": masks, "value": snapshot.value}


def unpack_snapshot(packed: dict[str, Any]) -> Snapshot:
    """The snapshot in a checkpoint."""
    masks = None if packed["masks"] is None else Masks(**packed["masks"])
    return Snapshot(weights=packed["weights"], masks=masks, value=packed["value"])
