"""Queries and their windows: dims of a linear layer, as the referee draws and rounds them."""

from __future__ import annotations

import random

Dims = tuple[int, int]
"""(out_features, in_features) of a linear layer."""

BATCH = 16
FIRST_DIM, LAST_DIM = 100, 1300
RULES = (4, 8, 16, 32)
"""Rounding rules that are compared with the answers: both dims up to a multiple of this."""
EXTRA_RULES = (64,)
"""Rules that are measured and reported, but not part of a goal."""
GROWTH_SHARE, GROWTH_POINTS = 8, (32, 1024)
"""How far a window reaches, as documented: an eighth of each dimension, within these bounds."""


def show(dims: Dims) -> str:
    """`dims` as people write them."""
    return f"{dims[0]},{dims[1]}"


def draw_queries(count: int, seed: int) -> list[Dims]:
    """`count` queries, both dims uniform from FIRST_DIM to LAST_DIM inclusive."""
    rng = random.Random(seed)
    return [
        (rng.randint(FIRST_DIM, LAST_DIM), rng.randint(FIRST_DIM, LAST_DIM)) for _ in range(count)
    ]


def round_up(dims: Dims, multiple: int) -> Dims:
    """`dims`, each raised to the next multiple of `multiple`."""
    out_features, in_features = (-(-dim // multiple) * multiple for dim in dims)
    return out_features, in_features


def window_end(dims: Dims) -> Dims:
    """The largest dims of the window that a query looks at by default."""
    fewest, most = GROWTH_POINTS
    first, second = (dim + min(max(fewest, dim // GROWTH_SHARE), most) for dim in dims)
    return first, second


def growth(dims: Dims, larger: Dims) -> float:
    """How much larger `larger` is: the relative growth of each axis, summed, as documented."""
    return sum((b - a) / a for a, b in zip(dims, larger, strict=True))
