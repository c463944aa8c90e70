"""Draws the pictures of docs/explanation/latency-model.md.

    python -m benchmarks.learned.pictures --figures docs/results/learned.json \
        --url http://127.0.0.1:8000 --out docs/explanation/pictures

`reliability.png` holds each prediction of a run of `benchmarks.learned` against the referee's
measurement. `effects.png` shows what a running service has learned of `linear`: how latency depends
on one dimension, beyond its trend, at three sizes.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.answers.statistics import F64, student_95
from benchmarks.learned.trials import LearnedFindings, LearnedTrial
from benchmarks.png import shrink

PREDICTED, OTHER, MULTIPLES = "#9b4f80", "#828a98", "#0067a8"
SIZES = (160, 480, 1120)
"""The other dimension is the same; effects of multiples grow or fade with it."""
SHOWN = 64
"""Positions of an axis that are drawn."""
STEP = 16


def draw_reliability(trials: Sequence[LearnedTrial], path: Path) -> None:
    """Predicted against measured change of latency, with the predictions' intervals."""
    axes, figure = _open(figsize=(6.5, 5.5))
    moved = [trial for trial in trials if trial.predicted.candidate != trial.dims]
    predicted = np.array([-math.log(trial.predicted.speedup) for trial in moved])
    ratios = [trial.measurement.ratio(trial.predicted.candidate, trial.dims) for trial in moved]
    measured = np.array([ratio.log for ratio in ratios])
    own = np.array([student_95(ratio.processes - 1) * ratio.se for ratio in ratios])
    for trial, x, y in zip(moved, predicted, measured, strict=True):
        if trial.predicted.interval is not None:
            low, high = trial.predicted.interval
            ends = [-100 * math.log(high), -100 * math.log(low)]
            axes.plot([100 * x] * 2, ends, color=PREDICTED, alpha=0.35, linewidth=1)
        axes.plot(100 * x, 100 * y, "o", color=PREDICTED, markersize=4, fillstyle="full")
    axes.errorbar(
        100 * predicted, 100 * measured, yerr=100 * own, fmt="none", color="#14171c", linewidth=0.8
    )
    ends = [100 * min(predicted.min(), measured.min()) - 0.5, 1.0]
    axes.plot(ends, ends, color=OTHER, linewidth=1)
    axes.set_xlabel("predicted change of latency, %")
    axes.set_ylabel("measured by the referee, %")
    axes.set_title("Predictions of windows that nobody had measured")
    _save(figure, path)


def read_effects(client: httpx.Client, axis: int, size: int) -> tuple[F64, F64]:
    """Dims of one axis from `size` on, and the change of latency beyond the trend, in %."""
    dims = [size, size]
    asked = {
        "dims": ",".join(map(str, dims)),
        "max_growth": f"{SHOWN / size:.4f}",
        "max_points": "100000",
    }
    body = client.get("/curves/predicted", params=asked).raise_for_status().json()
    columns = body["points"]
    points = np.array(columns["dims"])
    log = -np.log(np.array(columns["speedup"]))
    row = points[:, 1 - axis] == size
    along, value = points[row, axis], log[row]
    kept = along < size + SHOWN
    trend = np.polynomial.Polynomial.fit(np.log(along[kept]), value[kept], 1)
    beyond: F64 = 100 * (value[kept] - trend(np.log(along[kept])))
    return along[kept].astype(np.float64), beyond


def draw_effects(client: httpx.Client, path: Path) -> None:
    """The effects of both axes at the three sizes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels: Any = figure.subplots(len(SIZES), 2, sharey=True)
    for row, size in enumerate(SIZES):
        for axis, name in enumerate(("out_features", "in_features")):
            panel = panels[row][axis]
            along, beyond = read_effects(client, axis, size)
            is_multiple = along % STEP == 0
            panel.axhline(0, color="#e4e4df", linewidth=1)
            panel.plot(along, beyond, color=OTHER, linewidth=1)
            panel.plot(along, beyond, "o", color=OTHER, markersize=2.5)
            panel.plot(along[is_multiple], beyond[is_multiple], "o", color=MULTIPLES, markersize=5)
            panel.set_xticks(along[is_multiple])
            panel.set_title(f"{name}, the other {size}", fontsize=10)
            if axis == 0:
                panel.set_ylabel("beyond the trend, %")
    _save(figure, path)


def _open(**options: Any) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained", **options)
    FigureCanvasAgg(figure)
    return figure.subplots(), figure


def _save(figure: Any, path: Path) -> None:
    sink = io.BytesIO()
    figure.savefig(sink, dpi=110)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(shrink(sink.getvalue()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Draws what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--figures", type=Path, help="raw figures of a run")
    parser.add_argument("--url", help="of a service that has learned")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    options = parser.parse_args(arguments)
    if options.figures is not None:
        trials = LearnedFindings.read(options.figures).trials
        draw_reliability(trials, options.out / "reliability.png")
    if options.url is not None:
        with httpx.Client(base_url=options.url, timeout=60) as client:
            draw_effects(client, options.out / "effects.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
