"""Gives a module other parameters: narrower or wider ones of the same layers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def with_parameters(module: M, parameters: Mapping[str, Tensor]) -> M:
    """A copy of the module with these parameters, by name, and with the sizes that they have.

    Parameters that are shared stay shared. Layers whose sizes follow from their parameters say so
    afterwards: `nn.Linear.out_features`, `nn.LSTM.hidden_size` and others.
    """
    result = copy.deepcopy(module)
    made: dict[int, nn.Parameter] = {}
    for name, old in dict(result.named_parameters()).items():
        if name in parameters:
            made[id(old)] = nn.Parameter(
                parameters[name].detach().clone(), requires_grad=old.requires_grad
            )
    for layer in result.modules():
        for name, old in list(layer.named_parameters(recurse=False)):
            if id(old) in made:
                setattr(layer, name, made[id(old)])
        _tell_sizes(layer)
    return result


def _tell_sizes(layer: nn.Module) -> None:
    """Sets the attributes of sizes from the parameters."""
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, nn.Embedding):
        layer.num_embeddings, layer.embedding_dim = layer.weight.shape
    elif isinstance(layer, nn.RNNBase):
        weights = dict(layer.named_parameters(recurse=False))
        layer.input_size = weights["weight_ih_l0"].shape[1]
        layer.hidden_size = weights["weight_hh_l0"].shape[1]
        layer.flatten_parameters()
