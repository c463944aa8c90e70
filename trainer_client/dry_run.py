"""Estimates sizes, memory, speed and time of a configuration, from a few steps of it.

Knows nothing of text: it trains on random words.
"""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass

import torch

from profiler_service.errors import InvalidRequestError
from trainer_client.presets import TrainingConfig
from trainer_client.tasks.language_model.corpus import CorpusKind
from trainer_client.tasks.language_model.networks import (
    LanguageModel,
    MaskedHLSTM,
    StackedLSTM,
    mean_loss,
)


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """One model's figures."""

    name: str
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
    found = []
    for name, model, epochs in (
        ("baseline", StackedLSTM(num_words, config), config.baseline_epochs),
        ("H-LSTM", MaskedHLSTM(num_words, config), hlstm),
    ):
        speed = _speed(model.to(device), config, num_words, device, num_batches)
        found.append(
            DryRun(
                name=name,
                recurrent_parameters=model.count_recurrent_parameters(),
                tokens_per_s=speed,
                max_epochs=epochs,
                is_bounded=config.max_rounds is not None or name == "baseline",
                max_hours=epochs * num_tokens / speed / 3600,
                peak_memory_bytes=_peak_memory_bytes(device),
            )
        )
    return found


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
