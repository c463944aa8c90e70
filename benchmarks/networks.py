"""Compares the H-LSTM layer with a plain loop over its gates and with `torch.nn.LSTM`.

    python -m benchmarks.networks [--device cuda] [--rounds 21] [--out docs/results/networks.md]

- `H-LSTM`: the layer that is measured and trained, as the measuring child calls it;
- `loop`: the same weights and states by the equations, written straightforwardly: at each step,
  for each gate, its two products;
- `LSTM`: the two layers of `torch.nn.LSTM` that the paper's H-LSTM layer stands for, input →
  gate width → state width (its baseline is 400 → 1500 → 400).

In each round all three are built anew, at other places in memory, and called once in random
order, timed as the measuring child times them. Goals: twice as fast as the loop; no slower than
the LSTM per useful floating-point operation (those of products, which is what kinds count).
"""

from __future__ import annotations

import argparse
import functools
import os
import random
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from benchmarks.provenance import heading
from profiler_service.kinds import HLSTM, LSTM
from profiler_service.measurement.devices import Device, open_device
from profiler_service.measurement.networks import build_hlstm, build_lstm
from profiler_service.measurement.operations import Call, Operands
from profiler_service.measurement.processors import find_measured_cpus
from profiler_service.networks import hlstm
from profiler_service.workload import ParamValue

# Shapes: T time steps, B batch, K the four gates, I input_size, G gate_width, S state_width,
# J = I + S.

DIMS = ((1500, 400), (1197, 317), (256, 128))
DTYPES = ("float32", "bfloat16", "float16")
INPUT_SIZE = 400
NAMES = ("H-LSTM", "loop", "LSTM")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One comparison: dims, dtype, useful operations of each contender, and its latencies."""

    dims: tuple[int, int]
    dtype: str
    flops: Mapping[str, int]
    latencies_s: Mapping[str, list[float]]

    def rates(self, name: str) -> list[float]:
        """Useful operations per second in each round, in 10⁹."""
        return [self.flops[name] / each / 1e9 for each in self.latencies_s[name]]


def loop_over_gates(
    x_tbi: Tensor,
    matrices_kgj: Tensor,
    hidden_bias_kg: Tensor,
    gate_ksg: Tensor,
    gate_bias_ks: Tensor,
) -> Tensor:
    """All states h_tbs, one gate and one step at a time."""
    h_bs = c_bs = x_tbi.new_zeros(x_tbi.shape[1], gate_ksg.shape[1])
    states = []
    for x_bi in x_tbi:
        x_bj = torch.cat([x_bi, h_bs], dim=1)
        f, i, o, g = (
            F.linear(
                torch.relu(F.linear(x_bj, matrices_kgj[k], hidden_bias_kg[k])),
                gate_ksg[k],
                gate_bias_ks[k],
            )
            for k in range(4)
        )
        c_bs = torch.sigmoid(f) * c_bs + torch.sigmoid(i) * torch.tanh(g)
        h_bs = torch.sigmoid(o) * torch.tanh(c_bs)
        states.append(h_bs)
    return torch.stack(states)


def check_loop() -> None:
    """Exits if the loop computes something else than the layer."""
    layer = hlstm.HLSTM(7, 5, 11).double().eval()
    x_tbi = torch.randn(6, 3, 7, dtype=torch.float64)
    weights = layer.weights()
    matrices_kgj = torch.cat([weights.input_kgi, weights.recurrent_kgs], dim=2)
    states = loop_over_gates(
        x_tbi,
        matrices_kgj,
        weights.hidden_bias_kg,
        weights.gate_ksg,
        weights.gate_bias_ks,
    )
    if not torch.allclose(states, layer(x_tbi)[0]):
        sys.exit("the loop and the layer differ")


def build_loop(
    operands: Operands, gate_width: int, state_width: int, batch: int, steps: int
) -> Call:
    """The call of the loop. Its weights are in arenas, as the others' are."""
    return functools.partial(
        loop_over_gates,
        operands.input(steps, batch, INPUT_SIZE),
        operands.weight(4, gate_width, INPUT_SIZE + state_width),
        operands.weight(4, gate_width),
        operands.weight(4, state_width, gate_width),
        operands.weight(4, state_width),
    )


