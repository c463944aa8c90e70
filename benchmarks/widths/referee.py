"""Times models side by side in this process: one process of the referee. torch and numpy only.

    python -m benchmarks.widths.referee FOLDER SECONDS

FOLDER has an `input.pt` and a file `NAME.pt` for each model, as torch.save writes them. Prints a
JSON object: each model's latencies, seconds, one number a block. In a block, every model is copied
to new memory and called in five rounds, in random order; the number is the median of the five.
"""

from __future__ import annotations

import copy
import json
import random
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import nn

WARMUP_CALLS = 2
ROUNDS = 5


@torch.inference_mode()
def time_models(folder: Path, seconds: float) -> dict[str, list[float]]:
    """Each model's latencies by name, one a block, for about so many seconds."""
    given = torch.load(folder / "input.pt", weights_only=False)
    models: dict[str, nn.Module] = {
        path.stem: torch.load(path, weights_only=False).eval()
        for path in sorted(folder.glob("*.pt"))
        if path.stem != "input"
    }
    blocks_s: dict[str, list[float]] = {name: [] for name in models}
    ends_s = time.monotonic() + seconds
    while time.monotonic() < ends_s or len(blocks_s["pruned"]) < 2:
        order = list(models)
        random.shuffle(order)
        copies = {name: copy.deepcopy(models[name]) for name in order}
        for model in copies.values():
            for _ in range(WARMUP_CALLS):
                model(given)
        rounds_s: dict[str, list[float]] = {name: [] for name in models}
        for _ in range(ROUNDS):
            random.shuffle(order)
            for name in order:
                started_ns = time.perf_counter_ns()
                copies[name](given)
                if given.is_cuda:
                    torch.cuda.synchronize()
                rounds_s[name].append((time.perf_counter_ns() - started_ns) * 1e-9)
        for name, each_s in rounds_s.items():
            blocks_s[name].append(statistics.median(each_s))
    return blocks_s


if __name__ == "__main__":
    torch.set_num_threads(1)
    json.dump(time_models(Path(sys.argv[1]), float(sys.argv[2])), sys.stdout)
