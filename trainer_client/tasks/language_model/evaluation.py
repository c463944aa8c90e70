"""The perplexity of a model on a whole text."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from trainer_client.tasks.language_model.networks import LanguageModel

# Shapes: N rows of a batchified text, B texts side by side.


S = TypeVar("S")


def measure_perplexity(model: LanguageModel, text_nb: Tensor, *, steps: int) -> float:
    """The model's perplexity on the text, `steps` rows at a time, from a zero state."""
    model.eval()
    return perplexity_by(model, model.zero_state(text_nb.shape[1]), text_nb, steps=steps)


@torch.no_grad()
def perplexity_by(
    score: Callable[[Tensor, S], tuple[Tensor, S]], state: S, text_nb: Tensor, *, steps: int
) -> float:
    """The perplexity on the text of any model, `steps` rows at a time, from that state.

    `score` returns the scores scores_nv of the next words, and the state after the words.
    """
    loss_sum, count = 0.0, 0
    for row in range(0, len(text_nb) - 1, steps):
        words = text_nb[row : row + steps + 1]
        scores_nv, state = score(words[:-1], state)
        targets = words[1:].flatten()
        loss_sum += float(F.cross_entropy(scores_nv.float(), targets, reduction="sum"))
        count += len(targets)
    return perplexity_of(loss_sum / count)


def perplexity_of(loss: float) -> float:
    """exp(loss); infinite if that is too large for a float."""
    return math.exp(loss) if loss < 700 else math.inf
