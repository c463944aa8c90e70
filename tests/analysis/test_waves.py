from __future__ import annotations

import pytest

from profiler_service.analysis.waves import TILES, Tile, count_tiles, find_waves


@pytest.mark.parametrize(
    ("rows", "columns", "tile", "copies", "tiles"),
    [
        (1, 1, "128x128", 1, 1),
        (128, 128, "128x128", 1, 1),
        (129, 128, "128x128", 1, 2),
        # 2,304 / 256 = 9 rows of tiles, 2,176 / 128 = 17 columns.
        (2304, 2176, "256x128", 1, 153),
        (2304, 2177, "256x128", 1, 162),
        (64, 16, "64x64", 3, 3),
        (65, 65, "64x64", 3, 12),
    ],
)
def test_a_begun_tile_is_a_whole_one(
    rows: int, columns: int, tile: str, copies: int, tiles: int
) -> None:
    assert count_tiles(rows, columns, TILES[tile], copies=copies) == tiles


@pytest.mark.parametrize(
    ("tiles", "each", "count", "fill"),
    [
        (1, 1, 1, 1 / 108),
        (108, 1, 1, 1.0),
        (109, 1, 2, 109 / 216),  # one tile more, twice the time
        (216, 1, 2, 1.0),
        (216, 2, 1, 1.0),
        (217, 2, 2, 217 / 432),
    ],
)
def test_the_last_wave_counts_however_few_tiles_it_has(
    tiles: int, each: int, count: int, fill: float
) -> None:
    # On an A100, which has 108 multiprocessors.
    found = find_waves(tiles, 108, blocks_each=each)
    assert (found.tiles, found.count) == (tiles, count)
    assert found.fill == pytest.approx(fill)


def test_tiles_are_named_as_in_the_names_of_kernels() -> None:
    assert TILES["128x256"] == Tile(rows=128, columns=256)
    assert all(name == f"{tile.rows}x{tile.columns}" for name, tile in TILES.items())
    sizes = [tile.rows * tile.columns for tile in TILES.values()]
    assert sizes == sorted(sizes, reverse=True)  # a larger tile reads less for each operation


@pytest.mark.parametrize("bad", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_nothing_has_no_tiles(bad: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="no tiles"):
        count_tiles(bad[0], bad[1], TILES["64x64"], copies=bad[2])
    with pytest.raises(ValueError, match="places"):
        find_waves(bad[0], bad[1], blocks_each=bad[2])


def test_a_tile_has_rows_and_columns() -> None:
    with pytest.raises(ValueError, match="0 × 64"):
        Tile(rows=0, columns=64)
