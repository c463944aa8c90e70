"""Tries a configuration for a few steps: sizes, memory, speed, time, and which precision is faster.

Knows nothing of text: it trains on random words.
"""

from __future__ import annotations

import dataclasses
import logging
import resource
import time
from dataclasses import dataclass
from typing import Final

import torch

from profiler_service.errors import InvalidRequestError
from trainer_client.presets import TrainingConfig
from trainer_client.tasks.language_model.config import Precision
from trainer_client.tasks.language_model.corpus import CorpusKind
from trainer_client.tasks.language_model.networks import (
    LanguageModel,
    MaskedHLSTM,
    StackedLSTM,
    mean_loss,
)

logger = logging.getLogger(__name__)

PRECISIONS: Final[tuple[Precision, ...]] = ("float32", "bfloat16")
LOSS_TOLERANCE: Final = 0.01
"""Largest difference of a loss from that in float32, as a share."""


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """One model's figures."""

    name: str
    precision: Precision
    """In which it trains: the one that was chosen, with `precision=auto`."""
    recurrent_parameters: int
    tokens_per_s: float
    """The speed of training steps, including decoder and optimiser."""
    max_epochs: int
    """Most epochs of this model in the run, with those for the gradients of growth. If the number
    of rounds has no limit, one round of each kind is counted."""
    is_bounded: bool
    max_hours: float
    """The time of those epochs at that speed."""
    peak_memory_bytes: int
    """The peak memory of the process so far, or of the CUDA device."""


def try_out(
    config: TrainingConfig, kind: CorpusKind, device: torch.device, *, num_batches: int = 3
) -> list[DryRun]:
    """The figures of the baseline and of the dense H-LSTM. A pruned H-LSTM is faster.

    Assumes that (b) and (d) need `max_rounds` rounds of `retrain_epochs` each, or one round if
    their number has no limit. Raises InvalidRequestError if the length of the text isn't known.
    """
    num_words = kind.vocabulary_size or 10_000
    sizes = [n for n in (config.max_train_tokens, kind.num_tokens.get("train")) if n is not None]
    if not sizes:
        raise InvalidRequestError(
            f"the length of a text of the kind {kind.name!r} isn't known",
            hint="give the number of tokens: --set max_train_tokens=…",
        )
    num_tokens = min(sizes)
    rounds = 1 if config.max_rounds is None else config.max_rounds
    # An epoch of growth is one to average the gradient, and one to train.
    hlstm = 2 * config.growth_epochs + config.growth_settling_epochs
    hlstm += rounds * config.retrain_epochs
    if config.route != "sparse":
        hlstm += 1 + config.lhp_epochs + rounds * config.retrain_epochs
    config = dataclasses.replace(config, precision=choose_precision(config, num_words, device))
    found = []
    for name, model, epochs in (
        ("baseline", StackedLSTM(num_words, config), config.baseline_epochs),
        ("H-LSTM", MaskedHLSTM(num_words, config), hlstm),
    ):
        speed = _speed(model.to(device), config, num_words, device, num_batches)
        found.append(
            DryRun(
                name=name,
                precision=config.precision,
                recurrent_parameters=model.count_recurrent_parameters(),
                tokens_per_s=speed,
                max_epochs=epochs,
                is_bounded=config.max_rounds is not None or name == "baseline",
                max_hours=epochs * num_tokens / speed / 3600,
                peak_memory_bytes=_peak_memory_bytes(device),
            )
        )
    return found


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One precision, tried with both models."""

    tokens_per_s: tuple[float, float]
    """Of the baseline, and of the H-LSTM."""
    losses: tuple[float, float]
    """The same weights and words have nearly the same loss, if the precision is good enough."""

    @property
    def seconds_per_token(self) -> float:
        """Of both models together."""
        return sum(1 / each for each in self.tokens_per_s)


def choose_precision(
    config: TrainingConfig, num_words: int, device: torch.device, *, num_batches: int = 3
) -> Precision:
    """The precision of a run: the configured one; with `auto`, the faster one of those that train.

    bfloat16 is left out if its loss differs by more than LOSS_TOLERANCE from that of float32. Takes
    some seconds. Leaves torch's generators as they were.
    """
    if config.precision != "auto":
        return config.precision
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        tried = {
            precision: _try_precision(config, precision, num_words, device, num_batches)
            for precision in PRECISIONS
        }
    exact = tried["float32"].losses
    fine = [
        precision
        for precision in PRECISIONS
        if all(
            abs(loss - true) <= LOSS_TOLERANCE * true
            for loss, true in zip(tried[precision].losses, exact, strict=True)
        )
    ]
    chosen = min(fine, key=lambda precision: tried[precision].seconds_per_token)
    told = "; ".join(
        f"{precision}: {each.tokens_per_s[0]:,.0f} and {each.tokens_per_s[1]:,.0f} tokens/s"
        + ("" if precision in fine else ", but another loss")
        for precision, each in tried.items()
    )
    logger.info("trains in %s (baseline and H-LSTM in %s)", chosen, told)
    return chosen


def _try_precision(
    config: TrainingConfig,
    precision: Precision,
    num_words: int,
    device: torch.device,
    num_batches: int,
) -> Trial:
    speeds, losses = [], []
    config = dataclasses.replace(config, precision=precision)
    for kind in (StackedLSTM, MaskedHLSTM):
        torch.manual_seed(config.seed)
        model = kind(num_words, config).to(device)
        words_tb = torch.randint(num_words, (config.steps + 1, config.batch), device=device)
        with torch.no_grad():
            state = model.eval().zero_state(config.batch)
            loss = model.find_loss(words_tb[:-1], words_tb[1:], state)
        losses.append(float(loss.value))
        speeds.append(_speed(model, config, num_words, device, num_batches))
    return Trial(tokens_per_s=(speeds[0], speeds[1]), losses=(losses[0], losses[1]))


def _speed(
    model: LanguageModel,
    config: TrainingConfig,
    num_words: int,
    device: torch.device,
    num_batches: int,
) -> float:
    """Tokens per second, without the first batch."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.0)
    words = torch.randint(num_words, (config.steps + 1, config.batch), device=device)
    state = model.zero_state(config.batch)
    model.train()
    began_s = time.perf_counter()
    for number in range(num_batches + 1):
        if number == 1:
            began_s = time.perf_counter()
        scores_nv, state = model(words[:-1], state)
        loss = mean_loss(scores_nv, words[1:].flatten())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimiser.step()
        norm.item()  # waits for a CUDA device
    return num_batches * config.steps * config.batch / (time.perf_counter() - began_s)


def _peak_memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
