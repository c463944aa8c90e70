"""Figures of predicted landscapes: nothing in them looks measured."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from profiler_service.errors import InvalidRequestError
from profiler_service.plots.figure import Figure, unpack
from profiler_service.plots.files import save_figure
from profiler_service.plots.predicted import predicted_figure
from profiler_service.wire import AxisRange, PredictedPoints
from tests.cli.predicted import LANDSCAPE, LINE
from tests.plots.browser import needs_browser, open_page
from tests.plots.reading import notes, points, traces


def title(figure: Figure) -> str:
    return str(figure["layout"]["title"]["text"])


def test_two_axes_are_small_squares_in_the_colour_of_their_ratio() -> None:
    figure = predicted_figure(LANDSCAPE)
    cells = traces(figure)["predicted"]
    assert cells["type"] == "heatmap"
    # Rows 1197 and 1198, columns 317 to 319; the colour is log2 of the ratio.
    expected = np.log2([[1.0, 0.99, 0.98], [1.01, 1.04, 0.97]])
    assert unpack(cells["z"]) == pytest.approx(expected)
    # A third of each cell is empty: (1000 - 160) / 3 and 420 / 2 pixels, times 0.35.
    assert (cells["xgap"], cells["ygap"]) == (98, 74)
    assert "measured" not in cells["hovertemplate"]
    assert points(traces(figure)["asked"]) == [(317, 1197)]
    assert points(traces(figure)["leading"]) == [(318, 1198)]
    assert "leading: 1198 × 318" in notes(figure)
    assert not any("use " in note for note in notes(figure))
    assert title(figure) == "Predicted: 1198 × 318 is 4.0 % faster than 1197 × 317"
    assert "not measured; rests on 54 sweeps" in figure["layout"]["title"]["subtitle"]["text"]


def test_one_axis_is_hollow_purple_discs_with_a_dashed_interval() -> None:
    figure = predicted_figure(LINE)
    discs = traces(figure)["predicted"]
    assert points(discs) == [(317, 1.0), (318, 0.99), (319, 0.98), (320, 1.05)]
    assert discs["marker"]["symbol"] == "circle-open"
    assert discs["marker"]["color"] == "role:predicted"
    high = traces(figure)["95 % interval"]
    assert high["line"]["dash"] == "dash"
    # Two deviations of 0.6 % to each side, in log.
    assert points(high)[-1] == pytest.approx((320, 1.05 * math.exp(0.012)), abs=1e-6)
    assert "leading: 320" in notes(figure)


def test_without_deviations_there_is_no_interval() -> None:
    unsure = LINE.model_copy(update={"half_width_in_deviations": None})
    assert "95 % interval" not in traces(predicted_figure(unsure))


def test_nothing_faster_has_no_arrow() -> None:
    slower = LANDSCAPE.model_copy(
        update={"best": [each.model_copy(update={"speedup": 0.99}) for each in LANDSCAPE.best]}
    )
    figure = predicted_figure(slower)
    assert "leading" not in traces(figure)
    assert title(figure) == "Predicted: nothing larger is faster than 1197 × 317"


def test_points_that_are_no_candidates_are_gaps() -> None:
    some = PredictedPoints(dims=[[1197, 317], [1198, 319]], speedup=[1.0, 1.1], deviation=None)
    figure = predicted_figure(LANDSCAPE.model_copy(update={"points": some, "num_points": 2}))
    z = unpack(traces(figure)["predicted"]["z"])
    assert np.isfinite(z).sum() == 2


@pytest.mark.parametrize(
    ("changes", "said", "hint"),
    [
        ({"num_left_out": 3, "num_points": 2_000_000}, "2,000,000 points", "max-growth"),
        (
            {
                "points": PredictedPoints(dims=[], speedup=[], deviation=None),
                "caveats": ["unknown"],
            },
            "nothing is predicted",
            "unknown",
        ),
        ({"axes": [AxisRange(first=1, last=2)] * 3}, "3 axes", "--vary"),
    ],
)
def test_what_cant_be_drawn_is_refused(changes: dict[str, object], said: str, hint: str) -> None:
    with pytest.raises(InvalidRequestError, match=said) as caught:
        predicted_figure(LANDSCAPE.model_copy(update=changes))
    assert hint in caught.value.hint


@needs_browser
@pytest.mark.parametrize("curve", [LANDSCAPE, LINE], ids=["two axes", "one axis"])
def test_a_browser_draws_it(curve: object, tmp_path: Path) -> None:
    path = tmp_path / "predicted.html"
    save_figure(predicted_figure(curve), path)  # type: ignore[arg-type]
    [drawn], problems = open_page(
        path, "lhpDrawn.then(() => document.querySelectorAll('.main-svg').length)"
    )
    assert (drawn > 0, problems) == (True, [])
