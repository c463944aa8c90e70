"""Compares the model of the sparse route with the baseline, on this processor.

    python -m benchmarks.sparse_route DIR [--threads 1] [--rounds 45] [--out …]
    python -m benchmarks.sparse_route --synthetic 0.9 [--preset small]

Reads the models of a run in DIR (or makes some with zeros at random places), and times whole
evaluations of 70 words, batch 16, float32:

- `default`: the baseline, as torch runs it;
- `rearranged`: the baseline, the weights of its LSTM layers and decoder rearranged for oneDNN;
- `steps`: the baseline, each time step a product with such weights;
- `compiled`: the baseline through `torch.compile`, its weights frozen;
- `dense`: the export of the last step, dense, as torch runs it;
- `sparse`: the same as compressed sparse rows, as `load_sparse` runs it.

In each round all of them are called in random order, once for the caches and once timed. Then
the same for their recurrent layers alone, and for the decoder, which all have alike. Every third
round chooses the best of the baseline's kernels. Ratios are medians over the other rounds,
resampled for their 95 % intervals. Goals: at least 4 times as fast as `default`, and faster than
the best. Measures by itself: no code of the service's. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from benchmarks.answers.machine import measuring_conditions
from benchmarks.baseline_kernels import (
    BATCH,
    STEPS,
    Layers,
    PlainBaseline,
    compiled,
    rearranged_decoder,
    rearranged_lstm,
    stepping_lstm,
)
from benchmarks.provenance import heading
from profiler_service.networks import HLSTMLanguageModel, LSTMLanguageModel
from trainer_client.export import (
    SparseLanguageModel,
    load_baseline,
    load_dense,
    load_sparse,
    sparse_tensors,
)
from trainer_client.presets import get_preset
from trainer_client.run.logs import MODELS

# Shapes: T time steps, B batch, N = T · B, V vocabulary, E width of the input, H hidden_size.

VOCABULARY = 10_000
BASELINES = ("default", "rearranged", "steps", "compiled")
GOAL_DEFAULT = 4.0
GOAL_BEST = 1.0
CHOOSE_EVERY = 3
RESAMPLES = 2000
BASELINE_FILE, DENSE_FILE, SPARSE_FILE = (
    f"{MODELS}/{name}.safetensors" for name in ("baseline", "weights", "weights.csr")
)
F64 = npt.NDArray[np.float64]
Call = Callable[[], Tensor]


@dataclass(frozen=True, kw_only=True)
class Models:
    """The models that are compared, and their title."""

    title: str
    baseline: LSTMLanguageModel
    dense: HLSTMLanguageModel
    sparse: SparseLanguageModel
    digests: Mapping[str, str]
    """SHA-256 of the files, by name."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times as fast: median over rounds, with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def make_calls(models: Models) -> dict[str, dict[str, Call]]:
    """Calls by part of the model and name: `whole`, `layers`, `decoder`.

    Exits if two that should compute the same don't.
    """
    plain = PlainBaseline(models.baseline).requires_grad_(False).eval()
    words_tb = torch.randint(len(plain.table_ve), (STEPS, BATCH))
    x_tbe = F.embedding(words_tb, plain.table_ve)
    dense, sparse = models.dense, models.sparse
    decode = rearranged_decoder(plain)
    layers: dict[str, Layers] = {"default": plain.layers}
    for name, make in (("rearranged", rearranged_lstm), ("steps", stepping_lstm)):
        layers[name] = _chain(make(plain.first), make(plain.second))
    layers["compiled"] = compiled(plain.layers, x_tbe)
    whole: dict[str, Callable[[Tensor], Tensor]] = {
        "default": plain,
        "rearranged": lambda w: decode(layers["rearranged"](_embed(plain, w)).flatten(0, 1)),
        "steps": lambda w: decode(layers["steps"](_embed(plain, w)).flatten(0, 1)),
        "compiled": compiled(plain, words_tb),
        "dense": lambda w: dense(w)[0].flatten(0, 1),
        "sparse": lambda w: sparse(w)[0].flatten(0, 1),
    }
    xs_tbe = F.embedding(words_tb, sparse.table_vm[:, : sparse.embedding_width])
    calls = {name: _bind(layer, x_tbe) for name, layer in layers.items()}
    calls["dense"] = lambda: dense.layer(xs_tbe)[0]
    calls["sparse"] = lambda: sparse.layer(xs_tbe)[0]
    h_ne = layers["default"](x_tbe).flatten(0, 1)
    decoders: dict[str, Call] = {
        "default": lambda: F.linear(h_ne, plain.table_ve, plain.bias_v),
        "rearranged": lambda: decode(h_ne),
    }
    wholes = {name: _bind(function, words_tb) for name, function in whole.items()}
    for name in BASELINES[1:]:
        _check(name, wholes[name](), wholes["default"]())
    _check("sparse", wholes["sparse"](), wholes["dense"]())
    _check("sparse layer", calls["sparse"](), calls["dense"]())
    return {"whole": wholes, "layers": calls, "decoder": decoders}


