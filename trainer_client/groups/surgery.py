"""Gives a module other parameters and buffers: narrower or wider ones of the same layers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from profiler_service.networks import HLSTM

M = TypeVar("M", bound=nn.Module)


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """The module's parameters and buffers by name, as a layout names them; without gradients."""
    found = {name: each.detach() for name, each in module.named_parameters()}
    return found | {name: each.detach() for name, each in module.named_buffers()}


def with_parameters(module: M, tensors: Mapping[str, Tensor]) -> M:
    """A copy of the module with these parameters and buffers, by name, and the sizes they have."""
    result = copy.deepcopy(module)
    set_parameters(result, tensors)
    return result


def set_parameters(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Gives the module new parameters and buffers: copies of these, by name, of any sizes.

    What is shared stays shared. Layers whose sizes follow from their parameters say so afterwards:
    `nn.Linear.out_features`, `nn.LSTM.hidden_size` and others.
    """
    made: dict[int, nn.Parameter] = {}
    for name, old in dict(module.named_parameters()).items():
        if name in tensors:
            made[id(old)] = nn.Parameter(
                tensors[name].detach().clone(), requires_grad=old.requires_grad
            )
    buffers = {
        id(old): tensors[name].detach().clone()
        for name, old in module.named_buffers()
        if name in tensors
    }
    for layer in module.modules():
        for name, old in list(layer.named_parameters(recurse=False)):
            if id(old) in made:
                setattr(layer, name, made[id(old)])
        for name, old_buffer in list(layer.named_buffers(recurse=False)):
            if id(old_buffer) in buffers:
                setattr(layer, name, buffers[id(old_buffer)])
        _tell_sizes(layer)


def _tell_sizes(layer: nn.Module) -> None:
    """Sets the attributes of sizes from the parameters."""
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, nn.Embedding):
        layer.num_embeddings, layer.embedding_dim = layer.weight.shape
    elif isinstance(layer, nn.Conv1d | nn.Conv2d):
        if layer.groups > 1 and layer.groups == layer.in_channels == layer.out_channels:
            layer.groups = len(layer.weight)
        layer.out_channels = len(layer.weight)
        layer.in_channels = layer.weight.shape[1] * layer.groups
    elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        given = layer.weight if layer.weight is not None else layer.running_mean
        layer.num_features = layer.num_features if given is None else len(given)
    elif isinstance(layer, HLSTM):
        _, layer.state_width, layer.gate_width = layer.gate_ksg.shape
        layer.input_size = layer.input_kgi.shape[2]
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = len(layer.weight)
    elif isinstance(layer, nn.RMSNorm) and layer.weight is not None:
        _rescale_epsilon(layer)
    elif isinstance(layer, nn.RNNBase):
        weights = dict(layer.named_parameters(recurse=False))
        layer.input_size = weights["weight_ih_l0"].shape[1]
        layer.hidden_size = weights["weight_hh_l0"].shape[1]
        layer.flatten_parameters()
    elif isinstance(layer, HLSTM):
        _, layer.gate_width, layer.input_size = layer.input_kgi.shape
        layer.state_width = layer.recurrent_kgs.shape[2]


def _rescale_epsilon(layer: nn.RMSNorm) -> None:
    """Tells the layer its size, and lets it compute the same.

    y = w · x / √(m + ε), where m is the sum of squares over the number of units. From n units to
    N, of which the others are zero, m becomes m · n / N. With ε · n / N, the root changes by
    √(n / N), which the weight makes up for: see `Part.is_averaged`.
    """
    before, now = layer.normalized_shape[0], len(layer.weight)
    if before != now:
        epsilon = torch.finfo(layer.weight.dtype).eps if layer.eps is None else layer.eps
        layer.eps = epsilon * before / now
    layer.normalized_shape = (now,)
