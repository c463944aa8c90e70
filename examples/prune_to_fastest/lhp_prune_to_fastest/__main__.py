"""Prunes the network, and says what was found.

    python -m lhp_prune_to_fastest

A service must run on this machine (`lhp serve`), or elsewhere (`LHP_URL`).
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch

from lhp_prune_to_fastest.network import Network, make_images, make_pruner
from profiler_service.advice.example import Example
from profiler_service.client import ServiceClient
from profiler_service.widths.pruning import Pruned, prune_to_fastest


def find_threads(client: ServiceClient) -> int:
    """Threads that the service's only host measures with: the whole model must run as its layers.

    Without a host, or with several, it is what torch has.
    """
    hosts = client.list_hosts()
    if len(hosts) != 1:
        return torch.get_num_threads()
    return client.get_platform(hosts[0].platform).threads


def describe(pruned: Pruned) -> str:
    """Widths and parameters of both models, and the race between them."""
    found = pruned.found
    now, chosen = found.now, found.chosen
    lines = [
        f"{name}: {width} -> {chosen.widths[name]}" for name, width in sorted(now.widths.items())
    ]
    lines.append(f"parameters: {now.num_parameters} -> {chosen.num_parameters}")
    race = found.outcome
    slowest, fastest = 1 / race.comparison.high, 1 / race.comparison.low
    lines.append(
        f"latency: {race.reference_s * 1e3:.3f} ms -> {race.chosen_s * 1e3:.3f} ms,"
        f" {slowest:.3f} to {fastest:.3f} times as fast (95 %)"
    )
    if found.best is now:
        lines.append("not confidently faster: the model has the widths that the pruner leaves")
    return "\n".join(lines)


def main() -> None:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--url",
        default=os.environ.get("LHP_URL", "http://127.0.0.1:8000"),
        help="address of the service",
    )
    parser.add_argument("--width", type=int, default=64, help="channels of the stem")
    parser.add_argument("--time", type=float, default=120.0, help="seconds for the whole search")
    parser.add_argument(
        "--at-least",
        action="store_true",
        help="leave no width below its target, instead of as many parameters within 2 %%",
    )
    parser.add_argument("--out", type=Path, help="file for the pruned model")
    options = parser.parse_args()
    torch.manual_seed(0)
    with ServiceClient(options.url) as client:
        torch.set_num_threads(find_threads(client))
        pruned = prune_to_fastest(
            client,
            Network(options.width),  # in use: your trained model
            make_pruner,
            Example(args=(make_images(),)),
            params=None if options.at_least else (0.98, 1.02),
            time_s=options.time,
            say=lambda line: print(line, file=sys.stderr),
        )
    print(describe(pruned))
    if options.out is not None:
        torch.save(pruned.model, options.out)


if __name__ == "__main__":
    main()
