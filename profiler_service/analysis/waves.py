"""Waves of a product on a GPU: how often all its multiprocessors are filled with tiles.

A product's result is divided into tiles, one for each block of threads. So many blocks run at once
as the device has room for. When they are done, the next ones begin: a wave. The last wave takes as
long as the others, however few tiles are left for it. So latency jumps where one more wave begins,
and stays about level until then (wave quantisation). Source: NVIDIA, "Matrix Multiplication
Background User's Guide", sections on tile and wave quantisation.

Pure. Nothing here knows which tile a library chooses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Tile:
    """The part of a product's result that one block of threads computes."""

    rows: int
    columns: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise ValueError(f"a tile of {self.rows} × {self.columns}")


TILES: Final[Mapping[str, Tile]] = MappingProxyType(
    {
        f"{rows}x{columns}": Tile(rows=rows, columns=columns)
        for rows, columns in (
            *((256, 128), (128, 256), (128, 128), (256, 64), (64, 256)),
            *((128, 64), (64, 128), (64, 64)),
        )
    }
)
"""Tiles by the name that kernels of cuBLAS and CUTLASS have in theirs, most efficient first.
(Source: the same guide.)"""


@dataclass(frozen=True, kw_only=True)
class Waves:
    """How a product's tiles fill a device."""

    tiles: int
    count: int
    """Number of waves: tiles / room, rounded up."""
    fill: float
    """Share of the room in all waves that has a tile, above 0 to 1. 1 − fill is idle."""


def count_tiles(rows: int, columns: int, tile: Tile, *, copies: int = 1) -> int:
    """Tiles of `copies` results of `rows` × `columns`: of a batch of products, or of split sums.

    Raises ValueError unless all are at least 1.
    """
    if min(rows, columns, copies) < 1:
        raise ValueError(f"{copies} results of {rows} × {columns} have no tiles")
    return copies * -(-rows // tile.rows) * -(-columns // tile.columns)


def find_waves(tiles: int, multiprocessors: int, *, blocks_each: int = 1) -> Waves:
    """The waves of so many tiles, if `blocks_each` run on each multiprocessor at once.

    Raises ValueError unless all are at least 1.
    """
    if min(tiles, multiprocessors, blocks_each) < 1:
        raise ValueError(f"{tiles} tiles on {multiprocessors} × {blocks_each} places")
    room = multiprocessors * blocks_each
    count = -(-tiles // room)
    return Waves(tiles=tiles, count=count, fill=tiles / (count * room))
