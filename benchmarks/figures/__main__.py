"""Draws a figure of the paper from measurements of this machine, or one that explains.

    python -m benchmarks.figures fig1      # sparse libraries against dense ones
    python -m benchmarks.figures fig2      # a square product, sizes 256 to 2,048
    python -m benchmarks.figures fig3      # DeepSpeech2, widths 600 to 800
    python -m benchmarks.figures redraw    # the curves of docs/results, from their data
    python -m benchmarks.figures settling --out docs/assets    # simulated: an answer settles

The first three measure on the device on which the service would measure. They write a picture, the
data and a report into `--out`. `redraw` measures nothing: after a change of `lhp plot`, it renews
the pictures and reports that lie in `--out` beside their data.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import hysteresis, sparse
from benchmarks.figures.redraw import redraw
from benchmarks.figures.settling import draw_settling
from profiler_service.errors import LhpError

SECONDS = {"fig1": 120.0, "fig2": 380.0, "fig3": 380.0}


def main(arguments: Sequence[str] | None = None) -> int:
    """Draws the figure asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.figures", description="The paper's figures, measured here."
    )
    parser.add_argument("figure", choices=[*sorted(SECONDS), "redraw", "settling"])
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--seconds", type=float, help="of measuring; " + _show_defaults())
    options = parser.parse_args(arguments)
    if options.figure == "settling":
        draw_settling(options.out)
        return 0
    if options.figure == "redraw":
        redraw(options.out)
        return 0
    seconds = SECONDS[options.figure] if options.seconds is None else options.seconds
    try:
        if options.figure == "fig1":
            sparse.fig1(options.out, seconds=seconds)
        else:
            hysteresis.draw_figure(options.figure, options.out, seconds=seconds)
    except LhpError as error:
        print(f"error: {error}\nhint: give it more --seconds, or: {error.hint}", file=sys.stderr)
        return 1
    return 0


def _show_defaults() -> str:
    return ", ".join(f"{seconds:g} for {figure}" for figure, seconds in SECONDS.items())


if __name__ == "__main__":
    sys.exit(main())
