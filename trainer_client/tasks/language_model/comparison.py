"""How much better one exported model predicts a text than another, with an interval.

Both read the same words, so their losses are paired: what is hard in the text is hard for both. The
interval is a paired bootstrap over blocks of neighbouring tokens. It says what another text of the
kind would change; another seed of the training may change more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from profiler_service.errors import InvalidRequestError
from trainer_client.tasks.language_model.corpus import UnexpectedTextError
from trainer_client.tasks.language_model.evaluation import perplexity_of
from trainer_client.tasks.language_model.scoring import Scorer

BLOCK_TOKENS: Final = 50
"""Length of a block. Losses of neighbouring tokens aren't independent; those of blocks nearly are.
"""
MIN_BLOCKS: Final = 20
"""With fewer blocks, the interval would be too narrow."""
NUM_RESAMPLES: Final = 10_000
CONFIDENCE: Final = 0.95


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two models on one text."""

    perplexities: tuple[float, float]
    ratio: float
    """The second perplexity divided by the first: below 1 if the second model is better."""
    interval: tuple[float, float]
    """The 95 % interval of the ratio."""
    num_predicted: int
    num_blocks: int

    @property
    def verdict(self) -> str:
        """`better` or `worse`, of the second model; `neither` if the interval has 1 in it."""
        low, high = self.interval
        return "better" if high < 1 else "worse" if low > 1 else "neither"


def compare(first: Scorer, second: Scorer, text: str, *, seed: int = 0) -> Comparison:
    """The comparison of two models on the text. `seed` is that of the resampling.

    Raises InvalidRequestError if they don't have the same words, and UnexpectedTextError for a text
    of too few blocks.
    """
    if first.vocabulary != second.vocabulary:
        raise InvalidRequestError(
            "the models don't have the same words, so their losses can't be paired",
            hint="compare models that were trained on the same text",
        )
    losses = [each.find_losses(text)[0].double() for each in (first, second)]
    difference_n = mean_of_blocks(losses[1] - losses[0])
    if len(difference_n) < MIN_BLOCKS:
        raise UnexpectedTextError(
            f"the text has {len(difference_n)} blocks of {BLOCK_TOKENS} tokens; an interval needs"
            f" {MIN_BLOCKS}",
            hint="give a longer text",
        )
    low, high = bootstrap_interval(difference_n, seed=seed)
    perplexities = tuple(perplexity_of(float(each.mean())) for each in losses)
    return Comparison(
        perplexities=(perplexities[0], perplexities[1]),
        ratio=perplexities[1] / perplexities[0],
        interval=(math.exp(low), math.exp(high)),
        num_predicted=losses[0].numel(),
        num_blocks=len(difference_n),
    )


def mean_of_blocks(losses_nb: Tensor) -> Tensor:
    """The means of all blocks of BLOCK_TOKENS rows in each column; what is left at the end isn't
    used."""
    rows = len(losses_nb) // BLOCK_TOKENS * BLOCK_TOKENS
    blocks = losses_nb[:rows].t().reshape(-1, BLOCK_TOKENS)
    return blocks.mean(1)


def bootstrap_interval(value_n: Tensor, *, seed: int) -> tuple[float, float]:
    """The 95 % interval of the mean of the values, by resampling them with replacement."""
    generator = torch.Generator().manual_seed(seed)
    means = np.empty(NUM_RESAMPLES)
    for number in range(NUM_RESAMPLES):
        which_n = torch.randint(len(value_n), (len(value_n),), generator=generator)
        means[number] = float(value_n[which_n].mean())
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [outside, 1 - outside])
    return float(low), float(high)
