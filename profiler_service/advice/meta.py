"""Takes an example's tensors to the meta device, wherever they lie.

A model without data can be run without computing anything then. Knows no model.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

_LEFT_ALONE = (
    *(type, types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinFunctionType),
    nn.Module,
)


def take_to_meta(value: Any) -> tuple[Any, tuple[str, ...]]:
    """The value with each tensor on the meta device, and the classes of objects that stay behind.

    Tensors in containers and in objects of any class are taken. What holds them is copied, and all
    else stays what it is. An object that can't be copied stays, too, with its tensors where they
    are.
    """
    taking = _Taking()
    return taking.take(value), tuple(taking.left_behind)


class _Taking:
    def __init__(self) -> None:
        self.left_behind: dict[str, None] = {}
        self._taken: dict[int, tuple[object, object]] = {}
        """Each value by its id, and what it became. Holding the value keeps its id its own."""

    def take(self, value: Any) -> Any:
        if isinstance(value, (torch.Tensor, PackedSequence)):
            return value.to("meta")  # type: ignore[arg-type]  # torch annotates only its dtypes
        if isinstance(value, (str, bytes, int, float, complex, *_LEFT_ALONE)) or value is None:
            return value
        if id(value) not in self._taken:
            self._taken[id(value)] = value, value  # if it holds itself
            self._taken[id(value)] = value, self._take_parts(value)
        return self._taken[id(value)][1]

    def _take_parts(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            parts = [self.take(each) for each in value]
            if all(old is new for old, new in zip(value, parts, strict=True)):
                return value
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        if type(value) is dict:
            new = self._take_names(value)
            return new if any(new[name] is not each for name, each in value.items()) else value
        return self._take_object(value)

    def _take_names(self, names: Mapping[Any, Any]) -> dict[Any, Any]:
        return {name: self.take(each) for name, each in names.items()}

    def _take_object(self, value: Any) -> Any:
        """The object with what its attributes, and those of its slots, hold."""
        old = dict(getattr(value, "__dict__", {}))
        for base in type(value).__mro__:
            slots = base.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                    old[name] = getattr(value, name)
        old_items = dict(value) if isinstance(value, dict) else {}
        new, new_items = self._take_names(old), self._take_names(old_items)
        changed = {name: each for name, each in new.items() if each is not old[name]}
        if not changed and all(each is old_items[name] for name, each in new_items.items()):
            return value
        try:
            taken = copy.copy(value)
            for name, each in changed.items():
                object.__setattr__(taken, name, each)  # also of frozen dataclasses
            if new_items:
                dict.update(taken, new_items)
        except Exception:  # noqa: BLE001  whatever the user's class raises
            self.left_behind[type(value).__name__] = None
            return value
        return taken
