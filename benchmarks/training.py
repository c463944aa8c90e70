"""Compares a training step with a plain loop over the gates and with `torch.nn.LSTM`.

    python -m benchmarks.training [--rounds 7] [--out docs/results]

Layers alone, forward and backward, input's gradient included, batch 32:

- `H-LSTM`: as `trainer_client` trains it;
- `loop`: the same weights by the equations, written straightforwardly, through autograd;
- `LSTM`: the two layers of `torch.nn.LSTM` that are the baseline: E → H → E.

In each round all three are called once in random order. Goals: twice the tokens per second of the
loop; at most 1.3 times the LSTM's time per useful floating-point operation (of products, forward;
backward has twice as many in all three). Then tokens per second of the whole models with decoder
and optimiser, as `lhp-train` runs them. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from benchmarks.networks import loop_over_gates
from benchmarks.provenance import heading
from profiler_service.networks import HLSTM, HLSTMWeights
from trainer_client.presets import PAPER, SMALL, TrainingConfig
from trainer_client.tasks.language_model.networks import (
    LanguageModel,
    MaskedHLSTM,
    StackedLSTM,
    mean_loss,
)
from trainer_client.tasks.language_model.recurrence import run_recurrence

# Shapes: T time steps, B batch, E width of the input and of the states, G gate_width.

BATCH = 32
NAMES = ("H-LSTM", "loop", "LSTM")
MIN_LOOP_RATIO = 2.0
MAX_LSTM_RATIO = 1.0
VOCABULARY = 10_000


@dataclass(frozen=True, kw_only=True)
class Case:
    """One comparison: useful forward operations per token, and seconds of each contender."""

    label: str
    num_tokens: int
    flops: Mapping[str, int]
    seconds: Mapping[str, list[float]]

    def tokens_per_s(self, name: str) -> float:
        """Median tokens per second."""
        return self.num_tokens / statistics.median(self.seconds[name])

    def loop_ratios(self) -> list[float]:
        """The loop's seconds divided by the H-LSTM's, for each round."""
        pairs = zip(self.seconds["loop"], self.seconds["H-LSTM"], strict=True)
        return [loop_s / hlstm_s for loop_s, hlstm_s in pairs]

    def lstm_ratios(self) -> list[float]:
        """The H-LSTM's seconds per useful operation divided by the LSTM's, for each round."""
        pairs = zip(self.seconds["H-LSTM"], self.seconds["LSTM"], strict=True)
        work = self.flops["LSTM"] / self.flops["H-LSTM"]
        return [hlstm_s / lstm_s * work for hlstm_s, lstm_s in pairs]


def spread(values: Sequence[float]) -> str:
    """Median and quartiles, as text."""
    low, median, high = statistics.quantiles(values, n=4)
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


def make_calls(
    config: TrainingConfig, steps: int, dtype: torch.dtype
) -> dict[str, Callable[[], None]]:
    """One forward and backward pass of each contender."""
    width, gate_width = config.embedding_width, config.gate_width
    x_tbe = torch.randn(steps, BATCH, width, dtype=dtype, requires_grad=True)
    layer = HLSTM(width, width, gate_width).to(dtype)
    h_eb, c_eb = torch.zeros(width, BATCH, dtype=dtype), torch.zeros(width, BATCH)
    first, second = nn.LSTM(width, gate_width).to(dtype), nn.LSTM(gate_width, width).to(dtype)

    def train_hlstm() -> None:
        weights: HLSTMWeights = layer.weights()
        h_teb, _, _ = run_recurrence(x_tbe.flatten(0, 1).t(), weights, h_eb, c_eb)
        h_teb.sum().backward()  # type: ignore[no-untyped-call]

    def train_loop() -> None:
        matrices_kgj = torch.cat([layer.input_kgi, layer.recurrent_kgs], dim=2)
        states = loop_over_gates(
            x_tbe, matrices_kgj, layer.hidden_bias_kg, layer.gate_ksg, layer.gate_bias_ks
        )
        states.sum().backward()  # type: ignore[no-untyped-call]

    def train_lstm() -> None:
        second(first(x_tbe)[0])[0].sum().backward()

    return {"H-LSTM": train_hlstm, "loop": train_loop, "LSTM": train_lstm}


def compare(config: TrainingConfig, precision: str, rounds: int) -> Case:
    """All three, `rounds` times each after one that doesn't count."""
    steps = config.steps
    calls = make_calls(config, steps, getattr(torch, precision))
    width, gate_width = config.embedding_width, config.gate_width
    rng = random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in NAMES}
    for number in range(rounds + 1):
        for name in rng.sample(NAMES, len(NAMES)):
            began_s = time.perf_counter()
            calls[name]()
            if number > 0:
                seconds[name].append(time.perf_counter() - began_s)
    hlstm = 2 * 4 * gate_width * 3 * width
    return Case(
        label=f"{config.preset}: {width} / {gate_width}, {steps} steps, {precision}",
        num_tokens=steps * BATCH,
        flops={
            "H-LSTM": hlstm,
            "loop": hlstm,
            "LSTM": 2 * 4 * (gate_width * (width + gate_width) + width * (gate_width + width)),
        },
        seconds=seconds,
    )


def model_speed(kind: type[LanguageModel], config: TrainingConfig, rounds: int) -> float:
    """Median tokens per second of whole training steps."""
    model = kind(VOCABULARY, config).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    words = torch.randint(VOCABULARY, (config.steps + 1, BATCH))
    state = model.zero_state(BATCH)
    seconds = []
    for _ in range(rounds + 1):
        began_s = time.perf_counter()
        scores_nv, state = model(words[:-1], state)
        loss = mean_loss(scores_nv, words[1:].flatten())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimiser.step()
        seconds.append(time.perf_counter() - began_s)
    return config.steps * BATCH / statistics.median(seconds[1:])


def main() -> None:
    """Compares, prints the report, and writes it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="folder for the report")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    lines = heading("Training steps side by side", "benchmarks.training", "torch")
    lines += [
        f"Layers alone, forward and backward, medians of {arguments.rounds} rounds;"
        " of ratios, taken within rounds, the quartiles, too.",
        "",
        "| widths | H-LSTM, tokens/s | loop, tokens/s | LSTM, tokens/s | over the loop"
        f" (goal ≥ {MIN_LOOP_RATIO:g}) | of the LSTM's time per operation"
        f" (goal ≤ {MAX_LSTM_RATIO:g}) |",
        "|---|---|---|---|---|---|",
    ]
    for config in (SMALL, PAPER):
        for precision in ("float32", "bfloat16"):
            case = compare(config, precision, arguments.rounds)
            speeds = " | ".join(f"{case.tokens_per_s(name):,.0f}" for name in NAMES)
            lines.append(
                f"| {case.label} | {speeds} | {spread(case.loop_ratios())} |"
                f" {spread(case.lstm_ratios())} |"
            )
    lines += [
        "",
        "Whole training steps, decoder, clipping and SGD included, tokens/s:",
        "",
        "| widths | H-LSTM | baseline |",
        "|---|---|---|",
    ]
    for config in (SMALL, PAPER):
        for precision in ("float32", "bfloat16"):
            changed = config.with_changes({"precision": precision})
            rounds = max(2, arguments.rounds // 2)
            speeds = " | ".join(
                f"{model_speed(kind, changed, rounds):,.0f}" for kind in (MaskedHLSTM, StackedLSTM)
            )
            lines.append(f"| {config.preset}, {precision} | {speeds} |")
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if arguments.out is not None:
        (arguments.out / "training.md").write_text(text)


if __name__ == "__main__":
    main()
