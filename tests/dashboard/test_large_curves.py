"""Pages of large curves in a real Chromium."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import MATMUL
from tests.api.conftest import keep_curve
from tests.api.curves import square, stairs
from tests.dashboard.looking import Site, browser, shared, site
from tests.plots.browser import needs_browser

__all__ = ["browser", "shared", "site"]

pytestmark = needs_browser

LONG = Grid(axes=(GridAxis(first=1, count=9000),))


@pytest.mark.parametrize("grid", [LONG, square(1, 300)], ids=["one axis", "two axes"])
def test_a_large_curve_is_drawn_and_tells_of_the_point_under_the_pointer(
    site: Site, grid: Grid
) -> None:
    page = site.page
    workload = MATMUL.describe() if len(grid.axes) == 1 else None
    curve = keep_curve(site.store, grid, stairs(8), workload=workload)
    site.open(f"ui/curves/{curve}")
    expect(page.locator("[data-figure]:not([aria-busy]) .main-svg").first).to_be_visible()
    inside = page.locator("[data-figure] .nsewdrag").first.bounding_box()
    assert inside is not None
    middle = inside["x"] + inside["width"] / 2, inside["y"] + inside["height"] / 2
    if len(grid.axes) == 1:
        mark = page.locator("[data-figure] .scatterlayer .trace .point").nth(500).bounding_box()
        assert mark is not None
        middle = mark["x"] + mark["width"] / 2, mark["y"] + mark["height"] / 2
    page.mouse.move(*middle)
    told = page.locator("[data-figure] .hoverlayer .hovertext").first
    expect(told).to_contain_text("samples" if len(grid.axes) == 1 else "× as fast")
    # What the page loads ahead is used: else the browser would warn.
    page.wait_for_load_state("networkidle")
    assert site.problems == []
