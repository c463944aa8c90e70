"""The report of a run as a picture: perplexity over parameters, and over latency."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, MaxNLocator, NullFormatter

from trainer_client.report.document import NAMES, Report

DOTS_PER_INCH = 120
MOST_TICKS = 6


@dataclass(frozen=True, kw_only=True)
class Mark:
    """How a step is drawn: rings of different sizes, so that several at one place all show."""

    marker: str
    size: float
    color: str


MARKS: Mapping[str, Mark] = {
    "baseline": Mark(marker="s", size=18, color="#56606b"),
    "growth": Mark(marker="o", size=16, color="#e08214"),
    "units": Mark(marker="o", size=11.5, color="#2c8c3c"),
    "lhp": Mark(marker="o", size=7, color="#c51b1b"),
    "weights": Mark(marker="o", size=2.5, color="#5e3c99"),
}
"""By step; the later one is the smaller one."""


def draw(report: Report) -> bytes:
    """The picture of the report, as PNG."""
    buffer = io.BytesIO()
    make_figure(report).savefig(buffer, dpi=DOTS_PER_INCH, format="png")
    return buffer.getvalue()


def make_figure(report: Report) -> Figure:
    """The figure of the report.

    The second axes, which show latencies as shares of (a)'s, are drawn if at least one more step
    was measured in a sweep with (a).
    """
    ratios = {step: each for step, each in report.latencies.items() if each.ratio is not None}
    has_ratios = len(ratios) > 1
    figure = Figure(figsize=(10 if has_ratios else 6, 4.8), layout="constrained")
    axes = figure.subplots(1, 2 if has_ratios else 1, squeeze=False)[0]
    for row in report.rows:
        number = max(row["recurrent_parameters"], 1)  # the axis is logarithmic
        _draw_step(axes[0], row["step"], number, row["valid_perplexity"])
        latency = ratios.get(row["step"])
        if has_ratios and latency is not None and latency.ratio is not None:
            low, high = latency.ratio_low or latency.ratio, latency.ratio_high or latency.ratio
            color = MARKS[row["step"]].color
            axes[1].hlines(row["valid_perplexity"], low, high, colors=color, linewidth=1)
            _draw_step(axes[1], row["step"], latency.ratio, row["valid_perplexity"])
    if has_ratios:
        axes[1].set_xlabel("latency of the dense network\nas a share of (a)'s in the same sweep")
    for each in axes:
        each.set_ylabel("validation perplexity")
        each.margins(0.12)
        each.xaxis.set_major_locator(MaxNLocator(nbins=6))
        each.yaxis.set_major_locator(MaxNLocator(nbins=6))
    _set_parameters(axes[0], [max(row["recurrent_parameters"], 1) for row in report.rows])
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside lower center", ncols=3, frameon=False, labelspacing=1.1
    )
    return figure


def _draw_step(axes: Axes, step: str, x: float, y: float) -> None:
    mark = MARKS[step]
    axes.plot(
        [x],
        [y],
        linestyle="none",
        marker=mark.marker,
        markersize=mark.size,
        markerfacecolor=mark.color if step == "weights" else "none",
        markeredgecolor=mark.color,
        markeredgewidth=1.8,
        label=NAMES[step],
    )


def _set_parameters(axes: Axes, numbers: Sequence[int]) -> None:
    """Makes the x axis logarithmic, with one to MOST_TICKS ticks."""
    # So wide that it has a tick at least: 1, 2, 5, 10 … are at most 2.5 times apart.
    low, high = min(numbers) / 1.6, max(numbers) * 1.6
    decades = [10**power for power in range(math.floor(math.log10(low)), 20)]
    for leading in ((1, 2, 5), (1,)):
        ticks = [each * ten for ten in decades for each in leading if low <= each * ten <= high]
        if len(ticks) <= MOST_TICKS:
            break
    axes.set(xscale="log", xlabel="recurrent parameters", xlim=(low, high))
    axes.xaxis.set_major_locator(FixedLocator(ticks[:: 1 + (len(ticks) - 1) // MOST_TICKS]))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())
