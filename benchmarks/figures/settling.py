"""A picture of a final: how the answer settles as rounds come in. Nothing is measured.

The samples are simulated, so that the truth is known: it is drawn beside the intervals.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("agg")
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from profiler_service.analysis.comparison import F64
from profiler_service.analysis.samples import Samples
from profiler_service.plan.race.repeatability import choose_margin, expect_repeatability
from profiler_service.plan.race.settings import RACE
from profiler_service.plan.race.settle import Final, Judgement, plan_looks
from profiler_service.plots.palette import PALETTE

LHP, UNDECIDED, POINT = (PALETTE[role][0] for role in ("lhp", "undecided", "measured"))
ASKED, TRUTH = 0, {0: 1.0, 1: 0.958, 2: 0.966, 3: 0.99}
"""Point → its latency over that of the queried point, which has number 0."""
NOISE = 0.04
TAU = 0.002
ROUNDS = 2000
PER_ARENA = 25
SEED = 6
CHOSEN_FROM = 24


def draw_settling(directory: Path) -> Path:
    """The picture `settling.svg` in that directory."""
    looks, margin = _simulate()
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(looks))
    for point, color in ((1, LHP), (2, UNDECIDED), (3, POINT)):
        offset = 0.16 * (point - 2)
        for place, (_, judgement) in zip(places, looks, strict=True):
            found = judgement.comparisons[point]
            axes.plot([place + offset] * 2, [found.low, found.high], color=color, linewidth=2)
            axes.plot(place + offset, found.ratio, "o", color=color, markersize=4)
        axes.axhline(TRUTH[point], color=color, linewidth=0.8, linestyle=":")
        axes.plot([], [], "o-", color=color, label=f"finalist {point}, truly {TRUTH[point]:.3f}")
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set_xticks(
        places,
        [f"{n} rounds\nmargin {100 * judgement.margin:.1f} %" for n, judgement in looks],
    )
    axes.set_ylabel("latency over that of the\nqueried point")
    axes.set_ylim(0.83, 1.07)
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    axes.set_title(
        f"All intervals hold together (95 %). Settled at a margin of {100 * margin:.1f} %.",
        fontsize=10,
    )
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper right")
    axes.spines[["top", "right"]].set_visible(False)
    path = directory / "settling.svg"
    with matplotlib.rc_context({"svg.hashsalt": "settling"}):
        figure.savefig(path, metadata={"Date": None})
    return path


def _simulate() -> tuple[list[tuple[int, Judgement]], float]:
    """The rounds and the judgement of each look until it is settled, and the margin wanted."""
    repeatability = expect_repeatability(RACE.settle, tau=TAU, is_compiled=False)
    margin = choose_margin(RACE.settle, repeatability, None, chosen_from=CHOSEN_FROM)
    final = Final(
        RACE.settle,
        asked=ASKED,
        finalists=[1, 2, 3],
        margin=margin,
        repeatability=repeatability,
        error=RACE.settle.error / RACE.settle.passes,
    )
    rng = np.random.default_rng(SEED)
    children = [TAU / np.sqrt(2) * rng.standard_normal(len(TRUTH)) for _ in range(2)]
    looks = []
    number = 0
    for look, share in plan_looks(RACE.settle, ROUNDS).items():
        while final.num_rounds < look:
            count = min(PER_ARENA, look - final.num_rounds)
            final.add(_take(rng, final, count, children, number), count)
            number += 1
        judgement = final.judge(share)
        assert judgement is not None
        looks.append((look, judgement))
        if judgement.is_decided:
            break
    return looks, margin


def _take(
    rng: np.random.Generator, final: Final, count: int, children: list[F64], number: int
) -> Samples:
    field = np.array(final.field, dtype=np.int32)
    point = np.concatenate([rng.permutation(field) for _ in range(count)])
    child = number % len(children)
    log = np.log([TRUTH[each] for each in point.tolist()]) + children[child][point]
    log += NOISE * rng.standard_t(4, len(point)) / np.sqrt(2)
    return Samples(
        point=point,
        round=np.repeat(final.num_rounds + np.arange(count), len(field)).astype(np.int32),
        time_s=np.arange(len(point), dtype=np.float32),
        latency_s=1e-4 * np.exp(log),
        calls=1,
        unstable=np.zeros(len(point), dtype=np.bool_),
        child=child,
    )
