"""Races five whole models at pruned, rounded and chosen widths, end to end.

    python -m benchmarks.widths --out docs/results/widths.md

The models are in `benchmarks.widths.models`; `variants` makes the contenders. Torch-Pruning 1.6
prunes three of them by magnitude. Two are built at the widths that pruning left: the sizes of the
second are those of the poster on intrinsic sparse structures. `round_to` is Torch-Pruning's own
rule. *Ours* is chosen by `profiler_service.widths` with as many parameters as the pruned model,
within 2 %, and from a fresh service. Rounding down leaves fewer parameters, and so less work. A
second model of ours has as many parameters as the fastest of the rounded ones, within 2 %.

The referee (`benchmarks.widths.referee`) shares no code with the search: it loads the finished
models, and times all of them side by side, in new processes. A ratio's interval is over processes.

Prints a Markdown report. The exit code is 0 if every goal is met, 1 if not, 2 without a verdict.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.answers.machine import RefereeError
from benchmarks.answers.service import fresh_service
from benchmarks.answers.statistics import Ratio, ratio_of
from benchmarks.checked import publish
from benchmarks.provenance import heading
from benchmarks.soak.checks import Check
from benchmarks.widths.variants import CASES, ROUND_TO, Contenders, count
from profiler_service.client import ServiceClient
from profiler_service.widths.search import Found

F64 = npt.NDArray[np.float64]

PROCESSES = 4
DTYPES = ("float32", "bfloat16")
LIKE_ROUNDED = "ours like the best rounded"
ROUNDED = tuple(f"round_to {number}" for number in ROUND_TO)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One model in one dtype."""

    case: str
    dtype: str
    latency_s: Mapping[str, float]
    faster: Mapping[str, Ratio]
    """Contender → latency of the pruned model divided by its own: above 1 is faster."""
    parameters: Mapping[str, int]
    flops: Mapping[str, int]
    widths: Mapping[str, int]
    claimed: Mapping[str, tuple[float, float, float]]
    """What the searches themselves say: the same ratio, and its interval."""
    by_process: Mapping[str, Sequence[float]]
    """The same ratio in each process of the referee."""

    @property
    def best_rounded(self) -> str:
        """The fastest of the rounded contenders."""
        return max(ROUNDED, key=lambda name: self.faster[name].log)


def measure(
    case: str, dtype: str, command: Path, *, device: str, search_s: float, referee_s: float
) -> Cell:
    """The cell, from a fresh service."""
    contenders = Contenders(CASES[case], getattr(torch, dtype), device)
    first = _time(contenders, referee_s / PROCESSES)
    like = min(ROUNDED, key=lambda name: float(np.median(_ratios(first, name))))
    with fresh_service(command) as (url, _), ServiceClient(url) as client:
        _, found = contenders.add_ours(client, like="pruned", time_s=search_s, say=_say)
        name, found_like = contenders.add_ours(client, like=like, time_s=search_s, say=_say)
    contenders.models[LIKE_ROUNDED] = contenders.models.pop(name)
    processes = [_time(contenders, referee_s / PROCESSES) for _ in range(PROCESSES)]
    models = contenders.models
    return Cell(
        case=case,
        dtype=dtype,
        latency_s={
            name: float(np.median([np.median(each[name]) for each in processes])) for name in models
        },
        faster={
            name: ratio_of([-float(np.median(_ratios(each, name))) for each in processes])
            for name in models
        },
        parameters={name: count(model) for name, model in models.items()},
        flops={name: _count_flops(model, contenders.input) for name, model in models.items()},
        widths=found.best.widths,
        claimed={"ours": _read_claim(found), LIKE_ROUNDED: _read_claim(found_like)},
        by_process={
            name: [math.exp(-float(np.median(_ratios(each, name)))) for each in processes]
            for name in models
        },
    )


def _read_claim(found: Found) -> tuple[float, float, float]:
    """How many times as fast the search says that its choice is, with its interval."""
    turned = found.outcome.comparison.turned()
    return turned.ratio, turned.low, turned.high


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _ratios(blocks_s: Mapping[str, Sequence[float]], name: str) -> F64:
    """Log of a model's latency divided by the pruned one's, in each block of a process."""
    ratios: F64 = np.log(blocks_s[name]) - np.log(blocks_s["pruned"])
    return ratios


def _time(contenders: Contenders, seconds: float) -> dict[str, list[float]]:
    """The latencies of all contenders in one process of the referee."""
    with tempfile.TemporaryDirectory(prefix="lhp-widths-") as name:
        folder = Path(name)
        torch.save(contenders.input, folder / "input.pt")
        for contender, model in contenders.models.items():
            torch.save(model, folder / f"{contender}.pt")
        return _referee(folder, seconds)


