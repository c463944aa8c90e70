"""Why is a point fast? What the names of the kernels at points of a grid say. Pure.

A library chooses a kernel for each shape. If the kernel at two points isn't the same, that
explains a difference better than any dimension does. Names come from `measurement.kernel_verbose`
and `measurement.kernel_reading`; here they are only compared.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from profiler_service.workload import Dims

KernelNames = Mapping[Dims, str]
"""Dims of a point → the name of its kernel. Points without a known name are left out."""
Line = Sequence[tuple[int, str]]
"""The names along one axis: dimension and name, ascending. All other dimensions are the same."""
Rule = Literal["multiples", "above multiples", "from multiples", "above", "between", "unclear"]

LEAST_MULTIPLE: Final = 2
MOST_MULTIPLE: Final = 128
"""Multiples of these numbers, and of those between them, are looked for: tiles of known kernels."""
FUNCTION: Final = "MKL "
"""The name of what MKL ran begins so: MKL says which function it was, and not which kernel."""


@dataclass(frozen=True, kw_only=True)
class AxisChange:
    """How the kernel changes along one axis, as far as the points that were looked at tell.

    - `multiples`: the multiples of `number` have one kernel, and all others another one.
    - `above multiples`: it only changes above multiples of `number`, where a further block begins.
    - `from multiples`: it only changes from the dimension before a multiple of `number` to it.
    - `above`: it changes once, from `number` to the dimension after it.
    - `between`: it changes once, after `number` and up to `last`; what lies between wasn't seen.
    - `unclear`: none of these.
    """

    axis: int
    rule: Rule
    number: int = 0
    last: int = 0
    changes: tuple[int, ...] = ()
    """For these two rules: multiples where it was seen to change. There may be others."""
    through: Dims = ()
    """A point of the line; empty if only one line is meant."""


def find_line(names: KernelNames, through: Dims, axis: int) -> Line:
    """The names at the points that differ from `through` on that axis only."""
    return sorted(
        (dims[axis], name)
        for dims, name in names.items()
        if (*dims[:axis], *dims[axis + 1 :]) == (*through[:axis], *through[axis + 1 :])
    )


def find_change(line: Line, axis: int = 0) -> AxisChange | None:
    """How the kernel changes along the line; None if all its points have the same one.

    Only rules that explain every point of the line are given. One change alone says nothing of
    multiples, and neither does one multiple alone.
    """
    steps = [
        (here, there) for (here, name), (there, other) in itertools.pairwise(line) if name != other
    ]
    if not steps:
        return None
    if len(steps) == 1:
        [(here, there)] = steps
        if there == here + 1:
            return AxisChange(axis=axis, rule="above", number=here)
        return AxisChange(axis=axis, rule="between", number=here, last=there)
    multiple = _find_multiple(line)
    if multiple is not None:
        return AxisChange(axis=axis, rule="multiples", number=multiple)
    # Where both neighbours were seen, it is known between which dimensions it changes.
    seen = [(here, there) for here, there in steps if there == here + 1]
    rules: tuple[tuple[Rule, list[int], int], ...] = (
        ("above multiples", [here for here, _ in seen], 1),
        ("from multiples", [there for _, there in seen], 0),
    )
    for rule, ends, after in rules:
        number = math.gcd(*ends)
        if (
            len(ends) > 1
            and LEAST_MULTIPLE <= number <= MOST_MULTIPLE
            and _is_same_within_blocks(line, number, after)
        ):
            return AxisChange(axis=axis, rule=rule, number=number, changes=tuple(ends))
    return AxisChange(axis=axis, rule="unclear")


def _is_same_within_blocks(line: Line, number: int, after: int) -> bool:
    """Whether the kernel is the same within each block, `after` a multiple up to the next."""
    of_block: dict[int, str] = {}
    return all(of_block.setdefault((dim - after) // number, name) == name for dim, name in line)


def _find_multiple(line: Line) -> int | None:
    """The number whose multiples, and no others, have a kernel of their own on the line.

    It is the greatest common divisor of those points: they show no more than that.
    """
    if len({name for _, name in line}) != 2:
        return None
    found = []
    for special in {name for _, name in line}:
        with_it = [dim for dim, name in line if name == special]
        others = [dim for dim, name in line if name != special]
        number = math.gcd(*with_it)
        if len(with_it) > 1 and len(others) > 1 and all(dim % number for dim in others):
            found.append(number)
    number = max(found, default=0)
    return number if LEAST_MULTIPLE <= number <= MOST_MULTIPLE else None


def find_changes(names: KernelNames, at: Dims) -> list[AxisChange]:
    """How the kernel changes along each axis; axes without a change are left out.

    Of each axis, the line with most points tells that; of equal ones, that through `at`.
    """
    found = []
    for axis in range(len(at)):
        through = _find_longest_line(names, at, axis)
        change = find_change(find_line(names, through, axis), axis)
        if change is not None:
            found.append(replace(change, through=through))
    return found


def _find_longest_line(names: KernelNames, at: Dims, axis: int) -> Dims:
    """A point on the longest line along the axis; `at` if no other line has more points."""
    points = Counter((*dims[:axis], at[axis], *dims[axis + 1 :]) for dims in names)
    longest, count = max(points.items(), key=lambda each: each[1], default=(at, 0))
    return longest if count > points[at] else at


def explain(names: KernelNames, *, dims: Dims, lhp: Dims, axes: Sequence[str]) -> str:
    """A sentence about the kernels at `dims` and at `lhp`, which is the answer; empty if unknown.

    `axes` are the names of the axes.
    """
    asked, best = names.get(dims), names.get(lhp)
    if asked is None or best is None:
        return ""
    if dims == lhp:
        return _explain_point(names, lhp, axes)
    if asked == best:
        return f"{_describe_same(best)} at both: {best}"
    pair = f"{_dims_text(dims)} takes {asked}; {_dims_text(lhp)} takes {best}"
    for change in find_changes(names, lhp):
        of_dim = dict(find_line(names, change.through, change.axis))
        here, there = (of_dim.get(each[change.axis]) for each in (dims, lhp))
        if here is not None and there is not None and here != there:
            return f"{describe_change(change, axes, at=lhp)}: {pair}"
    return f"the kernel isn't the same: {pair}"


def _explain_point(names: KernelNames, at: Dims, axes: Sequence[str]) -> str:
    """The sentence if `at` is asked for and is the answer, too."""
    changes = find_changes(names, at)
    here = f"{_dims_text(at)} takes {names[at]}"
    if changes:
        return f"{'; '.join(describe_change(each, axes, at=at) for each in changes)}; {here}"
    if len(names) == 1 or len(set(names.values())) > 1:
        return here
    return f"{_describe_same(names[at])} at the {len(names)} points looked at: {names[at]}"


def _describe_same(name: str) -> str:
    return "the same function" if name.startswith(FUNCTION) else "the same kernel"


def describe_change(change: AxisChange, axes: Sequence[str], *, at: Dims) -> str:
    """The change in words: `the kernel changes at multiples of 16 of in_channels`.

    If `at` isn't on its line, that says where the line is.
    """
    others = [
        f"{name} is {there}"
        for number, (name, here, there) in enumerate(zip(axes, at, change.through, strict=True))
        if number != change.axis and here != there
    ]
    where = f" where {' and '.join(others)}" if others else ""
    return f"the kernel changes {_describe_rule(change, axes[change.axis])}{where}"


def _describe_rule(change: AxisChange, axis: str) -> str:
    shown = ", ".join(map(str, change.changes[:4]))
    shown = f"{shown}, …" if len(change.changes) > 4 else shown
    match change.rule:
        case "multiples":
            return f"at multiples of {change.number} of {axis}"
        case "above multiples":
            return f"above multiples of {change.number} of {axis} ({shown})"
        case "from multiples":
            return f"from multiples of {change.number} of {axis} on ({shown})"
        case "above":
            return f"above {axis} {change.number}"
        case "between":
            return f"between {axis} {change.number} and {change.last}"
        case "unclear":
            return f"along {axis}"


def _dims_text(dims: Dims) -> str:
    return ",".join(map(str, dims))
