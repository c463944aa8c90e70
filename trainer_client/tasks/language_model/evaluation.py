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


def perplexity_by(
    score: Callable[[Tensor, S], tuple[Tensor, S]], state: S, text_nb: Tensor, *, steps: int
) -> float:
    """The perplexity on the text of any model, `steps` rows at a time, from that state.

    `score` returns the scores scores_nv of the next words, and the state after the words.
    """
    return perplexity_of(float(losses_by(score, state, text_nb, steps=steps).double().mean()))


@torch.no_grad()
def losses_by(
    score: Callable[[Tensor, S], tuple[Tensor, S]], state: S, text_nb: Tensor, *, steps: int
) -> Tensor:
    """The loss of each predicted token, float32 nats, [N − 1, B]; arguments as `perplexity_by`."""
    found = []
    for row in range(0, len(text_nb) - 1, steps):
        words = text_nb[row : row + steps + 1]
        scores_nv, state = score(words[:-1], state)
        losses_n = F.cross_entropy(scores_nv.float(), words[1:].flatten(), reduction="none")
        found.append(losses_n.view(-1, text_nb.shape[1]))
    return torch.cat(found)


def perplexity_of(loss: float) -> float:
    """exp(loss); infinite if that is too large for a float."""
    return math.exp(loss) if loss < 700 else math.inf