def build_lstms(
    operands: Operands, widths: tuple[int, int], params: Mapping[str, ParamValue]
) -> Call:
    """The call of two LSTM layers, each with its own input: equal work, no copies."""
    first = build_lstm(operands, (widths[0], INPUT_SIZE), params)
    second = build_lstm(operands, (widths[1], widths[0]), params)
    return lambda: (first(), second())


def compare(dims: tuple[int, int], dtype: str, device: Device, rounds: int) -> Case:
    """The latencies of all three: `rounds` of each, after one that doesn't count."""
    rng = random.Random(0)
    operands = Operands(dtype, device.name, rng)
    params = dict(HLSTM.describe({"dtype": dtype, "input_size": INPUT_SIZE}).params)
    lstm_params = dict(LSTM.describe({"dtype": dtype}).params)
    batch, steps = int(params["batch"]), int(params["steps"])
    flops = HLSTM.flops(dims, params)
    lstm_flops = LSTM.flops((dims[0], INPUT_SIZE), lstm_params)
    lstm_flops += LSTM.flops((dims[1], dims[0]), lstm_params)
    latencies_s: dict[str, list[float]] = {name: [] for name in NAMES}
    for number in range(rounds + 1):
        operands.start_visit()
        calls = {
            "H-LSTM": build_hlstm(operands, dims, params),
            "loop": build_loop(operands, *dims, batch, steps),
            "LSTM": build_lstms(operands, dims, lstm_params),
        }
        for name in rng.sample(NAMES, len(NAMES)):
            sample = device.sample(calls[name], calls=1, warmup_calls=1)
            if number > 0:
                latencies_s[name].append(sample.latency_s)
    return Case(
        dims=dims,
        dtype=dtype,
        flops={"H-LSTM": flops, "loop": flops, "LSTM": lstm_flops},
        latencies_s=latencies_s,
    )


def spread(values: list[float], digits: int) -> str:
    """Median, least and greatest, as text."""
    median, least, most = statistics.median(values), min(values), max(values)
    return f"{median:,.{digits}f} ({least:,.{digits}f} to {most:,.{digits}f})"


def row(case: Case) -> str:
    """The case's row of the report's table."""
    ours, loop, lstm = (case.rates(name) for name in NAMES)
    cells = [f"{case.dims[0]}/{case.dims[1]}", case.dtype]
    cells += [spread([each * 1e3 for each in case.latencies_s[name]], 1) for name in NAMES]
    cells += [f"{statistics.median(case.rates(name)):,.0f}" for name in NAMES]
    cells.append(spread([a / b for a, b in zip(ours, loop, strict=True)], 2))
    cells.append(spread([a / b for a, b in zip(ours, lstm, strict=True)], 2))
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Runs the benchmark and prints the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--out", type=Path, help="write the report here")
    args = parser.parse_args()

    cpus = find_measured_cpus(0)
    os.sched_setaffinity(0, cpus)
    device = open_device(args.device, cpus=cpus)
    header = heading(
        "The H-LSTM layer beside a loop over its gates and torch.nn.LSTM",
        "benchmarks.networks",
        "torch",
    )
    cases = []
    with torch.inference_mode():
        check_loop()
        for dtype in DTYPES:
            for dims in DIMS:
                cases.append(compare(dims, dtype, device, args.rounds))
                print(row(cases[-1]), file=sys.stderr)
    platform = device.platform()
    count = f"{platform.threads} thread{'s' if platform.threads > 1 else ''}"
    lines = [
        *header,
        f"Device: {platform.device_model}, {count}. {args.rounds} rounds; batch 16, 70 steps, input"
        f" {INPUT_SIZE}; dims are gate width/state width. `loop`: the same"
        " equations, gate by gate and step by step. `LSTM`: torch.nn.LSTM, two layers, input →"
        " gate width → state width.",
        "",
        "Goals: 2 times the loop; at least 1 time torch.nn.LSTM's useful operations per second.",
        "",
        "Medians (least to greatest); ratios are taken within rounds. GFLOP/s are useful"
        " operations: those of products.",
        "",
        "| dims | dtype | H-LSTM, ms | loop, ms | LSTM, ms | H-LSTM, GFLOP/s | loop, GFLOP/s"
        " | LSTM, GFLOP/s | times the loop | times the LSTM, per FLOP |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(row(case) for case in cases),
    ]
    print("\n".join(lines))
    if args.out:
        args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
