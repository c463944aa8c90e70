"""The baseline's kernels: other ways than torch's default to run a stacked LSTM on a CPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
import torch._dynamo
import torch._inductor.config
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from profiler_service.networks import LSTMLanguageModel

# Shapes: T time steps, B batch, N = T · B, V vocabulary, E width of the input, H hidden_size.

STEPS, BATCH = 70, 16
LSTM_MODE = 2
"""oneDNN's number for LSTM among recurrent layers."""
Layers = Callable[[Tensor], Tensor]
"""x_tbe → states of the last layer h_tbe."""


class PlainBaseline(nn.Module):
    """The separate parts of the baseline, for the kernels that replace them."""

    def __init__(self, model: LSTMLanguageModel) -> None:
        super().__init__()
        self.first, self.second = model.first, model.second
        self.table_ve, self.bias_v = model.table_ve, model.decoder_bias_v

    def layers(self, x_tbe: Tensor) -> Tensor:
        """The states h_tbe."""
        h_tbe: Tensor = self.second(self.first(x_tbe)[0])[0]
        return h_tbe

    def forward(self, words_tb: Tensor) -> Tensor:
        """The scores scores_nv."""
        h_tbe = self.layers(F.embedding(words_tb, self.table_ve))
        return F.linear(h_tbe.flatten(0, 1), self.table_ve, self.bias_v)


def rearranged_lstm(lstm: nn.LSTM) -> Layers:
    """The layer with oneDNN, its weights rearranged beforehand."""
    width, hidden = lstm.input_size, lstm.hidden_size
    input_hw, recurrent_hh, input_bias, recurrent_bias = lstm.parameters()
    packed = torch.ops.mkldnn._reorder_mkldnn_rnn_layer_weight(
        input_hw, recurrent_hh, hidden, False, True, False, [STEPS, BATCH, width]
    )
    zero_bh = torch.zeros(BATCH, hidden)
    biases = (input_bias, recurrent_bias, zero_bh, zero_bh)
    modes: tuple[object, ...] = (False, [], LSTM_MODE, hidden, 1, True, False, False, False)
    layer = torch.ops.aten.mkldnn_rnn_layer.default

    def run(x_tbe: Tensor) -> Tensor:
        h_tbh: Tensor = layer(x_tbe, *packed, *biases, *modes)[0]
        return h_tbh

    return run


def stepping_lstm(lstm: nn.LSTM) -> Layers:
    """The layer as one product with a rearranged weight for each time step."""
    input_hw, recurrent_hh, input_bias, recurrent_bias = lstm.parameters()
    pack = torch.ops.mkldnn._reorder_linear_weight
    linear = torch.ops.mkldnn._linear_pointwise.default
    linear_add = torch.ops.mkldnn._linear_pointwise.binary
    input_packed, recurrent_packed = pack(input_hw, STEPS * BATCH), pack(recurrent_hh, BATCH)
    bias = input_bias + recurrent_bias

    def run(x_tbe: Tensor) -> Tensor:
        a_nh = linear(x_tbe.flatten(0, 1), input_packed, bias, "none", [], "")
        h_bh = c_bh = x_tbe.new_zeros(BATCH, lstm.hidden_size)
        states = []
        for a_bh in a_nh.split(BATCH):
            pre = linear_add(h_bh, a_bh, recurrent_packed, None, "add").chunk(4, 1)
            c_bh = pre[1].sigmoid() * c_bh + pre[0].sigmoid() * pre[2].tanh()
            h_bh = pre[3].sigmoid() * c_bh.tanh()
            states.append(h_bh)
        return torch.stack(states)

    return run


def rearranged_decoder(baseline: PlainBaseline) -> Callable[[Tensor], Tensor]:
    """The decoder with its weight rearranged beforehand."""
    packed = torch.ops.mkldnn._reorder_linear_weight(baseline.table_ve, STEPS * BATCH)
    linear = torch.ops.mkldnn._linear_pointwise.default

    def decode(h_ne: Tensor) -> Tensor:
        scores_nv: Tensor = linear(h_ne, packed, baseline.bias_v, "none", [], "")
        return scores_nv

    return decode


def compiled(function: Callable[[Tensor], Tensor], example: Tensor) -> Callable[[Tensor], Tensor]:
    """The function compiled by `torch.compile`, with its module's weights as constants."""
    torch._dynamo.config.allow_rnn = True
    frozen: Callable[[Tensor], Tensor] = torch.compile(function, dynamic=False, fullgraph=True)
    with torch._inductor.config.patch(freezing=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations
        frozen(example)
    return frozen
