"""Fig. 1 of Yin et al.: sparse libraries against dense ones.

A square weight times a batch of 16, over the size. Every size and kernel has one visit in each
round, so a disturbance affects all of them alike. Measures on the device on which the service would
measure.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.provenance import heading
from profiler_service.analysis.comparison import F64, Comparison, column_medians, compare
from profiler_service.analysis.samples import Samples
from profiler_service.grid import Grid
from profiler_service.kinds.kernels import ALL_KERNELS, Kernel, kernel_workload
from profiler_service.measurement.measurer import Measurer
from profiler_service.plan.base import Batch
from profiler_service.workload import Workload

SIZES = range(256, 2049, 64)
KERNELS = {
    "dense": Kernel("dense"),
    "packed": Kernel("packed"),
    "csr at 90 %": Kernel("csr", 90),
    "csr at 95 %": Kernel("csr", 95),
}
DENSE = ("dense", "packed")
SPARSE = ("csr at 90 %", "csr at 95 %")
COLOURS = {
    "dense": "#6b7a90",
    "packed": "#1f5fa8",
    "csr at 90 %": "#e08a00",
    "csr at 95 %": "#c8102e",
}
WARMUP_CALLS = 8
SAMPLE_S = 1e-4
FEWEST_ROUNDS = 12


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Latencies of every kernel over the sizes, and their comparisons."""

    log: dict[str, F64]
    """Kernel → log latencies [rounds, sizes]; NaN if a round has none."""
    sizes: Sequence[int] = SIZES

    @property
    def dense(self) -> list[str]:
        """The dense kernels."""
        return [name for name in DENSE if name in self.log]

    def best_dense(self, size: int) -> str:
        """The dense kernel with the smaller median in every third round."""
        return min(self.dense, key=lambda name: float(np.nanmedian(self.log[name][::3, size])))

    def compare(self, rival: str, reference: str, size: int) -> Comparison:
        """The comparison of two kernels at a size, from the rounds that chose nothing."""
        judging = np.arange(len(self.log[rival])) % 3 != 0
        pairs = (self.log[rival] - self.log[reference])[judging, size]
        return compare(pairs[~np.isnan(pairs)])


def measure(
    measure_batch: Callable[[Workload, Grid, Batch], Samples],
    *,
    seconds: float,
    batch: int,
    kernels: Mapping[str, Kernel] = KERNELS,
    sizes: Sequence[int] = SIZES,
) -> Curves:
    """Rounds over all sizes and kernels, both in random order, for about `seconds`."""
    rng = np.random.default_rng(0)
    points = np.array([kernel.point for kernel in kernels.values()], dtype=np.int32)
    rounds: list[F64] = []
    calls = np.full(len(sizes), 4)
    started = time.monotonic()
    while len(rounds) < FEWEST_ROUNDS or time.monotonic() - started < seconds:
        latency_s = np.full((len(kernels), len(sizes)), np.nan)
        for place in rng.permutation(len(sizes)).tolist():
            size = sizes[place]
            samples = measure_batch(
                kernel_workload((size, size), batch=batch, dtype="float32"),
                ALL_KERNELS,
                Batch(
                    point=rng.permutation(points),
                    round=np.zeros(len(points), dtype=np.int32),
                    calls=int(calls[place]),
                    warmup_calls=WARMUP_CALLS,
                ),
            )
            for point, value in zip(samples.point, samples.latency_s, strict=True):
                latency_s[points.tolist().index(point), place] = value
        if not rounds:
            calls = np.clip(np.ceil(SAMPLE_S / np.nanmin(latency_s, axis=0)), 1, 8).astype(int)
        rounds.append(np.log(latency_s))
    stacked = np.stack(rounds[1:])  # the first round was timed differently
    return Curves(log={name: stacked[:, i] for i, name in enumerate(kernels)}, sizes=sizes)


