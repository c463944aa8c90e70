"""Trains the network, pads it, and says what was found.

    python -m lhp_pad_to_lhp

A service must run on this machine (`lhp serve`), or elsewhere (`LHP_URL`).
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch

from lhp_pad_to_lhp.network import Classifier, count_right, make_input, train
from trainer_client import grow_to_lhp
from trainer_client.oracle.http import HttpLatencyOracle
from trainer_client.widths.files import write_padded
from trainer_client.widths.report import PadReport
from trainer_client.widths.threads import find_threads


def main() -> None:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--url",
        default=os.environ.get("LHP_URL", "http://127.0.0.1:8000"),
        help="address of the service",
    )
    parser.add_argument("--units", type=int, default=317, help="units of the recurrent layer")
    parser.add_argument("--hidden", type=int, default=301, help="units of the hidden layer")
    parser.add_argument("--batches", type=int, default=150, help="of training")
    parser.add_argument("--time", type=float, default=60.0, help="seconds for the races")
    parser.add_argument("--out", type=Path, help="file for the padded weights")
    options = parser.parse_args()
    torch.manual_seed(0)
    network = train(Classifier(options.units, options.hidden), batches=options.batches)
    torch.set_num_threads(find_threads(options.url) or torch.get_num_threads())
    with HttpLatencyOracle(options.url) as oracle:
        grown = grow_to_lhp(
            network,  # in use: your trained network
            make_input(),
            oracle=oracle,
            time_s=options.time,
            say=lambda line: print(line, file=sys.stderr),
        )
    print("\n".join(PadReport.of(grown, what="the classifier").to_lines()))
    right, still_right = count_right(network), count_right(grown.module)
    print(f"classified right, of 1000: {right} before, {still_right} now")
    if options.out is not None and grown.padded is not None:
        write_padded(grown.padded, options.out)


if __name__ == "__main__":
    main()
