"""Figures of curves in pages: what of a large curve is drawn, and what is sent."""

from __future__ import annotations

import gzip
from collections.abc import Sequence

import httpx
import numpy as np
import pytest

from profiler_service.dashboard.figures import MAX_CELLS, MAX_DRAWN
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import MATMUL
from profiler_service.plots.figure import TEXT_POINTS, unpack
from tests.api.conftest import Worker, keep_curve
from tests.api.curves import square, stairs
from tests.dashboard.conftest import follow, read_page
from tests.plots.reading import numbers, traces

pytestmark = pytest.mark.anyio

LONG = Grid(axes=(GridAxis(first=1, count=9000),))


def rising(dims: Sequence[int]) -> float:
    """Every point but the last one is an LHP."""
    return 1e-6 * sum(dims)


async def test_a_long_curve_is_drawn_by_some_of_its_points_with_their_texts(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    curve = keep_curve(sqlite_worker.store, LONG, stairs(16), workload=MATMUL.describe())
    figure = traces((await client.get(f"/ui/curves/{curve}/figure")).json())
    drawn = {name: len(trace.get("hovertext", [])) for name, trace in figure.items()}
    assert 2000 < sum(drawn.values()) <= 2 * MAX_DRAWN  # gains have texts, too
    assert MAX_DRAWN < TEXT_POINTS
    # 9000 / 16 = 562 multiples of 16. After the last one, 8992, latency rises to the end: 8993 to
    # 8999 are LHPs, and 9000 is the edge.
    assert drawn["LHP"] == 562 + 7
    # 9000 - 569 - 1: the title counts those that aren't drawn, too.
    page = (await client.get(f"/ui/curves/{curve}")).text
    assert "94 % of the sizes are slower than a larger one" in page
    assert f"About {MAX_DRAWN:,} of 9,000 points are drawn" in page
    assert f"{9000 * 20:,}" in page  # samples


@pytest.mark.parametrize("grid", [LONG, square(1, 95)], ids=["one axis", "two axes"])
async def test_a_curve_of_lhps_alone_makes_neither_page_nor_figure_large(
    client: httpx.AsyncClient, sqlite_worker: Worker, grid: Grid
) -> None:
    workload = MATMUL.describe() if len(grid.axes) == 1 else None
    curve = keep_curve(sqlite_worker.store, grid, rising, workload=workload)
    page = read_page((await client.get(f"/ui/curves/{curve}")).text)
    assert 250 < len(page.find("tr")) <= 501
    figure = traces((await client.get(f"/ui/curves/{curve}/figure")).json())
    [lhps] = [name for name in figure if name.startswith("LHP")]
    assert 1000 < len(numbers(figure[lhps]["x"])) <= MAX_DRAWN
    assert lhps.endswith(f"of {grid.size - 1:,}")


async def test_a_large_heat_map_has_a_cell_for_each_block(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    # 257 · 257 points are more than MAX_CELLS, in blocks of 2 × 1 they aren't: 129 · 257.
    assert MAX_CELLS < 257 * 257
    curve = keep_curve(sqlite_worker.store, square(1, 257), stairs(8))
    cells = traces((await client.get(f"/ui/curves/{curve}/figure")).json())["latency"]
    assert (len(numbers(cells["y"])), len(numbers(cells["x"]))) == (129, 257)
    page = (await client.get(f"/ui/curves/{curve}")).text
    assert "Each cell of the figure is the median of 2 × 1 points." in page
    small = keep_curve(sqlite_worker.store, square(1, 90), stairs(8))
    assert "Each cell" not in (await client.get(f"/ui/curves/{small}")).text


async def test_what_was_asked_about_is_drawn_whatever_is_left_out(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    curve = keep_curve(sqlite_worker.store, square(1, 90), rising)
    figure = await client.get(f"/ui/curves/{curve}/figure?asked=31,47&answer=33,48")
    asked = traces(figure.json())["asked"]
    assert (numbers(asked["x"]), numbers(asked["y"])) == ([47], [31])
    # What isn't in the grid is in no figure.
    beyond = await client.get(f"/ui/curves/{curve}/figure?asked=91,1")
    assert "asked" not in traces(beyond.json())


async def test_a_figure_is_sent_compressed_to_those_who_can_read_it(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    curve = keep_curve(sqlite_worker.store, LONG, stairs(8), workload=MATMUL.describe())
    for path in (f"/ui/curves/{curve}/figure", "/ui/plotly.min.js", f"/ui/curves/{curve}"):
        plain = await client.get(path, headers={"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers
        request = client.build_request("GET", path, headers={"accept-encoding": "br, gzip"})
        packed = await client.send(request, stream=True)
        body = b"".join([part async for part in packed.aiter_raw()])
        assert gzip.decompress(body) == plain.content
        assert len(body) < 0.5 * len(plain.content)
        assert "Accept-Encoding" in packed.headers["vary"]


async def test_a_kept_figure_is_that_of_its_curve_view_and_question(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    store = sqlite_worker.store
    line = keep_curve(store, LONG, stairs(8), workload=MATMUL.describe())
    plane = keep_curve(store, square(1, 20), stairs(8))
    paths = [
        f"/ui/curves/{line}/figure",
        f"/ui/curves/{line}/figure?view=relative",
        f"/ui/curves/{line}/figure?scale=log",
        f"/ui/curves/{plane}/figure",
        f"/ui/curves/{plane}/figure?asked=3,5",
        f"/ui/curves/{plane}/figure?asked=3,6",
    ]
    first = [(await client.get(path)).content for path in paths]
    again = [(await client.get(path)).content for path in paths]
    assert first == again
    assert len(set(first)) == len(paths)
    # A curve that isn't there has no figure, whatever is kept.
    assert (await client.get(f"/ui/curves/{'0' * 32}/figure")).status_code == 404


async def test_a_page_loads_its_figure_ahead_as_it_asks_for_it_later(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    """If the addresses differed, everything would be loaded twice."""
    curve = keep_curve(sqlite_worker.store, square(1, 20), stairs(8))
    page = read_page((await client.get(f"/ui/curves/{curve}")).text)
    ahead = {each["href"] for each in page.find("link", rel="preload")}
    [place] = [has for _, has in page.tags if "data-figure" in has]
    assert ahead == {place["data-figure"], place["data-plotly"], place["data-script"]}
    assert (await client.get(follow(place["data-figure"], f"/ui/curves/{curve}"))).is_success


async def test_a_heat_map_tells_everything_of_each_cell_as_long_as_it_may(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    # 70 · 70 = 4,900 cells may have texts, 71 · 71 = 5,041 may not: they tell their ratios.
    for side, has_texts in ((70, True), (71, False)):
        curve = keep_curve(sqlite_worker.store, square(1, side), stairs(8))
        cells = traces((await client.get(f"/ui/curves/{curve}/figure")).json())["latency"]
        assert ("hovertext" in cells) == has_texts
        assert ("as fast" in cells.get("hovertemplate", "")) != has_texts


async def test_a_large_grid_of_which_little_was_measured_is_drawn(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    grid = square(1, 75)
    failing = [dims for dims in grid if dims[0] > 2]
    curve = keep_curve(sqlite_worker.store, grid, stairs(8), failing=failing)
    cells = traces((await client.get(f"/ui/curves/{curve}/figure")).json())["latency"]
    # Two rows of 75 points; the other cells are empty.
    assert np.isfinite(unpack(cells["z"])).sum() == 150
