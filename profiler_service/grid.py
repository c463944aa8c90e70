"""Rectangular grids of design points, over which latency is measured.

    GridAxis(first=317, count=4)                        317, 318, 319, 320
    GridAxis(first=317, count=4, step=64, second=320)   317, 320, 384, 448

Pure. Doesn't know what is measured on the grid. Points are numbered row-major: the last axis
varies fastest, as in numpy's C order. Only the functions that make an array import numpy: a
client that only asks the service uses grids, too, and needs no numpy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from profiler_service.errors import InvalidDimsError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_DIM = 999_999_999
"""Largest dimension of any axis: nine digits, which fit an int32. A service accepts less: its
setting `LHP_MAX_DIM`."""


@dataclass(frozen=True, kw_only=True)
class GridAxis:
    """`count` dimensions, from `first` upwards in steps of `step`.

    The steps begin at `first`, or at `second` if there is one: the dimension asked about, and then
    the multiples above it.
    """

    first: int
    count: int
    step: int = 1
    second: int | None = None
    """The dimension after `first`, if that lies between two steps."""

    def __post_init__(self) -> None:
        if self.first < 1 or self.count < 1 or self.step < 1:
            raise InvalidDimsError(
                f"a grid axis needs first, count and step of at least 1, not {self}",
                hint="write it as FIRST:LAST or FIRST:LAST:STEP with whole numbers from 1 up",
            )
        if self.last > MAX_DIM:
            raise InvalidDimsError(
                f"dimension {self.last} is larger than {MAX_DIM}",
                hint=f"keep every dimension at or below {MAX_DIM}",
            )
        if self.second is not None and not (
            self.count > 1 and self.first < self.second < self.first + self.step
        ):
            raise InvalidDimsError(
                f"second must lie between first and first + step: {self}",
                hint="leave it out if the steps begin at first",
            )

    @classmethod
    def multiples(cls, first: int, last: int, multiple: int) -> GridAxis:
        """`first`, and then the multiples of `multiple` above it, up to `last`."""
        above = first - first % multiple + multiple
        count = 1 + max(0, last // multiple - first // multiple)
        is_between = first % multiple > 0 and count > 1
        step = multiple if count > 1 else 1
        return cls(first=first, count=count, step=step, second=above if is_between else None)

    @property
    def last(self) -> int:
        """The largest dimension of the axis."""
        return self._dim(self.count - 1)

    @property
    def dims(self) -> Sequence[int]:
        """Every dimension of the axis, ascending."""
        even = range(self.origin, self.last + 1, self.step)
        return even if self.second is None else (self.first, *even[1:])

    @property
    def origin(self) -> int:
        """The first dimension, if it were a step like all others."""
        return self.first if self.second is None else self.second - self.step

    def _dim(self, position: int) -> int:
        return self.origin + position * self.step if position else self.first

    def find_position(self, dim: int) -> int | None:
        """The position of `dim` on this axis, or None if the axis doesn't have it."""
        if dim == self.first:
            return 0
        position, remainder = divmod(dim - self.origin, self.step)
        return position if remainder == 0 and 0 < position < self.count else None

    def is_on_steps(self, dim: int) -> bool:
        """Whether the axis has `dim` as one of its steps; False for `first` between two steps."""
        return self.find_position(dim) is not None and (self.second is None or dim != self.first)

    def contains(self, other: GridAxis) -> bool:
        """Whether every dimension of `other` is one of this axis."""
        if self.find_position(other.first) is None or self.find_position(other.last) is None:
            return False
        start, count = (other.first, other.count)
        if other.second is not None:
            start, count = (other.second, other.count - 1)
        if self.find_position(start) is None:
            return False
        return count <= 2 or (self.is_on_steps(start) and other.step % self.step == 0)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The product of its axes: every combination of their dimensions is one point.

    Its *candidates* are the first point, and all points that are on the steps of every axis. Others
    (an asked dimension that is no multiple, beside a larger one that is) are never measured.
    """

    axes: tuple[GridAxis, ...]

    @classmethod
    def window(
        cls,
        dims: Sequence[int],
        growth: Sequence[int],
        multiple_of: Sequence[int] | None = None,
    ) -> Grid:
        """The grid of every point from `dims` to `dims + growth` inclusive, per axis.

        With `multiple_of` (one number for each axis), of `dims` and the multiples above.
        """
        return cls(
            axes=tuple(
                GridAxis.multiples(dim, min(dim + grow, MAX_DIM), multiple)
                for dim, grow, multiple in zip(
                    dims, growth, multiple_of or (1,) * len(dims), strict=True
                )
            )
        )

    @classmethod
    def pair(cls, dims: Sequence[int], larger: Sequence[int]) -> Grid:
        """The grid whose only candidates are these two points."""
        return cls(
            axes=tuple(
                GridAxis(first=low, count=1)
                if low == high
                else GridAxis(first=low, count=2, step=high - low + 1, second=high)
                for low, high in zip(dims, larger, strict=True)
            )
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of dimensions on each axis."""
        return tuple(axis.count for axis in self.axes)

    @property
    def size(self) -> int:
        """Number of points."""
        return math.prod(self.shape)

    @property
    def first(self) -> tuple[int, ...]:
        """The smallest point."""
        return tuple(axis.first for axis in self.axes)

    @property
    def last(self) -> tuple[int, ...]:
        """The largest point."""
        return tuple(axis.last for axis in self.axes)

    def find_index(self, dims: Sequence[int]) -> int | None:
        """The number of the point `dims`, or None if it isn't a point of the grid."""
        if len(dims) != len(self.axes):
            return None
        index = 0
        for axis, dim in zip(self.axes, dims, strict=True):
            position = axis.find_position(dim)
            if position is None:
                return None
            index = index * axis.count + position
        return index

    def dims(self, index: int) -> tuple[int, ...]:
        """The dims of point number `index`. Raises IndexError outside the grid."""
        if not 0 <= index < self.size:
            raise IndexError(f"point {index} of a grid of {self.size}")
        dims: list[int] = []
        for axis in reversed(self.axes):
            index, position = divmod(index, axis.count)
            dims.append(axis._dim(position))
        return tuple(reversed(dims))

    def all_dims(self) -> npt.NDArray[np.int32]:
        """Dims of every point, int32 [points, axes], row-major."""
        import numpy as np

        return self.dims_of(np.arange(self.size))

    def dims_of(self, indexes: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int32]:
        """Dims of the points with these numbers, int32 [points, axes]."""
        import numpy as np

        places = np.unravel_index(indexes, self.shape)
        dims = np.empty((len(indexes), len(self.axes)), dtype=np.int32)
        for number, (axis, place) in enumerate(zip(self.axes, places, strict=True)):
            # As in `_dim`, for many positions at once.
            dims[:, number] = np.where(place > 0, axis.origin + place * axis.step, axis.first)
        return dims

    def contains(self, other: Grid) -> bool:
        """Whether every point of `other` is a point of this grid."""
        if len(self.axes) != len(other.axes):
            return False
        return all(
            mine.contains(theirs) for mine, theirs in zip(self.axes, other.axes, strict=True)
        )

    @property
    def num_candidates(self) -> int:
        """Number of candidates."""
        on_steps = math.prod(axis.count - (axis.second is not None) for axis in self.axes)
        return on_steps + any(axis.second is not None for axis in self.axes)

    def is_candidate(self, dims: Sequence[int]) -> bool:
        """Whether `dims` are a candidate of the grid."""
        return len(dims) == len(self.axes) and (
            tuple(dims) == self.first
            or all(axis.is_on_steps(dim) for axis, dim in zip(self.axes, dims, strict=True))
        )

    def find_others(self) -> npt.NDArray[np.int32]:
        """Numbers of the points that are no candidates, ascending; empty for even axes."""
        import numpy as np

        is_other = np.zeros(self.shape, dtype=bool)
        for number, axis in enumerate(self.axes):
            if axis.second is not None:
                np.moveaxis(is_other, number, 0)[0] = True
        is_other.flat[0] = False
        return np.flatnonzero(is_other).astype(np.int32)

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        """Dims of every point, row-major, lazily."""
        return itertools.product(*(axis.dims for axis in self.axes))
