"""Measures of a model over a whole text: its perplexity and its mean gradient.

Neither changes anything of the model but its mode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from trainer_client.groups.growth import MeanGradient
from trainer_client.groups.layout import Tensors
from trainer_client.groups.masks import full_masks
from trainer_client.run.descent import perplexity_of
from trainer_client.tasks.language_model.networks import LanguageModel, MaskedHLSTM, mean_loss

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


def measure_mean_gradient(
    model: MaskedHLSTM,
    weights: Tensors,
    text_nb: Tensor,
    *,
    steps: int,
    over_processes: Callable[[Sequence[Tensor]], None],
) -> dict[str, Tensor]:
    """The gradient of all weights of the H-LSTM layer, living or not, over all words.

    The average over the text, without dropout; `over_processes` averages sums in place. Raises
    InvalidGradientError.
    """
    kept_masks = model.masks
    kept = {name: weight.detach().clone() for name, weight in model.weights.items()}
    model.masks = full_masks(model.layout, model.weights)
    model.load_weights(weights)
    model.eval()
    mean = MeanGradient()
    state = model.zero_state(text_nb.shape[1])
    parameters = model.weights
    for row in range(0, len(text_nb) - 1, steps):
        words = text_nb[row : row + steps + 1]
        scores_nv, state = model(words[:-1], state)
        loss = mean_loss(scores_nv, words[1:].flatten())
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        mean.add(dict(zip(parameters, gradients, strict=True)), count=words[1:].numel())
    model.masks = kept_masks
    model.load_weights(kept)
    return mean.mean(over_processes=over_processes)
