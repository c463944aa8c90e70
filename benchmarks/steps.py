"""Compares the models that a run exported, step by step, on this processor.

    python -m benchmarks.steps DIR [--threads 1] [--blocks 25] [--out …]

Times whole evaluations of 70 words, batch 16, float32, as torch runs them: the baseline's, and the
dense export's of each step. In each block all weights lie at new, random multiples of 64 bytes; in
each of its rounds all models are called in random order, once for the caches and once timed. A
block's ratio is the median over its rounds; the ratio given is the median over blocks, resampled
for its 95 % interval. Goals: (c) is surely faster than (b), and the last step than the baseline.
Measures by itself: no code of the service's. Run it on an otherwise idle machine. `--out` gets the
run's report and logs, too.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.answers.machine import measuring_conditions
from benchmarks.baseline_kernels import BATCH, STEPS
from benchmarks.provenance import heading
from benchmarks.sparse_route import F64, Ratio, compare, measure
from trainer_client.export import load_baseline, load_dense
from trainer_client.report.document import NAMES
from trainer_client.run.logs import EPOCHS_LOG, MODELS, STEPS_LOG

COPIED = ("report.md", "report.json", "report.png", STEPS_LOG, EPOCHS_LOG)
ROUNDS = 3
"""Timed rounds in each block."""
LINE_FLOATS, MOST_LINES = 16, 64
"""A cache line, and how far weights are moved at most."""


def place_anew(model: nn.Module, rng: random.Random) -> None:
    """Moves every parameter and buffer to a new, random multiple of 64 bytes."""
    for tensor in (*model.parameters(), *model.buffers()):
        start = LINE_FLOATS * rng.randrange(MOST_LINES)
        arena = torch.empty(start + tensor.numel() + LINE_FLOATS, dtype=tensor.dtype)
        start += (-arena.data_ptr() // arena.element_size()) % LINE_FLOATS
        moved = arena[start : start + tensor.numel()].view(tensor.shape)
        moved.copy_(tensor)
        tensor.data = moved


def read_models(directory: Path) -> dict[str, nn.Module]:
    """The baseline and the dense exports of a run, by step. Raises ModelFileError, OSError."""
    models: dict[str, nn.Module] = {
        "baseline": load_baseline(directory / MODELS / "baseline.safetensors")
    }
    for step in NAMES:
        path = directory / MODELS / f"{step}.safetensors"
        if step != "baseline" and path.exists():
            models[step] = load_dense(path)
    return {step: model.requires_grad_(False).eval() for step, model in models.items()}


def measure_blocks(models: Mapping[str, nn.Module], blocks: int) -> dict[str, list[F64]]:
    """Seconds by step: one array of ROUNDS for each block."""
    rng = random.Random(0)
    seconds: dict[str, list[F64]] = {step: [] for step in models}
    vocabulary = len(models["baseline"].get_parameter("table_ve"))
    for _ in range(blocks):
        words_tb = torch.randint(vocabulary, (STEPS, BATCH))
        for model in models.values():
            place_anew(model, rng)

        def call(model: nn.Module, words_tb: Tensor = words_tb) -> Tensor:
            scores_tbv: Tensor = model(words_tb)[0]
            return scores_tbv

        calls = {step: (lambda model=model: call(model)) for step, model in models.items()}
        for step, found in measure(calls, ROUNDS, rng).items():
            seconds[step].append(found)
    return seconds


def ratio_of(slower: Sequence[F64], faster: Sequence[F64]) -> Ratio:
    """How many times as fast the second is, from the blocks that have both."""
    logs = [np.median(np.log(a / b)) for a, b in zip(slower, faster, strict=True)]
    return compare(np.exp(np.array(logs)), np.ones(len(logs)))


def are_alike(models: Mapping[str, nn.Module]) -> bool:
    """Whether (b) and (c) have weights of the same shapes. Then neither can be faster."""
    shapes = [
        [each.shape for each in models[step].parameters()]
        for step in ("units", "lhp")
        if step in models
    ]
    return len(shapes) == 2 and shapes[0] == shapes[1]


def report(seconds: Mapping[str, Sequence[F64]], *, alike: bool = False) -> list[str]:
    """Markdown lines: a table of the steps, and the goals.

    If (b) and (c) are `alike`, their ratio isn't a goal but a control: it shows the error of the
    measurement.
    """
    lines = ["| step | median | times as fast as the baseline |", "|---|---:|---:|"]
    for step, found in seconds.items():
        ratio = ratio_of(seconds["baseline"], found)
        cell = "" if step == "baseline" else _format(ratio)
        lines.append(
            f"| {NAMES[step]} | {1e3 * float(np.median(np.array(found))):.2f} ms | {cell} |"
        )
    last = list(seconds)[-1]
    goals = [("the last step is faster than the baseline", "baseline", last)]
    if {"units", "lhp"} <= set(seconds):
        goals.insert(0, ("(c) is faster than (b)", "units", "lhp"))
    lines += ["", "| goal | times as fast | met |", "|---|---:|---|"]
    for told, slower, faster in goals:
        ratio = ratio_of(seconds[slower], seconds[faster])
        met = "yes" if ratio.low > 1 else "NO"
        if alike and slower == "units":
            told, met = "(c) is faster than (b), whose dims it has: a control", "NO"
        lines.append(f"| {told} | {_format(ratio)} | {met} |")
    return lines


def _format(ratio: Ratio) -> str:
    return f"{ratio.value:.4f} ({ratio.low:.4f} to {ratio.high:.4f})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints the report, and writes it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--blocks", type=int, default=25)
    parser.add_argument("--out", type=Path, help="folder for the report, and the run's")
    options = parser.parse_args(arguments)
    lines = heading("A run's models, step by step", "benchmarks.steps", "torch")
    torch.manual_seed(0)
    models = read_models(options.directory)
    lines.append(
        f"{STEPS} words, batch {BATCH}, float32, threads: {options.threads};"
        f" {options.blocks} blocks of {ROUNDS} rounds."
    )
    lines.append("")
    for step in models:
        path = options.directory / MODELS / f"{step}.safetensors"
        lines.append(f"- SHA-256 of {path.name}: {hashlib.sha256(path.read_bytes()).hexdigest()}")
    with measuring_conditions(threads=options.threads, cpus=options.threads):
        seconds = measure_blocks(models, options.blocks)
    text = "\n".join([*lines, "", *report(seconds, alike=are_alike(models))]) + "\n"
    print(text, end="")
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "steps.md").write_text(text)
        for name in COPIED:
            if (options.directory / name).exists():
                shutil.copyfile(options.directory / name, options.out / name)


if __name__ == "__main__":
    main()
