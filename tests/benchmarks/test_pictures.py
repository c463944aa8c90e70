"""Pictures of pages for the documentation."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import pictures
from benchmarks.pages.looking import open_browser
from benchmarks.pictures import PICTURES, SIZES, Picture, Shown, find_curves, take
from profiler_service.client import ServiceClient
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import MATMUL
from profiler_service.storage.store import Store
from tests.api.conftest import keep_curve
from tests.api.curves import stairs
from tests.dashboard.looking import serving_process
from tests.plots.browser import needs_browser

IMAGES = Path(__file__).parents[2] / "docs" / "images"
GRID = Grid(axes=(GridAxis(first=SIZES.first, count=SIZES.last - SIZES.first + 1),))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Store]]:
    with serving_process(tmp_path / "lhp.sqlite") as served:
        yield served


def size_of(png: bytes) -> tuple[int, int]:
    """Width and height: the first fields of the first chunk, big-endian."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


@needs_browser
def test_a_page_becomes_a_small_picture(
    served: tuple[str, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, store = served
    shown = Shown(curves=[keep_curve(store, GRID, stairs(8), workload=MATMUL.describe())], race="")
    by_name = {each.name: each for each in PICTURES}
    with open_browser() as browser:
        desktop = take(browser, url, shown, by_name["curve"])
        width, height = size_of(desktop)
        assert width == 1280 and 900 < height <= pictures.MOST_HEIGHT["desktop"]
        # Two pixels of the picture for each of the window's 390 × 844.
        phone = take(browser, url, shown, by_name["curve-phone"])
        assert size_of(phone) == (780, 1688)
        monkeypatch.setattr(pictures, "MOST_BYTES", len(desktop) - 1)
        with pytest.raises(SystemExit, match=r"curve\.png would have"):
            take(browser, url, shown, by_name["curve"])


@needs_browser
def test_a_page_that_fails_is_no_picture(served: tuple[str, Store]) -> None:
    missing = Picture(name="missing", address=lambda shown: f"ui/curves/{'0' * 32}")
    with open_browser() as browser, pytest.raises(SystemExit, match="404"):
        take(browser, served[0], Shown(curves=[], race=""), missing)


def test_curves_that_are_there_are_found_newest_first(served: tuple[str, Store]) -> None:
    url, store = served
    packed = MATMUL.describe({"backend": "packed"})
    elsewhere = Grid(axes=(GridAxis(first=4, count=8),))
    keep_curve(store, elsewhere, stairs(4), workload=packed)
    older, newer = (keep_curve(store, GRID, stairs(8), workload=packed) for _ in range(2))
    keep_curve(store, GRID, stairs(8), workload=MATMUL.describe())
    with ServiceClient(url) as client:
        found = find_curves(client, {"backend": "packed", "dtype": "float32"})
        assert [each.id for each in found] == [newer, older]
        assert find_curves(client, {"backend": "compiled"}) == []


def test_the_documentation_has_every_picture_and_each_is_small() -> None:
    for picture in PICTURES:
        content = (IMAGES / f"{picture.name}.png").read_bytes()
        assert len(content) <= pictures.MOST_BYTES
        assert size_of(content)[0] == (780 if picture.window == "phone" else 1280)
