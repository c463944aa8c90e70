"""Compresses the classifier: `python -m lhp_compress_your_own --out DIR`."""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path

import torch

from lhp_compress_your_own.classifier import Classifier, draw, make_task
from trainer_client.compression import DEFAULT, compress
from trainer_client.oracle import HttpLatencyOracle


def main() -> None:
    """Prints the steps, and the widths of the module that comes out; saves it in the directory."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("run"))
    parser.add_argument("--max-growth", type=float, default=0.125)
    options = parser.parse_args()
    torch.manual_seed(0)
    module, task = Classifier(), make_task()
    (words_bt, _), *_ = draw(1, seed=1)
    with contextlib.ExitStack() as stack:
        oracle = None
        if "LHP_URL" in os.environ:
            oracle = stack.enter_context(HttpLatencyOracle(os.environ["LHP_URL"]))
        found = compress(
            module,
            task,
            oracle,
            example=(words_bt,),
            directory=options.out,
            config=DEFAULT.with_changes(
                {
                    "baseline_epochs": 12,
                    "growth_settling_epochs": 8,
                    "learning_rate": 1e-2,
                    "retrain_learning_rate": 3e-3,
                    "slack": 0.01,
                    "max_rounds": 3,
                    "max_growth": options.max_growth,
                }
            ),
        )
    for row in found.rows:
        print(f"{row['step']}: accuracy {row['valid_accuracy']:.3f} ({row['test_accuracy']:.3f})")
    for axis, width in found.widths.items():
        print(f"{axis}: {width}")
    parameters = [sum(p.numel() for p in each.parameters()) for each in (module, found.module)]
    print(f"parameters: {parameters[0]:,} -> {parameters[1]:,}")
    torch.save(found.module.state_dict(), options.out / "compact.pt")


if __name__ == "__main__":
    main()
