"""The corpus for one process of a run: cut into pieces side by side, on its device."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import torch
from torch import Tensor

from trainer_client.run.config import TrainingConfig
from trainer_client.run.ranks import Ranks
from trainer_client.tasks.language_model.corpus import Corpus, batchify

# Shapes: T time steps, B batch, N rows of a batchified text, V vocabulary.

EVALUATION_BATCH: Final = 10
"""Number of pieces side by side when perplexity is measured."""


class RunText:
    """The texts of a run: this process' share of the training text, and the others whole."""

    def __init__(
        self, corpus: Corpus, config: TrainingConfig, ranks: Ranks, device: torch.device
    ) -> None:
        self.vocabulary = len(corpus.vocabulary)
        self.facts: dict[str, Any] = {
            "text": [len(corpus.train), self.vocabulary],
            "text_digest": _digest_of(corpus),
        }
        """What a checkpoint stores about the text: numbers of tokens and words, and a digest."""
        few = config.max_held_out_tokens
        words_t = corpus.train[: config.max_train_tokens]
        self.train_nb = ranks.share_of(batchify(words_t, config.batch)).to(device)
        self.last = len(self.train_nb) - 1
        """The number of the last row, which has no next row."""
        self.held_out = {
            "valid": batchify(corpus.valid[:few], EVALUATION_BATCH).to(device),
            "test": batchify(corpus.test[:few], EVALUATION_BATCH).to(device),
        }
        self.count_v = torch.bincount(words_t, minlength=self.vocabulary).to(device)
        """How often each word occurs in the training text."""

    @property
    def batch(self) -> int:
        """How many texts this process trains on side by side."""
        return self.train_nb.shape[1]

    def words(self, row: int, steps: int) -> Tensor:
        """[T + 1, B]: the words of so many steps from `row` on, and the words of the next row."""
        return self.train_nb[row : row + steps + 1]


def _digest_of(corpus: Corpus) -> str:
    """SHA-256 of the token ids of all three texts."""
    digest = hashlib.sha256()
    for text_t in (corpus.train, corpus.valid, corpus.test):
        digest.update(text_t.numpy().tobytes() + b"|")
    return digest.hexdigest()
