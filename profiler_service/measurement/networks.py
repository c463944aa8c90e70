"""Builds the calls of whole networks. Runs only in the measuring child.

The networks are those of `profiler_service.networks`, in inference. All their weights are views
into the arena of weights. A backend may rearrange the weights of an H-LSTM layer. It does so anew
at each visit, and the result belongs to the call of that visit. The weights are random normals;
these saturate the gates, so no state leaves ±1. Tried on a CPU: weights scaled down to 0.03 took
the same time within 1 % in all three dtypes, and scaling would write all weights at every visit.

Knows nothing of how calls are timed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import nn

from profiler_service import kinds
from profiler_service.kinds.kernels import unfold
from profiler_service.kinds.products import count_nonzero
from profiler_service.measurement.operations import Call, Operands
from profiler_service.networks import (
    HLSTM,
    BoundHLSTM,
    DeepSpeech2,
    HLSTMLanguageModel,
    HLSTMMatrices,
    HLSTMRun,
    HLSTMWeights,
    LSTMLanguageModel,
    bind_csr,
    bind_hlstm,
    block_diagonal,
)
from profiler_service.networks.speech import NUM_BINS
from profiler_service.workload import Dims, ParamValue

Module = TypeVar("Module", bound=nn.Module)

# Shapes: T time steps, B batch, I input_size, S hidden size or state width, V vocabulary,
# W spectrogram bins, L frames.


def build_lstm(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    """The call of `torch.nn.LSTM` on x_tbi; `dims` is (hidden_size, input_size)."""
    return _build_recurrent(nn.LSTM, operands, dims, params)


def build_gru(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    """The call of `torch.nn.GRU` on x_tbi; `dims` is (hidden_size, input_size)."""
    return _build_recurrent(nn.GRU, operands, dims, params)


def _build_recurrent(
    kind: type[nn.LSTM] | type[nn.GRU],
    operands: Operands,
    dims: Dims,
    params: Mapping[str, ParamValue],
) -> Call:
    hidden_size, input_size = dims
    module = place(
        operands,
        lambda: kind(
            input_size,
            hidden_size,
            num_layers=int(params["layers"]),
            bidirectional=params["direction"] == "bi",
        ),
    )
    if operands.device.type == "cuda":
        # cuDNN needs all weights in one piece of memory in its own order. This moves them there.
        # Otherwise each call would move them.
        module.flatten_parameters()
    return functools.partial(module, _sequences(operands, input_size, params))


def build_hlstm(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    """The call of one H-LSTM layer on x_tbi; `dims` is (gate_width, state_width)."""
    gate_width, state_width = dims
    input_size = int(params["input_size"])
    module = place_bound(operands, lambda: HLSTM(input_size, state_width, gate_width), params)
    return functools.partial(module, _sequences(operands, input_size, params))


def build_hlstm_lm(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    """The call of the language model on words_tb; `dims` is (gate_width, state_width)."""
    gate_width, state_width = dims
    vocabulary = int(params["vocabulary"])
    module = place_bound(
        operands,
        lambda: HLSTMLanguageModel(vocabulary, int(params["input_size"]), state_width, gate_width),
        params,
    )
    return functools.partial(module, _words(operands, params))


def build_lstm_lm(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    """The call of the stacked LSTM on words_tb; `dims` is (hidden_size, embedding_width)."""
    hidden_size, embedding_width = dims
    vocabulary = int(params["vocabulary"])
    module = place(operands, lambda: LSTMLanguageModel(vocabulary, embedding_width, hidden_size))
    if operands.device.type == "cuda":
        module.first.flatten_parameters()
        module.second.flatten_parameters()
    return functools.partial(module, _words(operands, params))


def _words(operands: Operands, params: Mapping[str, ParamValue]) -> torch.Tensor:
    """Words words_tb, drawn anew at each visit."""
    shape = int(params["steps"]), int(params["batch"])
    return torch.randint(int(params["vocabulary"]), shape, device=operands.device)


def build_hlstm_kernel(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    """The call of `hlstm` by the kernel of that number: see `kinds.kernels`."""
    return build_hlstm(operands, *unfold(kinds.HLSTM, dims, params))


def build_hlstm_lm_kernel(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    """The call of `hlstm_lm` by the kernel of that number: see `kinds.kernels`."""
    return build_hlstm_lm(operands, *unfold(kinds.HLSTM_LM, dims, params))


def build_deepspeech2(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    """The call of DeepSpeech2 on spectrogram_bwl; `dims` is (width,)."""
    (width,) = dims
    cell, layers = str(params["cell"]), int(params["layers"])
    module = place_bound(operands, lambda: DeepSpeech2(width, cell=cell, layers=layers), params)
    if operands.device.type == "cuda":
        for each in module.modules():
            if isinstance(each, nn.LSTM):
                each.flatten_parameters()
    spectrogram_bwl = operands.input(int(params["batch"]), NUM_BINS, int(params["frames"]))
    return functools.partial(module, spectrogram_bwl)


def place(operands: Operands, create: Callable[[], Module]) -> Module:
    """The module that `create` makes, in inference, its parameters views from `operands`.

    Buffers (running means and variances) are ones. Nothing is initialised or copied.
    """
    with torch.device("meta"):
        module = create()
    return _fill(operands, module)


def place_bound(
    operands: Operands, create: Callable[[], nn.Module], params: Mapping[str, ParamValue]
) -> nn.Module:
    """As `place`, but the backend of `params` carries out the products of H-LSTM layers."""
    with torch.device("meta"):
        module = create()
    if params["backend"] != "dense":
        module = _with_backend(module, operands, params)
    return _fill(operands, module)


def _fill(operands: Operands, module: Module) -> Module:
    tensors = {name: operands.weight(*each.shape) for name, each in module.named_parameters()}
    for name, each in module.named_buffers():
        tensors[name] = torch.ones(each.shape, dtype=operands.dtype, device=operands.device)
    module.requires_grad_(False).load_state_dict(tensors, assign=True)
    return module.eval()


def _with_backend(
    module: nn.Module, operands: Operands, params: Mapping[str, ParamValue]
) -> nn.Module:
    """The module with every H-LSTM layer within, or itself, bound to the backend of `params`."""
    layers = [(name, each) for name, each in module.named_modules() if isinstance(each, HLSTM)]
    for name, layer in layers:
        bound = BoundHLSTM(
            _bind(layer, operands, params),
            input_size=layer.input_size,
            state_width=layer.state_width,
        )
        if not name:
            return bound
        module.set_submodule(name, bound)
    return module


def _bind(layer: HLSTM, operands: Operands, params: Mapping[str, ParamValue]) -> HLSTMRun:
    """A layer of these sizes by the backend of `params`, with weights from `operands`."""
    if params["backend"] != "csr":
        weights = HLSTMWeights(*(operands.weight(*each.shape) for each in layer.weights()))
        return bind_hlstm(weights, backend=str(params["backend"]), batch=int(params["batch"]))

    def sparse(gates: torch.Tensor) -> torch.Tensor:
        rows, columns = gates.flatten(0, 1).shape
        return operands.sparse_weight(rows, columns, count_nonzero(rows, columns, params))

    return bind_csr(
        HLSTMMatrices(
            input_qi=sparse(layer.input_kgi),
            recurrent_qs=sparse(layer.recurrent_kgs),
            gate_uq=block_diagonal(sparse(layer.gate_ksg)),
            hidden_bias_q=operands.weight(layer.hidden_bias_kg.numel()),
            gate_bias_u=operands.weight(layer.gate_bias_ks.numel()),
        )
    )


def _sequences(
    operands: Operands, input_size: int, params: Mapping[str, ParamValue]
) -> torch.Tensor:
    return operands.input(int(params["steps"]), int(params["batch"]), input_size)