def _embed(plain: PlainBaseline, words_tb: Tensor) -> Tensor:
    return F.embedding(words_tb, plain.table_ve)


def _chain(first: Layers, second: Layers) -> Layers:
    return lambda x_tbe: second(first(x_tbe))


def _bind(function: Callable[[Tensor], Tensor], argument: Tensor) -> Call:
    return lambda: function(argument)


def _check(name: str, found: Tensor, expected: Tensor) -> None:
    if not torch.allclose(found, expected, rtol=1e-4, atol=1e-5):
        worst = float((found - expected).abs().max())
        sys.exit(f"{name} computes something else: {worst:g} apart")


def measure(calls: Mapping[str, Call], rounds: int, rng: random.Random) -> dict[str, F64]:
    """Seconds of each call in each round, in a new random order for each round."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name in rng.sample(sorted(calls), len(calls)):
            call = calls[name]
            call()
            began_s = time.perf_counter()
            call()
            if number > 0:
                seconds[name].append(time.perf_counter() - began_s)
    return {name: np.array(each) for name, each in seconds.items()}


def compare(slower: F64, faster: F64) -> Ratio:
    """How many times as fast the second is, from the rounds that have both."""
    log_n = np.log(slower / faster)
    rng = np.random.default_rng(0)
    medians = np.median(log_n[rng.integers(len(log_n), size=(RESAMPLES, len(log_n)))], axis=1)
    low, high = np.exp(np.quantile(medians, [0.025, 0.975]))
    value = np.exp(np.median(log_n))
    return Ratio(value=float(value), low=float(low), high=float(high))


def find_best(seconds: Mapping[str, F64]) -> str:
    """The fastest of the baseline's kernels, by the rounds that choose."""
    names = [name for name in BASELINES if name in seconds]
    return min(names, key=lambda name: float(np.median(seconds[name][::CHOOSE_EVERY])))


def judging(seconds_n: F64) -> F64:
    """The rounds that did not choose."""
    judges: F64 = seconds_n[np.arange(len(seconds_n)) % CHOOSE_EVERY != 0]
    return judges


def read_models(directory: Path) -> Models:
    """The models of a run of the sparse route. Raises ModelFileError, OSError."""
    files = (BASELINE_FILE, DENSE_FILE, SPARSE_FILE)
    return Models(
        title="of a run",
        baseline=load_baseline(directory / BASELINE_FILE),
        dense=load_dense(directory / DENSE_FILE),
        sparse=load_sparse(directory / SPARSE_FILE),
        digests={
            name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in files
        },
    )


def make_models(preset: str, sparsity: float) -> Models:
    """Untrained models of a preset's widths, with that share of their weights zero at random."""
    config = get_preset(preset)
    baseline = LSTMLanguageModel(VOCABULARY, config.embedding_width, config.gate_width)
    dense = HLSTMLanguageModel(
        VOCABULARY, config.embedding_width, config.state_width, config.gate_width
    )
    with torch.no_grad():
        weights = dense.layer.weights()
        for each in (weights.input_kgi, weights.recurrent_kgs, weights.gate_ksg):
            each.mul_(torch.rand_like(each) >= sparsity)
    dense.requires_grad_(False).eval()
    return Models(
        title=f"of preset {preset}'s widths, untrained, {sparsity:.1%} zeros at random places",
        baseline=baseline.requires_grad_(False).eval(),
        dense=dense,
        sparse=SparseLanguageModel(sparse_tensors(dense), config.embedding_width).eval(),
        digests={},
    )


