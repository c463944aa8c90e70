"""The features of dims: what a host's latencies have in common over all windows.

numpy only. Legend: [dims] positions of one axis, [points, axes] design points, [p] features.
Derivation: docs/explanation/latency-model.md, "The features".
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.comparison import F64
from profiler_service.latency_model.settings import MODEL, BasisSettings

Ints = npt.NDArray[np.integer]

_CENTER = 9.0
"""log2 dimension at which a growing effect is 0: 512."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Features whose effects have one standard deviation."""

    name: str
    start: int
    stop: int
    spread: float
    """That deviation, before anything is learned."""


class Basis:
    """The features of points with so many axes, in this order:

    - for each axis: its growth, its bends, its classes, its growing classes, its tiles;
    - bends of the product of all dims;
    - for each pair of axes: the pairs of their alignments.
    """

    def __init__(self, num_axes: int, settings: BasisSettings = MODEL.basis) -> None:
        self.num_axes = num_axes
        self._settings = settings
        knots = (settings.last_knot - settings.first_knot) * settings.knots_per_octave + 1
        self._knots: F64 = settings.first_knot + np.arange(knots) / settings.knots_per_octave
        # The product of several dims has the same knots, once an axis, apart from one another.
        self._volume_knots: F64 = num_axes * self._knots if num_axes > 1 else self._knots[:0]
        self._levels = len(settings.classes) + 1
        sizes = [
            ("growth", 1, settings.growth_spread),
            ("bend", knots, settings.bend_spread),
            *((f"mod {m}", m, settings.class_spread) for m in settings.classes),
            *((f"mod {m} growing", m, settings.growing_spread) for m in settings.growing_classes),
            ("tiles", len(settings.tiles), settings.fill_spread),
        ]
        named = [
            (f"axis {axis}: {name}", size, spread)
            for axis in range(num_axes)
            for name, size, spread in sizes
        ]
        self._axis_size = sum(size for _, size, _ in sizes)
        if len(self._volume_knots):
            named.append(("product: bend", len(self._volume_knots), settings.bend_spread))
        self._pairs = list(itertools.combinations(range(num_axes), 2))
        named += [
            (f"axes {a} and {b}: alignment", self._levels**2, settings.pair_spread)
            for a, b in self._pairs
        ]
        ends = np.cumsum([0, *(size for _, size, _ in named)]).tolist()
        self.groups: tuple[Group, ...] = tuple(
            Group(name=name, start=start, stop=stop, spread=spread)
            for (name, _, spread), (start, stop) in zip(
                named, itertools.pairwise(ends), strict=True
            )
        )
        self.size = int(ends[-1])
        self.mean: F64 = np.zeros(self.size)
        """[p] What is expected of the effects before anything is learned."""
        self.mean[: num_axes * self._axis_size : self._axis_size] = settings.growth

    def spread(self, spreads: Sequence[float] | None = None) -> F64:
        """[p] The standard deviation of each effect; `spreads` are those of the groups."""
        chosen = [group.spread for group in self.groups] if spreads is None else spreads
        sizes = [group.stop - group.start for group in self.groups]
        return np.repeat(np.asarray(chosen, dtype=np.float64), sizes)

    def rows(self, points: Ints) -> F64:
        """The features [points, p] of design points [points, axes]."""
        columns = []
        for axis in range(self.num_axes):
            dims, place = np.unique(points[:, axis], return_inverse=True)
            columns.append(self._axis_rows(dims)[place.ravel()])
        if len(self._volume_knots):
            columns.append(_bends(np.log2(points).sum(axis=1), self._volume_knots))
        for a, b in self._pairs:
            pair = self._level(points[:, a]) * self._levels + self._level(points[:, b])
            columns.append(_one_hot(pair, self._levels**2))
        return np.concatenate(columns, axis=1)

    def predict(self, effects: F64, axes: Sequence[Ints]) -> F64:
        """The log latency at every point of a grid with these dims, up to its level.

        `effects` [p]. The result has the grid's shape.
        """
        shape = [len(dims) for dims in axes]
        result: F64 = np.zeros(shape)
        start = 0
        for axis, dims in enumerate(axes):
            values = self._axis_rows(dims) @ effects[start : start + self._axis_size]
            result += _along(values, axis, self.num_axes)
            start += self._axis_size
        if len(self._volume_knots):
            log2: F64 = np.zeros(shape)
            for axis, dims in enumerate(axes):
                log2 += _along(np.log2(dims), axis, self.num_axes)
            bends = effects[start : start + len(self._volume_knots)]
            result += _sum_bends(log2, self._volume_knots, bends)
            start += len(bends)
        for a, b in self._pairs:
            table = effects[start : start + self._levels**2].reshape(self._levels, self._levels)
            chosen = table[np.ix_(self._level(axes[a]), self._level(axes[b]))]
            others = tuple(axis for axis in range(self.num_axes) if axis not in (a, b))
            result += np.expand_dims(chosen, others)
            start += self._levels**2
        return result

    def _axis_rows(self, dims: Ints) -> F64:
        """The features [dims, axis features] that an axis has alone."""
        settings = self._settings
        log2: F64 = np.log2(dims.astype(np.float64))
        scale = (log2 - _CENTER)[:, np.newaxis]
        classes = [_one_hot(dims % m, m) for m in settings.classes]
        growing = [_one_hot(dims % m, m) * scale for m in settings.growing_classes]
        tiles = np.array(settings.tiles)
        filled = -(-dims[:, np.newaxis] // tiles) * tiles
        waste: F64 = np.log(filled / dims[:, np.newaxis])
        log: F64 = np.log(dims.astype(np.float64))[:, np.newaxis]
        return np.concatenate([log, _bends(log2, self._knots), *classes, *growing, waste], axis=1)

    def _level(self, dims: Ints) -> npt.NDArray[np.intp]:
        """The number of the largest class of which each of `dims` is a multiple, from 0."""
        level: npt.NDArray[np.intp] = np.zeros(len(dims), dtype=np.intp)
        for multiple in self._settings.classes:
            level += dims % multiple == 0
        return level


def _bends(log2: F64, knots: F64) -> F64:
    """[points, knots] How far each value is beyond each knot, in natural logs."""
    beyond: F64 = np.maximum(log2[:, np.newaxis] - knots, 0.0) * np.log(2)
    return beyond


def _sum_bends(log2: F64, knots: F64, effects: F64) -> F64:
    """As `_bends` times the effects [knots], in the shape of `log2`, without its large table."""
    at_knots = _bends(np.append(knots, knots[-1] + 1), knots) @ effects
    beyond: F64 = np.interp(log2, np.append(knots, knots[-1] + 1), at_knots)
    slope = float(effects.sum()) * np.log(2)
    return np.where(log2 > knots[-1], at_knots[-2] + slope * (log2 - knots[-1]), beyond)


def _one_hot(number: Ints, size: int) -> F64:
    table = np.zeros((len(number), size))
    table[np.arange(len(number)), number] = 1.0
    return table


def _along(values: F64, axis: int, num_axes: int) -> F64:
    """The values as an array that varies along this axis only."""
    shape = [1] * num_axes
    shape[axis] = len(values)
    return values.reshape(shape)
