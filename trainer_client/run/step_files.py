"""The end of each step of a run, as a file: a run can begin with it, in another directory, too.

    run/steps/growth.lhp

It has the configuration, the logs so far and the step's model with its masks, but nothing of a
descent: it is several times smaller than a checkpoint. Weights are kept in the dtype in which the
task computes with them, masks in one bit each. So a lost machine costs no more than a step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer_client.groups.masks import Masks
from trainer_client.run.snapshot import Snapshot

STEPS = "steps"
"""The directory of these files in that of a run."""


def step_file(directory: Path, step: str) -> Path:
    """The file of a step of the run in the directory."""
    return directory / STEPS / f"{step}.lhp"


def pack_small(snapshot: Snapshot, dtype: torch.dtype) -> dict[str, Any]:
    """The snapshot packed for such a file: float32 weights in `dtype`."""
    masks = None
    if snapshot.masks is not None:
        kinds = {"weights": snapshot.masks.weights, "units": snapshot.masks.units}
        masks = {
            kind: {name: _pack(mask) for name, mask in each.items()} for kind, each in kinds.items()
        }
    weights = {
        name: each.to(dtype) if each.dtype == torch.float32 else each
        for name, each in snapshot.weights.items()
    }
    return {"weights": weights, "masks": masks, "value": snapshot.value}


def unpack_small(packed: dict[str, Any]) -> Snapshot:
    """The snapshot in such a file."""
    masks = None
    if packed["masks"] is not None:
        kinds = {
            kind: {name: _unpack(mask) for name, mask in each.items()}
            for kind, each in packed["masks"].items()
        }
        masks = Masks(**kinds)
    weights = {
        name: each.float() if each.is_floating_point() and each.dtype != torch.float64 else each
        for name, each in packed["weights"].items()
    }
    return Snapshot(weights=weights, masks=masks, value=packed["value"])


def _pack(mask: Tensor) -> dict[str, Any]:
    bits = np.packbits(mask.flatten().numpy())
    return {"shape": list(mask.shape), "bits": torch.from_numpy(bits)}


def _unpack(packed: dict[str, Any]) -> Tensor:
    shape = packed["shape"]
    count = int(np.prod(shape))
    bits = np.unpackbits(packed["bits"].numpy(), count=count).astype(bool)
    return torch.from_numpy(bits).view(shape)
