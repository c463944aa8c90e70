"""The workload of a user's own code: a function of whole numbers that returns a callable.

Its axes are the names of the function's arguments, whatever these are. Only the user's own command
measures it, on the user's own machine (`processes.own_code`): no host does, since no code travels
over the network. So it isn't among `kinds.workload_kinds`, which workers measure.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from profiler_service.errors import InvalidWorkloadError
from profiler_service.grid import MAX_DIM
from profiler_service.workload import (
    MAX_AXES,
    OWN_CODE,
    QUESTION_OPTIONS,
    VARY,
    Dims,
    Parameter,
    ParamValue,
    Workload,
    WorkloadKind,
)

FUNCTION: Final = "function"
SOURCE: Final = "source"
MAX_FIXED: Final = 32
"""Most arguments that have a value and don't vary."""
MAX_NAME: Final = 64
MAX_FUNCTION: Final = 200
NO_SOURCE: Final = "none"
"""The `source` of a function whose module has no file."""
_FUNCTION: Final = re.compile(
    r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*"
    r":[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*"
)
_SOURCE: Final = re.compile(rf"[0-9a-f]{{12}}|{NO_SOURCE}")
_NAME: Final = re.compile(rf"[A-Za-z_][A-Za-z0-9_]{{0,{MAX_NAME - 1}}}")
_TAKEN: Final = QUESTION_OPTIONS | {FUNCTION, SOURCE, VARY, "dtype", "backend"}
"""Names that mean something else in a question, or to the measuring process."""


@dataclass(frozen=True, kw_only=True)
class CallableKind(WorkloadKind):
    """A kind whose axes and parameters are whatever arguments the user's function has."""

    def _describe(self, items: tuple[tuple[str, object], ...]) -> Workload:
        given = dict(items)
        params: dict[str, ParamValue] = {
            FUNCTION: check_function(given.pop(FUNCTION, "")),
            SOURCE: _check_source(given.pop(SOURCE, None)),
        }
        axes = _read_names(given.pop(VARY, None))
        params[VARY] = ",".join(axes)
        if both := sorted(given.keys() & set(axes)):
            raise InvalidWorkloadError(
                f"{both[0]} varies, and can't have a value as well",
                hint=f"give it in dims, which are {params[VARY]}; or say with {VARY} what varies",
            )
        if len(given) > MAX_FIXED:
            raise InvalidWorkloadError(
                f"{len(given)} arguments have a value; at most {MAX_FIXED} can",
                hint="leave out those that have their default",
            )
        for name, value in given.items():
            check_argument(name)
            whole = Parameter(name=name, default=1, minimum=0, maximum=MAX_DIM, description="")
            params[name] = whole.parse(value)
        return Workload(kind=self.name, params=tuple(sorted(params.items())), axes=axes)

    def find_bounds(self, workload: Workload) -> tuple[tuple[int, int], ...]:
        """1 to the largest dimension, on each axis."""
        return ((1, MAX_DIM),) * len(workload.axes)


def check_function(text: object) -> str:
    """The text, if it names a function as `module:function`. Raises InvalidWorkloadError."""
    if not isinstance(text, str) or not text or len(text) > MAX_FUNCTION:
        shown = f"{str(text)[:80]!r} is no function" if text else "no function is named"
        raise InvalidWorkloadError(shown, hint="write MODULE:FUNCTION, as in my_models:build")
    if _FUNCTION.fullmatch(text) is None:
        raise InvalidWorkloadError(
            f"{text[:80]!r} doesn't name a function",
            hint="write MODULE:FUNCTION, as in my_models:build",
        )
    return text


def check_argument(name: str) -> str:
    """The name, if a workload can have such an argument. Raises InvalidWorkloadError."""
    if _NAME.fullmatch(name) is None or keyword.iskeyword(name):
        raise InvalidWorkloadError(
            f"{name[:80]!r} is no name of an argument",
            hint=f"names have at most {MAX_NAME} of the characters A-Z, a-z, 0-9 and _",
        )
    if name in _TAKEN:
        raise InvalidWorkloadError(
            f"{name!r} can't be an argument here: every question has an option of that name",
            hint="write a function that calls yours, whose argument has another name",
        )
    return name


def _check_source(text: object) -> str:
    if not isinstance(text, str) or _SOURCE.fullmatch(text) is None:
        raise InvalidWorkloadError(
            f"{SOURCE}={str(text)[:80]!r} doesn't say which text of the function is meant"
            if text is not None
            else f"{SOURCE} is missing: it says which text of the function is meant",
            hint="`lhp query --callable` and `lhp sweep --callable` fill it in; `lhp curves` shows"
            " that of each curve",
        )
    return text


def _read_names(vary: object) -> tuple[str, ...]:
    hint = f"say with {VARY} which arguments vary: {VARY}=hidden,layers"
    if vary is None:
        raise InvalidWorkloadError("no argument of the function varies", hint=hint)
    names = tuple(name.strip() for name in str(vary)[:2000].split(","))
    if len(set(names)) < len(names) or len(names) > MAX_AXES:
        raise InvalidWorkloadError(
            f"{VARY}={str(vary)[:80]} names something twice, or more than {MAX_AXES}", hint=hint
        )
    return tuple(check_argument(name) for name in names)


def _count_nothing(dims: Dims, params: Mapping[str, ParamValue]) -> int:
    """0: nobody knows what the user's code computes, or how much memory it takes."""
    return 0


CALLABLE: Final = CallableKind(
    name=OWN_CODE,
    axes=(),
    parameters=(),
    builder="profiler_service.measurement.callables:build",
    operand_bytes=_count_nothing,
    flops=_count_nothing,
    description="A function of whole numbers of your own, measured by your own command: `lhp sweep"
    " --callable`.",
)
