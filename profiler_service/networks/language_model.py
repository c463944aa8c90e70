"""The language models of Yin et al.: embedding, one H-LSTM layer or two LSTM layers, tied decoder.

Knows nothing of words, of perplexity or of training.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from profiler_service.networks.hlstm import HLSTM

# Shapes: T time steps, B batch, V vocabulary, E embedding_width, S state_width, H hidden_size,
# M = max(E, S), N = T · B.

StackedState = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(h_1bh, c_1bh) of the first layer, (h_1be, c_1be) of the second, as `torch.nn.LSTM` has them."""


class HLSTMLanguageModel(nn.Module):
    """A language model: scores of every word as the next one, for each word of a text.

    One table is both embedding and decoder: a word's embedding is the first E columns of its
    row, and the decoder's weight is the first S columns. So the decoder shrinks when state units
    are pruned, while the embedding keeps its width. (Source: only this explains the published
    numbers of parameters of pruned models. That the first columns stay is no restriction: states
    and embedding can be renumbered together.)
    """

    def __init__(
        self,
        vocabulary: int,
        embedding_width: int,
        state_width: int,
        gate_width: int,
        *,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.embedding_width = embedding_width
        self.table_vm = nn.Parameter(torch.empty(vocabulary, max(embedding_width, state_width)))
        self.layer = HLSTM(embedding_width, state_width, gate_width, dropout=dropout)
        self.decoder_bias_v = nn.Parameter(torch.empty(vocabulary))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the table anew, uniformly within ±0.1, and sets the decoder's bias to zero."""
        nn.init.uniform_(self.table_vm, -0.1, 0.1)
        nn.init.zeros_(self.decoder_bias_v)

    def forward(
        self, words_tb: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Unnormalised log probabilities of the next word scores_tbv, and the last (h_bs, c_bs).

        `words_tb` are whole numbers below V. `state` is what an earlier call returned.
        """
        x_tbe = F.embedding(words_tb, self.table_vm[:, : self.embedding_width])
        h_tbs, state = self.layer(x_tbe, state)
        decoder_vs = self.table_vm[:, : self.layer.state_width]
        # As a plain matrix: for three axes torch uses another kernel, which is far slower.
        scores_nv = F.linear(h_tbs.flatten(0, 1), decoder_vs, self.decoder_bias_v)
        return scores_nv.view(*words_tb.shape, -1), state


class LSTMLanguageModel(nn.Module):
    """The stacked LSTM that an H-LSTM is compared with: E → H → E, one table at both ends.

    Source: the published 14.46 million parameters of the baseline are those of layers of 400 →
    1500 and 1500 → 400.
    """

    def __init__(self, vocabulary: int, embedding_width: int, hidden_size: int) -> None:
        super().__init__()
        self.table_ve = nn.Parameter(torch.empty(vocabulary, embedding_width))
        self.decoder_bias_v = nn.Parameter(torch.empty(vocabulary))
        self.first = nn.LSTM(embedding_width, hidden_size)
        self.second = nn.LSTM(hidden_size, embedding_width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all weights anew: the table within ±0.1, the layers as torch does.

        But the biases of each layer's forget gate sum to one, as those of `HLSTM`: both networks
        begin alike.
        """
        nn.init.uniform_(self.table_ve, -0.1, 0.1)
        nn.init.zeros_(self.decoder_bias_v)
        with torch.no_grad():
            for layer in (self.first, self.second):
                layer.reset_parameters()
                biases = dict(layer.named_parameters())
                forget = slice(layer.hidden_size, 2 * layer.hidden_size)  # torch: i, f, g, o
                biases["bias_ih_l0"][forget] = 1.0
                biases["bias_hh_l0"][forget] = 0.0

    def count_recurrent_parameters(self) -> int:
        """Weights and biases of both layers: the paper's 14,455,200."""
        return sum(p.numel() for layer in (self.first, self.second) for p in layer.parameters())

    def forward(
        self, words_tb: Tensor, state: StackedState | None = None
    ) -> tuple[Tensor, StackedState]:
        """Unnormalised log probabilities of the next word scores_tbv, and the last states.

        `words_tb` are whole numbers below V. `state` is what an earlier call returned; by default
        zeros.
        """
        first, second = (None, None) if state is None else state
        h_tbh, first = self.first(F.embedding(words_tb, self.table_ve), first)
        h_tbe, second = self.second(h_tbh, second)
        scores_nv = F.linear(h_tbe.flatten(0, 1), self.table_ve, self.decoder_bias_v)
        return scores_nv.view(*words_tb.shape, -1), (first, second)