def _referee(folder: Path, seconds: float) -> dict[str, list[float]]:
    command = [sys.executable, "-m", "benchmarks.widths.referee", str(folder), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RefereeError(f"the referee failed: {done.stderr.strip().splitlines()[-1:]}")
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def _count_flops(model: torch.nn.Module, given: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(given)
    return int(counter.get_total_flops())


def check(cells: list[Cell]) -> list[Check]:
    """The goals of the table."""
    slower = [_name(each) for each in cells if each.faster["ours"].high < 1]
    checks = [
        Check(
            claim="ours is never slower than the pruned model",
            found="nowhere" if not slower else f"slower: {', '.join(slower)}",
            holds=not slower,
        )
    ]
    for name, meaning in (
        ("ours", "with as many parameters as the pruned model"),
        (LIKE_ROUNDED, "with as many as the best `round_to`"),
    ):
        behind = []
        for each in cells:
            mine, best = each.faster[name], each.faster[each.best_rounded]
            if mine.log - best.log < -2 * math.hypot(mine.se, best.se) - 0.005:
                behind.append(f"{_name(each)} ({mine.estimate:.2f} against {best.estimate:.2f})")
        all_mine = float(np.mean([each.faster[name].log for each in cells]))
        all_best = float(np.mean([each.faster[each.best_rounded].log for each in cells]))
        checks += [
            Check(
                claim=f"ours, {meaning}: at least as fast as the best `round_to` of each model and"
                " dtype (within 0.5 % and twice the standard error)",
                found="everywhere" if not behind else f"behind: {', '.join(behind)}",
                holds=not behind,
            ),
            Check(
                claim=f"ours, {meaning}: ahead of it in the geometric mean",
                found=f"{math.exp(all_mine):.3f} against {math.exp(all_best):.3f} times the pruned",
                holds=all_mine > all_best,
            ),
        ]
    for dtype, goal in (("float32", 1.4), ("bfloat16", 1.7)):
        found = [
            each.faster["ours"] for each in cells if (each.case, each.dtype) == ("resnet", dtype)
        ]
        if found:
            checks.append(
                Check(
                    claim=f"the ResNet-like one in {dtype}: {goal} times as fast as pruned",
                    found=_show(found[0]),
                    holds=found[0].estimate >= goal,
                )
            )
    return checks


def _name(cell: Cell) -> str:
    return f"{CASES[cell.case].name}, {cell.dtype}"


def _show(ratio: Ratio) -> str:
    return f"{ratio.estimate:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def report(cells: list[Cell]) -> list[str]:
    """Tables: how many times as fast as the pruned model; parameters and products; widths."""
    heads = [
        "model",
        "pruned, ms",
        "original",
        *ROUNDED,
        "**ours**",
        LIKE_ROUNDED,
        "ours by its own race",
        "the second one by its own race",
    ]
    lines = [
        "How many times as fast as the pruned model, with 95 % intervals over processes:",
        "",
        f"| {' | '.join(heads)} |",
        f"|{'---|' * len(heads)}",
    ]
    for cell in cells:
        ours = f"**{_show(cell.faster['ours'])}**"
        claims = ["{:.2f} [{:.2f}, {:.2f}]".format(*each) for each in cell.claimed.values()]
        shown = [f"{cell.faster[name].estimate:.2f}" for name in ("original", *ROUNDED)]
        like = _show(cell.faster[LIKE_ROUNDED])
        row = [_name(cell), f"{cell.latency_s['pruned'] * 1e3:.3g}", *shown, ours, like, *claims]
        lines.append(f"| {' | '.join(row)} |")
    others = ("original", *ROUNDED, "ours", LIKE_ROUNDED)
    lines += [
        "",
        "Parameters, and in brackets multiplications and additions, relative to the pruned model:",
        "",
        f"| model | {' | '.join(others)} |",
        f"|{'---|' * (len(others) + 1)}",
    ]
    for cell in cells:
        shares = [
            f"{cell.parameters[name] / cell.parameters['pruned']:.3f}"
            f" ({cell.flops[name] / cell.flops['pruned']:.2f})"
            for name in others
        ]
        lines.append(f"| {_name(cell)} | {' | '.join(shares)} |")
    lines += ["", "The widths chosen:", ""]
    for cell in cells:
        widths = ", ".join(f"{name} {width}" for name, width in cell.widths.items())
        lines.append(f"- {_name(cell)}: {widths}")
    return lines


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--search-s", type=float, default=90.0)
    parser.add_argument("--referee-s", type=float, default=60.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    header = heading("Widths of whole models", "benchmarks.widths", "torch", "torch-pruning")
    command = Path(sys.executable).parent / "lhp"
    cells = []
    for case in options.models:
        for dtype in options.dtypes:
            print(f"{case} {dtype}", file=sys.stderr)
            cells.append(
                measure(
                    case,
                    dtype,
                    command,
                    device=options.device,
                    search_s=options.search_s,
                    referee_s=options.referee_s,
                )
            )
    figures = [
        {
            "case": cell.case,
            "dtype": cell.dtype,
            "latency_s": cell.latency_s,
            "parameters": cell.parameters,
            "flops": cell.flops,
            "faster": {k: [v.estimate, v.low, v.high] for k, v in cell.faster.items()},
            "widths": cell.widths,
            "claimed": cell.claimed,
            "by_process": cell.by_process,
        }
        for cell in cells
    ]
    return publish(options.out, header, report(cells), check(cells), cells=figures)


if __name__ == "__main__":
    sys.exit(main())