def describe(models: Models) -> list[str]:
    """Markdown lines: the sizes of what is compared."""
    hidden, width = (each.hidden_size for each in (models.baseline.first, models.baseline.second))
    layer, nonzero = models.dense.layer, models.sparse.num_weights
    units = 4 * layer.gate_width * (layer.input_size + 2 * layer.state_width)
    lines = [
        f"Models {models.title}. {STEPS} words, batch {BATCH}, float32,"
        f" vocabulary {len(models.baseline.table_ve):,}, threads: {torch.get_num_threads()}.",
        "",
        f"- baseline: LSTM layers {width} → {hidden} → {width},"
        f" {models.baseline.count_recurrent_parameters():,} recurrent parameters",
        f"- sparse: H-LSTM {layer.gate_width} / {layer.state_width}, {nonzero:,} weights,"
        f" {1 - nonzero / units:.1%} zeros: {_parameters_ratio(models):.1f} times fewer",
    ]
    return lines + [f"- SHA-256 of {name}: {digest}" for name, digest in models.digests.items()]


def _parameters_ratio(models: Models) -> float:
    return models.baseline.count_recurrent_parameters() / models.sparse.num_weights


def report(measured: Mapping[str, Mapping[str, F64]]) -> list[str]:
    """Markdown lines: a table of latencies, and the ratios beside their goals."""
    lines = ["", f"| | {' | '.join(measured)} |", f"|---|{'---:|' * len(measured)}"]
    for name in (*BASELINES, "dense", "sparse"):
        cells = [
            f"{1e3 * float(np.median(seconds[name])):.2f} ms" if name in seconds else ""
            for seconds in measured.values()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "| sparse is faster | whole | recurrent layers |", "|---|---:|---:|"]
    parts = [measured["whole"], measured["layers"]]
    best = [find_best(seconds) for seconds in parts]
    for told, goal, rivals in (
        ("than the baseline as torch runs it", f"≥ {GOAL_DEFAULT:g}", ["default"] * len(parts)),
        ("than the baseline's best kernel", f"> {GOAL_BEST:g}", best),
        ("than its dense export", "none", ["dense"] * len(parts)),
    ):
        cells = []
        for seconds, rival in zip(parts, rivals, strict=True):
            ratio = compare(judging(seconds[rival]), judging(seconds["sparse"]))
            cells.append(f"{ratio}" + (f", {rival}" if rivals is best else ""))
        lines.append(f"| {told} (goal: {goal}) | {' | '.join(cells)} |")
    medians = {
        name: float(np.median(measured[part][key]))
        for name, part, key in (
            ("default", "whole", "default"),
            ("sparse", "whole", "sparse"),
            ("decoder", "decoder", "default"),
        )
    }
    bound = medians["default"] / medians["decoder"]
    lines += [
        "",
        f"The decoder is {medians['decoder'] / medians['default']:.0%} of the baseline's time, and"
        f" {medians['decoder'] / medians['sparse']:.0%} of the sparse model's: both have the same"
        " one, dense, and no model that keeps it can be more than"
        f" {bound:.2f} times as fast as the whole baseline. The paper's parameters are those of"
        " recurrent layers only.",
    ]
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints the report, and writes it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("directory", type=Path, nargs="?", metavar="DIR")
    parser.add_argument("--synthetic", type=float, metavar="SPARSITY")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=45)
    parser.add_argument("--out", type=Path, help="folder for the report")
    options = parser.parse_args(arguments)
    if (options.directory is None) == (options.synthetic is None):
        parser.error("name a run's directory, or say --synthetic SPARSITY")
    lines = heading("The sparse route beside its baseline", "benchmarks.sparse_route", "torch")
    torch.manual_seed(0)
    if options.directory is not None:
        models = read_models(options.directory)
    else:
        models = make_models(options.preset, options.synthetic)
    with measuring_conditions(threads=options.threads, cpus=options.threads):
        lines += describe(models)
        parts = make_calls(models)
        rng = random.Random(0)
        lines += report(
            {part: measure(calls, options.rounds, rng) for part, calls in parts.items()}
        )
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if options.out is not None:
        name = f"sparse-route-synthetic-{options.preset}" if options.synthetic else "sparse-route"
        (options.out / f"{name}.md").write_text(text)


if __name__ == "__main__":
    main()
