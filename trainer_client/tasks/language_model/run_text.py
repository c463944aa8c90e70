"""The corpus for one process of a run: cut into pieces side by side, on its device."""

from __future__ import annotations

import hashlib
import math
from typing import Any, Final

import torch
from torch import Tensor

from trainer_client.run.config import TrainingConfig
from trainer_client.run.ranks import Ranks
from trainer_client.tasks.language_model.corpus import Corpus, batchify

# Shapes: T time steps, B batch, N rows of a batchified text, V vocabulary.

EVALUATION_BATCH: Final = 10
"""Number of pieces side by side when perplexity is measured."""

PROBE_SHARE: Final = 0.1
"""Share of the training text that is read to compare variants of a model before they are trained.
"""
USUALLY: Final = 0.95
"""With `random_steps`: the share of batches whose length is around `steps`, not half of it."""
SPREAD_STEPS: Final = 5.0
"""With `random_steps`: the standard deviation of the length."""
FEWEST_STEPS: Final = 5
"""With `random_steps`: the smallest length."""


class RunText:
    """The texts of a run: this process' share of the training text, and the others whole."""

    def __init__(
        self, corpus: Corpus, config: TrainingConfig, ranks: Ranks, device: torch.device
    ) -> None:
        self.config = config
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
            "probe": self.train_nb[: math.ceil(PROBE_SHARE * len(self.train_nb)) + 1],
        }
        self.count_v = torch.bincount(words_t, minlength=self.vocabulary).to(device)
        """How often each word occurs in the training text."""

    @property
    def batch(self) -> int:
        """How many texts this process trains on side by side."""
        return self.train_nb.shape[1]

    def draw_steps(self, epoch: int, row: int) -> int:
        """The number of steps to train on from `row` on; 1 or more, and not beyond the last row.

        With `random_steps`, it is drawn as Merity et al. do ("Regularizing and Optimizing LSTM
        Language Models"). It depends only on the arguments and the seed: it is the same in a run
        that was resumed, and in all processes.
        """
        config, left = self.config, self.last - row
        if not config.random_steps:
            return min(config.steps, left)
        generator = torch.Generator().manual_seed(
            int.from_bytes(hashlib.sha256(f"{config.seed} {epoch} {row}".encode()).digest()[:8])
        )
        around, share = torch.rand(1, generator=generator), torch.randn(1, generator=generator)
        middle = config.steps if around < USUALLY else config.steps / 2
        drawn = round(middle + SPREAD_STEPS * float(share))
        return min(max(drawn, min(FEWEST_STEPS, config.steps)), left)

    def words(self, row: int, steps: int) -> Tensor:
        """[T + 1, B]: the words of so many steps from `row` on, and the words of the next row."""
        return self.train_nb[row : row + steps + 1]


def _digest_of(corpus: Corpus) -> str:
    """SHA-256 of the token ids of all three texts."""
    digest = hashlib.sha256()
    for text_t in (corpus.train, corpus.valid, corpus.test):
        digest.update(text_t.numpy().tobytes() + b"|")
    return digest.hexdigest()
