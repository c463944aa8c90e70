"""Draws a curve as a small SVG for lists, as text: without plotly and without a browser."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

from profiler_service.plots.columns import F64
from profiler_service.printable import printable

MOST_POINTS = 60
EDGE = 3
"""Pixels around the line, so that its ends and marks aren't cut."""


def thumbnail(
    values: Sequence[float | None],
    *,
    marks: Sequence[int] = (),
    width: int = 120,
    height: int = 32,
    label: str = "",
) -> str:
    """An `<svg>` of the values from left to right, at most 60 of them, and dots at `marks`.

    `marks` are numbers of values. Of many values, the least and the largest of each stretch stay,
    so that steps and teeth are seen. The line breaks where a value is missing. Colours are the
    page's custom properties. `label` is its title, for whoever can't see it.
    """
    heights = np.array([np.nan if each is None else each for each in values], dtype=np.float64)
    chosen = _choose(heights)
    known = heights[np.isfinite(heights)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)

    def place(number: int) -> str:
        x = EDGE + (width - 2 * EDGE) * number / max(len(heights) - 1, 1)
        share = (heights[number] - low) / (high - low) if high > low else 0.5
        return f"{x:.1f},{height - EDGE - (height - 2 * EDGE) * share:.1f}"

    runs: list[list[str]] = [[]]
    for number in chosen:
        if np.isfinite(heights[number]):
            runs[-1].append(place(number))
        elif runs[-1]:
            runs.append([])
    parts = [f'<polyline points="{" ".join(run)}"/>' for run in runs if run]
    for number in marks:
        if np.isfinite(heights[number]):
            x, y = place(number).split(",")
            parts.append(f'<circle class="lhp-thumb-mark" cx="{x}" cy="{y}" r="1.6"/>')
    title = f"<title>{html.escape(printable(label))}</title>" if label else ""
    hidden = "" if label else ' aria-hidden="true"'
    return (
        f'<svg class="lhp-thumb" role="img" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}"{hidden}>{title}{"".join(parts)}</svg>'
    )


def _choose(heights: F64) -> list[int]:
    """The numbers of the values that are drawn: all, or two of each stretch."""
    count = len(heights)
    if count <= MOST_POINTS:
        return list(range(count))
    chosen: list[int] = []
    for stretch in np.array_split(np.arange(count), MOST_POINTS // 2):
        part = heights[stretch]
        if not np.isfinite(part).any():
            chosen.append(int(stretch[0]))
            continue
        ends = {int(stretch[np.nanargmin(part)]), int(stretch[np.nanargmax(part)])}
        chosen += sorted(ends)
    return chosen
