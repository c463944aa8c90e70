"""The way back from padded parameters, as plain data: a file may keep it beside them.

It needs neither the module nor its layout: for each parameter it says which indices were there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from trainer_client.groups.layout import Layout, LayoutError, Tensors

UndoMap = Mapping[str, Sequence[Mapping[str, int]]]
"""By parameter: for each axis that was padded, its number (`axis`), how many `runs` of all units it
has, how many indices `each` unit has in a run, the units `before` and `now`, and whether the
parameter was rescaled because its layer averages over units (`averaged`, 0 or 1)."""
_KEYS = {"axis", "runs", "each", "before", "now", "averaged"}


def make_undo_map(layout: Layout, widths: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """How to undo a padding of these axes, from units before to units now."""
    result: dict[str, list[dict[str, int]]] = {}
    for group, part in layout.parts():
        if group.dimension not in widths:
            continue
        before, now = widths[group.dimension]
        step = {
            "axis": part.axis,
            "runs": part.before,
            "each": part.after,
            "before": before,
            "now": now,
            "averaged": int(part.is_averaged),
        }
        steps = result.setdefault(part.parameter, [])
        if before != now and step not in steps:
            steps.append(step)
    return {name: steps for name, steps in result.items() if steps}


def undo_padding(tensors: Tensors, undo: UndoMap) -> dict[str, Tensor]:
    """The tensors with the units that there were, as these are now. Raises LayoutError.

    If the new units were trained, the narrow module computes something else than the wide one.
    """
    result = dict(tensors)
    for name, steps in undo.items():
        for step in steps:
            if name not in result or set(step) != _KEYS:
                raise LayoutError(
                    f"the undo map doesn't fit: {name} {dict(step)}",
                    hint="give the file that was written when the module was padded",
                )
            result[name] = _narrow(name, result[name], step)
    return result


def _narrow(name: str, tensor: Tensor, step: Mapping[str, int]) -> Tensor:
    axis, runs, each, before, now = (step[key] for key in ("axis", "runs", "each", "before", "now"))
    fits = 0 <= axis < tensor.dim() and tensor.shape[axis] == runs * now * each
    if not fits or not 0 < before <= now:
        raise LayoutError(
            f"{name} of shape {list(tensor.shape)} isn't what the undo map is about: {dict(step)}",
            hint="give the file that was written when the module was padded",
        )
    shape = tensor.shape
    by_unit = tensor.reshape(*shape[:axis], runs, now, each, *shape[axis + 1 :])
    narrow = by_unit.narrow(axis + 1, 0, before).flatten(axis, axis + 2).contiguous()
    return narrow * math.sqrt(now / before) if step["averaged"] else narrow
