"""Names in pictures are drawn as they are: no formulas in a PNG, no tags in a page."""

from __future__ import annotations

import html
import re

import pytest

from profiler_service.plots.curve import draw_png, render_html
from profiler_service.printable import printable
from tests.cli.stub import CURVE, PLATFORM, RACE, RACED

NAMES = [
    *("$x^2$", "cost$", "a $b$ $c", r"\$5", r"$\frac{", "rack[/gpu]", "\x1b[31mred", "a\nb"),
    *("<b>x</b>", '<a href="http://evil.example">x</a>', "</script><script>alert(1)</script>"),
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_picture_shows_names_literally(name: str) -> None:
    curve = CURVE.model_copy(update={"workload": name, "axis_names": [name]})
    platform = PLATFORM.model_copy(update={"device_model": name})
    figure = draw_png(curve, platform=platform)
    figure.canvas.draw()  # formulas are parsed here
    assert figure.get_suptitle() == printable(name).replace("$", r"\$")
    [axes] = figure.axes
    assert axes.get_xlabel() == figure.get_suptitle()
    assert axes.get_title().startswith(figure.get_suptitle())


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_page_shows_names_literally(name: str) -> None:
    stages = [stage.model_copy(update={"why": name, "name": name}) for stage in RACE.stages]
    curve = RACED.model_copy(update={"workload": name, "axis_names": [name]})
    page = render_html(curve, race=RACE.model_copy(update={"stages": stages}))
    # Below the library itself, which is megabytes of script.
    figure = page[page.rindex("Plotly.newPlot") :]
    assert name not in figure or not re.search(r"[<\x1b\n]", name)
    for tag in ("<b>", "<a ", "</script><script>", r"\u003cb\u003e", r"\u003ca ", r"\u003c\u002fa"):
        assert tag not in figure
    shown = html.escape(printable(name), quote=False)
    for plain, escaped in (("\\", r"\\"), ('"', r"\""), ("<", r"\u003c"), (">", r"\u003e")):
        shown = shown.replace(plain, escaped)
    assert shown.replace("/", r"\u002f") in figure or shown in figure
