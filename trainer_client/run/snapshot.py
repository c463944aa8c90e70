"""A model at one moment: copied from a model, copied back, or packed for a checkpoint."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from trainer_client.groups.masks import Masks
from trainer_client.groups.surgery import set_parameters
from trainer_client.tasks.language_model.networks import LanguageModel, MaskedHLSTM


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """A model at one moment."""

    weights: dict[str, Tensor]
    masks: Masks | None
    perplexity: float
    """Its perplexity on the validation text; infinite if it hasn't been measured."""


def take_snapshot(model: LanguageModel, perplexity: float = math.inf) -> Snapshot:
    """The model as it is, on the CPU."""
    weights = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
    masks = None
    if isinstance(model, MaskedHLSTM):
        masks = Masks(
            weights={name: mask.cpu().clone() for name, mask in model.masks.weights.items()},
            units={name: live_u.cpu().clone() for name, live_u in model.masks.units.items()},
        )
    return Snapshot(weights=weights, masks=masks, perplexity=perplexity)


def load_snapshot(model: LanguageModel, snapshot: Snapshot) -> None:
    """Restores the model: an H-LSTM if the snapshot has masks. It may have other widths now."""
    shapes = {name: each.shape for name, each in model.named_parameters()}
    if any(each.shape != shapes[name] for name, each in snapshot.weights.items()):
        device = model.table.device
        set_parameters(model, {name: each.to(device) for name, each in snapshot.weights.items()})
    model.load_state_dict(snapshot.weights)
    if snapshot.masks is not None:
        assert isinstance(model, MaskedHLSTM)
        model.masks = snapshot.masks


def pack_snapshot(snapshot: Snapshot) -> dict[str, Any]:
    """The snapshot packed for a checkpoint."""
    masks = None
    if snapshot.masks is not None:
        masks = {"weights": dict(snapshot.masks.weights), "units": dict(snapshot.masks.units)}
    return {"weights": snapshot.weights, "masks": masks, "perplexity": snapshot.perplexity}


def unpack_snapshot(packed: dict[str, Any]) -> Snapshot:
    """The snapshot in a checkpoint."""
    masks = None if packed["masks"] is None else Masks(**packed["masks"])
    return Snapshot(weights=packed["weights"], masks=masks, perplexity=packed["perplexity"])
