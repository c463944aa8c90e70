"""Builds the calls of a user's own code. Runs only in the measuring child of the user's command.

The user's function is called with the arguments of a point, and returns the callable to time. That
is made once for many visits, because making a model takes long, and then anew, at other places in
memory. The first time of each point doesn't count as time of measuring: otherwise a race of a few
seconds would be over before each of its models was made once. Later times count, so that a race
ends whose models have no room beside each other. Everything runs as in the user's own program: not
under `torch.inference_mode`.
"""

from __future__ import annotations

import inspect
import re
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from profiler_service.errors import InvalidRequestError, ModelError
from profiler_service.measurement.operations import MAX_KEPT, MAX_KEPT_BYTES, MAX_USES, Operands
from profiler_service.user_code import describe_error, find_named
from profiler_service.workload import VARY, Dims, ParamValue

_STATM: Final = Path("/proc/self/statm")
_MEMINFO: Final = Path("/proc/meminfo")
_PAGE_BYTES: Final = 4096
_OWN: Final = frozenset(("function", "source", VARY))
"""Parameters that are no arguments of the user's function."""

Call = Callable[[], object]


@dataclass(kw_only=True)
class _Kept:
    call: Call
    size_bytes: int
    num_uses: int = 0


class KeptCalls:
    """The calls that were made last. The least recently used ones are dropped first."""

    def __init__(
        self, read_used_bytes: Callable[[], int], *, limit_bytes: int = MAX_KEPT_BYTES
    ) -> None:
        """`read_used_bytes` returns how much memory this process uses."""
        self._read_used_bytes = read_used_bytes
        self._limit_bytes = limit_bytes
        self._made: set[tuple[object, ...]] = set()
        self.preparation_s = 0.0
        """Seconds that the last `get` took for a call that was never made before."""
        self._kept: OrderedDict[tuple[object, ...], _Kept] = OrderedDict()

    def get(self, key: tuple[object, ...], make: Callable[[], Call]) -> Call:
        """The result of `make`, or that of an earlier visit with an equal key."""
        self.preparation_s = 0.0
        kept = self._kept.pop(key, None)
        if kept is None or kept.num_uses == MAX_USES:
            kept = None  # frees the old one before the new one is made
            started_s, before_bytes = time.perf_counter(), self._read_used_bytes()
            call = make()
            if key not in self._made:
                self._made.add(key)
                self.preparation_s = time.perf_counter() - started_s
            kept = _Kept(call=call, size_bytes=max(0, self._read_used_bytes() - before_bytes))
        kept.num_uses += 1
        self._kept[key] = kept
        while len(self._kept) > 1 and (
            len(self._kept) > MAX_KEPT
            or sum(each.size_bytes for each in self._kept.values()) > self._limit_bytes
        ):
            self._kept.popitem(last=False)
        return kept.call


def _read_used_bytes() -> int:
    # 0 as long as nobody has used CUDA.
    return torch.cuda.memory_allocated() + int(_STATM.read_text().split()[1]) * _PAGE_BYTES


def _find_limit_bytes() -> int:
    """Room for kept calls: an eighth of the memory that is free, as there are several children."""
    free = re.search(r"MemAvailable: *([0-9]+) kB", _MEMINFO.read_text())
    free_bytes = 1024 * int(free[1]) if free else 0
    if torch.cuda.is_available():
        free_bytes = min(free_bytes, torch.cuda.mem_get_info()[0])
    return max(MAX_KEPT_BYTES, free_bytes // 8)


_calls: Final[weakref.WeakKeyDictionary[Operands, KeptCalls]] = weakref.WeakKeyDictionary()
"""One for each `Operands`: the child makes a new one when memory has run out."""


def build(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    """The callable that the user's function returns for the arguments of this point.

    Raises ModelError, which says what is wrong with the function.
    """
    where = str(params["function"])
    arguments = {name: int(value) for name, value in params.items() if name not in _OWN}
    key = (where, *sorted(arguments.items()))
    if operands not in _calls:
        _calls[operands] = KeptCalls(_read_used_bytes, limit_bytes=_find_limit_bytes())
    calls = _calls[operands]
    call = calls.get(key, lambda: make_call(where, arguments))
    operands.preparation_s = calls.preparation_s
    operands.are_kept = True
    return call


def make_call(where: str, arguments: Mapping[str, int]) -> Call:
    """What `where` ("module:function") returns for these arguments. Raises ModelError."""
    shown = ", ".join(f"{name}={value}" for name, value in arguments.items())
    function = find_function(where)
    if told := _find_lazy(function):
        raise ModelError(f"{where} is {told}: it builds nothing when it is called")
    try:
        call = function(**arguments)
    except Exception as error:
        raise _describe(f"{where}({shown})", error) from error
    except SystemExit as error:  # it would end this process
        raise _describe(f"{where}({shown})", error) from error
    if not callable(call):
        raise ModelError(
            f"{where}({shown}) returned an object of type {type(call).__name__}, which can't be"
            " called"
        )
    if told := _find_lazy(call):
        raise ModelError(
            f"{where}({shown}) returned {told}: it does nothing when it is called. Return a plain"
            " function"
        )
    return _Checked(call, f"what {where}({shown}) returned")


def _find_lazy(function: Callable[..., object]) -> str:
    """What kind of function does nothing when it is called; empty if it isn't of such a kind."""
    method = getattr(type(function), "__call__", None)  # noqa: B004  not whether, but which
    for each in (function, method):
        if inspect.iscoroutinefunction(each):
            return "an asynchronous function"
        if inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each):
            return "a generator function"
    return ""


class _Checked:
    """A call of the user's, whose errors say where they come from."""

    __slots__ = ("_call", "_what")

    def __init__(self, call: Call, what: str) -> None:
        self._call = call
        self._what = what

    def __call__(self) -> object:
        try:
            return self._call()
        except Exception as error:
            raise _describe(self._what, error) from error
        except SystemExit as error:
            raise _describe(self._what, error) from error


def find_function(where: str) -> Callable[..., Call]:
    """The function that `where` ("module:function") names. Raises ModelError."""
    try:
        found = find_named(where, _describe)
    except InvalidRequestError as error:
        raise ModelError(str(error)) from error
    if not callable(found):
        raise ModelError(f"{where} is of type {type(found).__name__}, and can't be called")
    return found


def _describe(what: str, error: BaseException) -> ModelError:
    return ModelError(describe_error(what, error))
