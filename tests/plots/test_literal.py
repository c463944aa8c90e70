"""Names in figures and pages are shown as they are: plotly and the browser obey no tag in them."""

from __future__ import annotations

import html
from typing import Any

import pytest

from profiler_service.plots.compare import ComparedLine, compare_figure
from profiler_service.plots.curve import curve_figure
from profiler_service.plots.files import render_html
from profiler_service.plots.history import HistoryPoint, PlatformChange, history_figure
from profiler_service.plots.interval_bar import Gain, interval_bar
from profiler_service.plots.thumbnail import thumbnail
from profiler_service.printable import printable
from tests.cli.stub import CURVE, NOW, PLATFORM, RACE, RACED

NAMES = [
    *("$x^2$", "rack[/gpu]", "\x1b[31mred", "a\nb", "role:lhp", "%{x}"),
    *("<b>x</b>", '<a href="http://evil.example">x</a>', "</script><script>alert(1)</script>"),
]


def figures(name: str) -> list[dict[str, Any]]:
    """Every kind of figure, with the name wherever a name can stand."""
    stages = [stage.model_copy(update={"why": name, "name": name}) for stage in RACE.stages]
    failures = [CURVE.failures[0].model_copy(update={"reason": name})]
    changes = {"workload": name, "axis_names": [name], "failures": failures, "platform": name}
    curve = RACED.model_copy(update=changes)
    compared = ComparedLine(label=name, dims=[1, 2], latency_s=[1, 2], ratio=[1, 2])
    return [
        curve_figure(curve, race=RACE.model_copy(update={"stages": stages})),
        curve_figure(
            CURVE.model_copy(update=changes),
            platform=PLATFORM.model_copy(update={"device_model": name}),
        ),
        compare_figure([compared, compared], axis=name, is_paired=True),
        history_figure(
            [HistoryPoint(time=NOW, value=1.0, note=name)],
            title=name,
            quantity="gain",
            changes=[PlatformChange(time=NOW, what=name)],
        ),
        interval_bar([Gain(label=name, gain=1.1, low=1.0, high=1.2)], title=name),
    ]


def texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for each in value.values() for text in texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in texts(each)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_figures_show_names_literally(name: str) -> None:
    shown = html.escape(printable(name), quote=False)
    for figure in figures(name):
        found = texts(figure)
        assert any(shown in text for text in found)
        if shown != name:
            assert not any(name in text for text in found)
        # A template would take `%{x}` for the number.
        assert not any("template" in key for trace in figure["data"] for key in trace)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_pages_show_names_literally(name: str) -> None:
    page = render_html(figures(name))
    body = page[page.rindex('<script type="application/json"') :]
    for tag in ("<b>", "<a ", "</script><script>alert"):
        assert tag not in body
    head = page[: page.index("<script>")]
    for tag in ("<b>", "<a ", "<script"):
        assert tag not in head
    assert name not in thumbnail([1.0], label=name) or not set("<>\x1b\n") & set(name)
