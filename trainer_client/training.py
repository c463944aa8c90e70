"""Runs of grow-and-prune on a language model: task, networks and settings put together."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import torch

from trainer_client.dry_run import choose_precision
from trainer_client.methods.grow_prune.config import may_change_in
from trainer_client.presets import TrainingConfig
from trainer_client.run.descent import Observation
from trainer_client.run.ranks import Ranks
from trainer_client.run.training_run import TrainingRun
from trainer_client.tasks.language_model.corpus import Corpus
from trainer_client.tasks.language_model.networks import MaskedHLSTM, StackedLSTM
from trainer_client.tasks.language_model.task import LanguageModelling


def make_run(
    config: TrainingConfig,
    corpus: Corpus,
    directory: Path,
    *,
    ranks: Ranks,
    device: torch.device | None = None,
    observe: Callable[[Observation], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> TrainingRun[TrainingConfig]:
    """A run on the corpus that has not begun. Seeds torch's generators.

    With `precision=auto`, its configuration has the precision that was chosen. Raises
    InvalidRequestError for a text that is too short.
    """
    device = device or torch.device("cpu")
    precision = ranks.ask_first(lambda: choose_precision(config, len(corpus.vocabulary), device))
    config = dataclasses.replace(config, precision=precision)
    task = LanguageModelling(corpus, config, seed=config.seed, ranks=ranks, device=device)
    torch.manual_seed(config.seed)
    baseline = StackedLSTM(len(corpus.vocabulary), config)
    compact = MaskedHLSTM(len(corpus.vocabulary), config)
    for model in (baseline, compact):
        model.set_word_counts(task.count_v.cpu())
    return TrainingRun(
        config,
        task,
        directory,
        baseline=baseline,
        compact=compact,
        ranks=ranks,
        device=device,
        observe=observe,
        may_change_in=may_change_in,
        clock=clock,
    )
