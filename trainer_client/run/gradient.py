"""The mean gradient of a network's weights over the whole training data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trainer_client.groups.growth import MeanGradient
from trainer_client.groups.layout import Tensors
from trainer_client.groups.masks import full_masks
from trainer_client.groups.network import MaskedNetwork
from trainer_client.run.task import Task


def measure_mean_gradient(
    network: MaskedNetwork,
    weights: Tensors,
    task: Task,
    *,
    over_processes: Callable[[Sequence[Tensor]], None],
) -> dict[str, Tensor]:
    """The gradient of all weights that the network has masks for, living or not.

    It is the average over the training data in evaluation mode, with these weights;
    `over_processes` averages sums in place. Leaves weights and masks as they were. Raises
    InvalidGradientError.
    """
    kept_masks = network.masks
    kept = {name: weight.detach().clone() for name, weight in network.weights.items()}
    network.masks = full_masks(network.layout, network.weights)
    network.load_weights(weights)
    network.eval()
    mean = MeanGradient()
    state = task.begin_state(network)
    parameters = {name: each for name, each in network.weights.items() if each.requires_grad}
    position = 0
    while position < task.end:
        batch = task.draw(position, epoch=None)
        loss = task.find_loss(network, batch, state)
        gradients = torch.autograd.grad(loss.value, list(parameters.values()))
        mean.add(dict(zip(parameters, gradients, strict=True)), count=batch.count)
        state, position = loss.state, batch.end
    network.masks = kept_masks
    network.load_weights(kept)
    found = mean.mean(over_processes=over_processes)
    # What isn't trained, like the buffers of a norm, has none.
    return {
        name: found[name] if name in found else torch.zeros_like(each)
        for name, each in network.weights.items()
    }
