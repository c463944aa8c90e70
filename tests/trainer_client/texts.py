"""Small texts and configurations that train in a second."""

from __future__ import annotations

from pathlib import Path

import torch

from trainer_client.presets import SMOKE, TrainingConfig
from trainer_client.tasks.language_model.corpus import Corpus

WORDS = 12

TINY: dict[str, object] = {
    "preset": "tiny",
    "corpus": "own-text",
    "max_train_tokens": None,
    "max_held_out_tokens": None,
    "embedding_width": 8,
    "state_width": 8,
    "gate_width": 12,
    "batch": 4,
    "steps": 5,
    "warmup_batches": 0,
    "schedule": "plateau",
    "patience_epochs": 1,
    "rate_decay": 2.0,
    "checkpoint_s": 3,
    "threshold": 1000.0,
    "slack": 0.0,
    "retrain_learning_rate": 2e-3,
}


def tiny_config(**changes: object) -> TrainingConfig:
    """All four steps on a network of a few units."""
    return SMOKE.with_changes({**TINY, **changes})


def tiny_text(num_tokens: int, seed: int = 0) -> torch.Tensor:
    """Words of which each mostly follows from the one before: i, then i + 1."""
    generator = torch.Generator().manual_seed(seed)
    jumps = torch.rand(num_tokens, generator=generator) < 0.2
    far = torch.randint(WORDS, (num_tokens,), generator=generator)
    return torch.cumsum(torch.where(jumps, far, 1), 0) % WORDS


def tiny_corpus() -> Corpus:
    return Corpus(
        name="own-text",
        vocabulary=tuple(f"w{i}" for i in range(WORDS)),
        train=tiny_text(400),
        valid=tiny_text(120, seed=1),
        test=tiny_text(120, seed=2),
    )


def write_tiny_corpus(directory: Path) -> None:
    """The same as files, without line ends but the last."""
    corpus = tiny_corpus()
    directory.mkdir(exist_ok=True)
    for name in ("train", "valid", "test"):
        words = [corpus.vocabulary[i] for i in getattr(corpus, name).tolist()]
        (directory / f"{name}.txt").write_text(" ".join(words) + "\n")
