"""The picture of a report shows every step, wherever the others are."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from trainer_client.report.document import Report
from trainer_client.report.figure import MARKS, draw, make_figure
from trainer_client.report.step_latencies import Latency
from trainer_client.run.logs import Row

STEPS = tuple(MARKS)

Place = tuple[int, float, float]
"""Parameters, perplexity and ratio of a step."""


def make_report(places: Mapping[str, Place]) -> Report:
    rows: list[Row] = [
        {"step": step, "recurrent_parameters": number, "valid_perplexity": perplexity}
        for step, (number, perplexity, _) in places.items()
    ]
    latencies = {
        step: Latency(
            latency_s=1e-3 * ratio,
            low_s=None,
            high_s=None,
            ratio=None if step == "baseline" else ratio,
            curves=["c1"],
            platform="p",
            host="anvil",
            device="a device",
            measured_at="2026-01-02",
        )
        for step, (_, _, ratio) in places.items()
    }
    return Report(config={}, is_finished=True, rows=rows, latencies=latencies, digests={})


PLACES: Mapping[str, Mapping[str, Place]] = {
    "apart": {
        "baseline": (906_300, 97.62, 1.0),
        "growth": (311_565, 102.45, 1.0),
        "units": (223_645, 106.61, 0.87),
        "lhp": (223_645, 104.48, 0.86),
        "weights": (145_374, 103.87, 0.86),
    },
    "b under c": {
        "baseline": (906_300, 97.62, 1.0),
        "growth": (311_565, 102.45, 1.0),
        "units": (223_645, 104.48, 0.87),
        "lhp": (223_645, 104.48, 0.87),
        "weights": (145_374, 103.87, 0.87),
    },
    "all at one place": dict.fromkeys(STEPS, (223_645, 104.48, 1.0)),
    "far apart": {
        step: (10 ** (3 + i), 100.0 * 9**i, 0.1 ** (i - 1)) for i, step in enumerate(STEPS)
    },
    "no weights left": dict.fromkeys(STEPS, (0, 1e30, 1.0)),
}


def texts_of(figure: Figure) -> list[Text]:
    """Every text that is drawn: labels of axes and of their ticks, and the legend."""
    texts = [text for legend in figure.legends for text in legend.get_texts()]
    for axes in figure.axes:
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            texts.append(axis.label)
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            texts += [tick.label1 for tick in ticks if low <= tick.get_loc() <= high]
    return [text for text in texts if text.get_text()]


@pytest.mark.parametrize("name", PLACES)
def test_no_label_overlaps_another(name: str) -> None:
    figure = make_figure(make_report(PLACES[name]))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    renderer: Any = canvas.get_renderer()  # type: ignore[no-untyped-call]
    boxes = [(each.get_text(), each.get_window_extent(renderer)) for each in texts_of(figure)]
    assert len(boxes) > 14
    for text, box in boxes:
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, f"{text!r} is cut off"
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, f"{text!r} is cut off"
    for (text, box), (other, another) in itertools.combinations(boxes, 2):
        assert not box.overlaps(another), f"{text!r} overlaps {other!r}"


def pixels_of(image: np.ndarray[Any, Any], color: str) -> int:
    """How many pixels have nearly that colour."""
    return int((np.abs(image[:, :, :3] - np.array(to_rgb(color))).max(axis=2) < 0.02).sum())


@pytest.mark.parametrize("name", PLACES)
def test_every_step_is_seen_wherever_the_others_are(name: str) -> None:
    report = make_report(PLACES[name])
    figure = make_figure(report)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    whole = np.asarray(canvas.buffer_rgba()) / 255  # type: ignore[no-untyped-call]
    height = whole.shape[0]
    steps: Sequence[Sequence[str]] = (STEPS, STEPS[1:])  # no latency of the baseline
    for axes, shown in zip(figure.axes, steps, strict=True):
        box = axes.bbox
        panel = whole[height - int(box.y1) : height - int(box.y0), int(box.x0) : int(box.x1)]
        for step in shown:
            assert pixels_of(panel, MARKS[step].color) >= 8, step


def test_the_parameters_have_a_tick_whatever_they_are() -> None:
    for number in (1, 13, 999, 31_000, 223_645, 7_200_000):
        figure = make_figure(make_report(dict.fromkeys(STEPS, (number, 100.0, 1.0))))
        axes = figure.axes[0]
        low, high = axes.get_xlim()
        assert [tick for tick in axes.xaxis.get_majorticklocs() if low <= tick <= high]


def test_latencies_that_no_sweep_has_together_arent_drawn_side_by_side() -> None:
    places = {step: PLACES["apart"][step] for step in ("baseline", "growth")}
    assert len(make_figure(make_report(places)).axes) == 1
    assert len(make_figure(make_report(PLACES["apart"])).axes) == 2


def test_it_is_a_png() -> None:
    image = matplotlib.image.imread(io.BytesIO(draw(make_report(PLACES["apart"]))))
    assert image.shape == (576, 1200, 4)
