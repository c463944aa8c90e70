"""Padded weights as safetensors, with the way back among their metadata.

    module = load_padded(Network(), "padded.safetensors")   # wider layers, the same function

A file that a run exported stays one: what reads it reads the padded model.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from trainer_client.export import BASELINE, ModelFileError
from trainer_client.files import make_directory, write_whole
from trainer_client.groups.padding import Padded
from trainer_client.groups.surgery import with_parameters
from trainer_client.groups.undo import UndoMap, make_undo_map, undo_padding

M = TypeVar("M", bound=nn.Module)

PADDED = "lhp-padded-1"
"""The format of a file that holds a user's own module."""
_KEY = "lhp"


def write_padded(
    padded: Padded[Any], path: Path, *, description: Mapping[str, Any] | None = None
) -> None:
    """Returns once the padded weights are on disk, with their undo map. Raises FileError.

    The `description` is that of the exported file that was padded, if it was one.
    """
    undo = make_undo_map(padded.layout, padded.widths)
    tensors = {name: each.detach() for name, each in padded.module.state_dict().items()}
    _write(path, tensors, {**(description or {"format": PADDED}), "undo": undo})


def undo_file(path: Path, out: Path) -> dict[str, tuple[list[int], list[int]]]:
    """Writes the file's weights without the units that were added, to `out`.

    Returns the shapes before and now of those that changed. Raises ModelFileError, FileError, and
    LayoutError if the map doesn't fit the weights.
    """
    tensors, description = read_weights(path)
    undo: UndoMap = description.pop("undo", {})
    if not undo:
        raise ModelFileError(
            f"{path} has no undo map", hint="give a file that `lhp-train pad --out` has written"
        )
    with _explaining(path):
        small = undo_padding(tensors, undo)
    _write(out, small, description)
    return {name: (list(tensors[name].shape), list(small[name].shape)) for name in undo}


def load_padded(module: M, path: str | os.PathLike[str]) -> M:
    """A copy of the module with the weights in the file, and the sizes that they have.

    Raises ModelFileError if the file isn't of this module.
    """
    tensors, _ = read_weights(Path(path))
    if missing := sorted(set(module.state_dict()) ^ set(tensors)):
        raise ModelFileError(
            f"{path} and the module differ: {missing[0]}", hint="give the module that was padded"
        )
    return with_parameters(module, tensors)


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors in the file, and what it says of them. Raises ModelFileError."""
    with _explaining(path), safe_open(path, framework="pt") as file:
        description = json.loads((file.metadata() or {}).get(_KEY, "{}"))
        if not isinstance(description, dict):
            raise ValueError("its description is no object")
        return {name: file.get_tensor(name) for name in file.keys()}, description  # noqa: SIM118


@contextlib.contextmanager
def _explaining(path: Path) -> Iterator[None]:
    """In this context, an error of the file becomes a ModelFileError."""
    try:
        yield
    except (OSError, SafetensorError, AttributeError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"{path} can't be read as a model: {error}", hint="give a file of safetensors"
        ) from error


def _write(path: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    make_directory(path.parent)
    told = dict(description)
    if told.get("format") == BASELINE:
        told["embedding_width"] = tensors["table_ve"].shape[1]
    # Clones: safetensors takes no tensors that share memory, as tied weights do.
    copies = {name: each.cpu().contiguous().clone() for name, each in tensors.items()}
    write_whole(path, save(copies, {_KEY: json.dumps(told)}))
