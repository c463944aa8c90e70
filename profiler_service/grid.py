"""Rectangular grids of design points, over which latency is measured.

Pure. Doesn't know what is measured on the grid. Points are numbered row-major: the last axis
varies fastest, as in numpy's C order. Only the functions that make an array import numpy: a
client that only asks the service uses grids, too, and needs no numpy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler_service.errors import InvalidDimsError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_DIM = 65_536
"""Largest dimension accepted on any axis. No real layer is larger."""


@dataclass(frozen=True, kw_only=True)
class GridAxis:
    """`count` evenly spaced dimensions, from `first` upwards in steps of `step`."""

    first: int
    count: int
    step: int = 1

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

    @property
    def last(self) -> int:
        """The largest dimension of the axis."""
        return self.first + (self.count - 1) * self.step

    def find_position(self, dim: int) -> int | None:
        """The position of `dim` on this axis, or None if the axis doesn't have it."""
        position, remainder = divmod(dim - self.first, self.step)
        return position if remainder == 0 and 0 <= position < self.count else None


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The product of its axes: every combination of their dimensions is one point."""

    axes: tuple[GridAxis, ...]

    @classmethod
    def window(cls, dims: Sequence[int], growth: Sequence[int]) -> Grid:
        """The grid of every point from `dims` to `dims + growth` inclusive, per axis."""
        return cls(
            axes=tuple(
                GridAxis(first=dim, count=min(dim + grow, MAX_DIM) - dim + 1)
                for dim, grow in zip(dims, growth, strict=True)
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
            dims.append(axis.first + position * axis.step)
        return tuple(reversed(dims))

    def all_dims(self) -> npt.NDArray[np.int32]:
        """Dims of every point, int32 [points, axes], row-major."""
        import numpy as np

        ranges = [
            np.arange(axis.first, axis.last + 1, axis.step, dtype=np.int32) for axis in self.axes
        ]
        return np.stack([m.ravel() for m in np.meshgrid(*ranges, indexing="ij")], axis=1)

    def contains(self, other: Grid) -> bool:
        """Whether every point of `other` is a point of this grid."""
        if len(self.axes) != len(other.axes):
            return False
        return all(
            mine.find_position(theirs.first) is not None
            and mine.find_position(theirs.last) is not None
            and (theirs.count == 1 or theirs.step % mine.step == 0)
            for mine, theirs in zip(self.axes, other.axes, strict=True)
        )

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        """Dims of every point, row-major, lazily."""
        return itertools.product(
            *(range(axis.first, axis.last + 1, axis.step) for axis in self.axes)
        )