def write_csv(curves: Curves, path: Path) -> None:
    """Every kernel's median latency and its 95 % interval at every size."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["size", "kernel", "latency_s", "low_s", "high_s", "num_samples"])
        for name, log in curves.log.items():
            medians = column_medians(log)
            for i, size in enumerate(curves.sizes):
                interval = (np.exp(x[i]) for x in (medians.center, medians.low, medians.high))
                writer.writerow([size, name, *(f"{x:.4g}" for x in interval), medians.count[i]])


def draw(curves: Curves, path: Path, *, title: str) -> None:
    """Plots latency, and its ratio to that of the best dense kernel, over the size."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 8), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    for name, log in curves.log.items():
        medians, colour = column_medians(log), COLOURS[name]
        above.plot(curves.sizes, 1e6 * np.exp(medians.center), color=colour, label=name, marker=".")
        above.fill_between(
            curves.sizes,
            1e6 * np.exp(medians.low),
            1e6 * np.exp(medians.high),
            color=colour,
            alpha=0.25,
            linewidth=0,
        )
    for name in SPARSE:
        found = [curves.compare(name, curves.best_dense(i), i) for i in range(len(curves.sizes))]
        below.plot(curves.sizes, [each.ratio for each in found], color=COLOURS[name], marker=".")
        below.fill_between(
            curves.sizes,
            [each.low for each in found],
            [each.high for each in found],
            color=COLOURS[name],
            alpha=0.25,
            linewidth=0,
        )
    above.set(yscale="log", ylabel="latency, µs", title=title)
    above.legend()
    above.grid(alpha=0.3, which="both")
    below.axhline(1, color="#111111", linewidth=1)
    below.set(ylabel="over the best dense kernel's", xlabel="size of the square weight", ylim=0)
    below.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def table(curves: Curves) -> list[str]:
    """Markdown lines: the results of every size."""
    lines = [
        f"| size | {' | '.join(curves.dense)} | csr at 90 % | over the best dense | csr at 95 % |"
        " over the best dense |",
        f"|---:|{'---:|' * len(curves.dense)}---:|---|---:|---|",
    ]
    for i, size in enumerate(curves.sizes):
        median = {name: float(np.nanmedian(log[:, i])) for name, log in curves.log.items()}
        best = curves.best_dense(i)
        cells = [f"{1e6 * np.exp(median[name]):.0f} µs" for name in curves.dense]
        for name in SPARSE:
            found = curves.compare(name, best, i)
            cells += [
                f"{1e6 * np.exp(median[name]):.0f} µs",
                f"{found.ratio:.2f} ({found.low:.2f} to {found.high:.2f}), {best}",
            ]
        lines.append(f"| {size} | {' | '.join(cells)} |")
    return lines


def say(curves: Curves) -> list[str]:
    """Markdown lines: numbers of verdicts, and the paper's own comparison."""
    lines = []
    for name in SPARSE:
        verdicts = [
            curves.compare(name, curves.best_dense(i), i).verdict for i in range(len(curves.sizes))
        ]
        against = np.nanmedian(curves.log["dense"] - curves.log[name], axis=0)
        best = np.array(
            [
                1 / curves.compare(name, curves.best_dense(i), i).ratio
                for i in range(len(curves.sizes))
            ]
        )
        lines.append(
            f"- **{name} against the best dense kernel**: faster at {verdicts.count('faster')} of"
            f" {len(curves.sizes)} sizes, slower at {verdicts.count('slower')}; {best.min():.2f} to"
            f" {best.max():.2f} times as fast. Against torch's default alone (`dense`) it would"
            f" have been {np.exp(against.min()):.2f} to {np.exp(against.max()):.2f} times."
        )
    return [
        *lines,
        "- The paper's own comparison, of its libraries' default kernels: on its GPUs dense wins"
        " even at 95 % zeros, on its CPUs sparse wins at high sparsity.",
    ]


def fig1(out: Path, *, seconds: float) -> None:
    """Measures and draws Fig. 1: `fig1.csv`, `fig1.png`, `fig1.md`."""
    lines = heading("Fig. 1: sparse against dense", "benchmarks.figures", "torch", "numpy")
    with Measurer() as measurer:
        curves = measure(measurer.measure, seconds=seconds, batch=16)
        platform = measurer.platform
    rounds = len(next(iter(curves.log.values())))
    name = platform.device_model.partition(" (")[0]
    title = f"Square weight, batch 16, float32, {platform.threads} thread on {name}"
    if platform.threads != 1:
        title = title.replace(" thread ", " threads ")
    write_csv(curves, out / "fig1.csv")
    draw(curves, out / "fig1.png", title=title)
    lines += [
        f"{title}; {rounds} rounds, medians, 95 % intervals of ratios paired within rounds.",
        "",
        "![latency over size, and over the best dense kernel's](fig1.png)",
        "",
        *say(curves),
        "- `compiled` is left out: its kernel is MKL's with a rearranged weight, plus about 30 µs"
        " of Python per call.",
        "",
        *table(curves),
        "",
        "Data: [fig1.csv](fig1.csv).",
    ]
    (out / "fig1.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
