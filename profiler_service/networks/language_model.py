"""The language model of Yin et al.: embedding, one H-LSTM layer, tied decoder.

Knows nothing of words, of perplexity or of training.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from profiler_service.networks.hlstm import HLSTM

# Shapes: T time steps, B batch, V vocabulary, E embedding_width, S state_width,
# M = max(E, S), N = T · B.


class HLSTMLanguageModel(nn.Module):
    """Scores of every word to follow each of a text's words.

    One table is both embedding and decoder: a word's embedding is the first E columns of its
    row, the decoder's weight the first S columns. So state units that were pruned leave the
    decoder, while the embedding keeps its width. (Source: the published numbers of parameters
    of pruned models resolve in this way only. Which columns survive is no restriction: states
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
        # As a plain matrix: torch takes another, far slower kernel for three axes.
        scores_nv = F.linear(h_tbs.flatten(0, 1), decoder_vs, self.decoder_bias_v)
        return scores_nv.view(*words_tb.shape, -1), state
