"""Language models in training: the H-LSTM with masks, and the baseline.

Both have tied embeddings and the same kinds of dropout. Knows nothing of text, of descent or of
the steps.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.func import functional_call

from profiler_service.networks import HLSTMLanguageModel, HLSTMWeights, LSTMLanguageModel
from profiler_service.networks.hlstm import NUM_GATES
from trainer_client.groups.layers import GATE_AXIS, HLSTM_LAYOUT, STATE, STATE_AXIS
from trainer_client.groups.masks import Masks, apply_masks, full_masks
from trainer_client.groups.network import MaskedNetwork
from trainer_client.groups.shrinking import shrink, widen
from trainer_client.groups.surgery import set_parameters
from trainer_client.run.task import Loss, State
from trainer_client.tasks.language_model.config import LanguageModelConfig
from trainer_client.tasks.language_model.recurrence import run_recurrence

# Shapes: T time steps, B batch, N = T · B, V vocabulary, E embedding_width, I = E, S
# state_width, G gate_width, K the four gates, Q = K · G, H and J widths of the baseline's layers.


class LanguageModel(nn.Module, abc.ABC):
    """A language model that can be trained."""

    def __init__(self, vocabulary: int, config: LanguageModelConfig) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.config = config

    @abc.abstractmethod
    def zero_state(self, batch: int) -> State:
        """The state before a text."""

    @abc.abstractmethod
    def run(self, words_tb: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """The states after each word h_tbs, their decoder_vs, and the state after the last word."""

    def forward(self, words_tb: Tensor, state: State) -> tuple[Tensor, State]:
        """Scores of the next words scores_nv in `compute_dtype`, and the state after them.

        Row n is of time step n // B, sequence n mod B.
        """
        h_tbs, decoder_vs, state = self.run(words_tb, state)
        return self.decode(self.drop_outputs(h_tbs), decoder_vs), state

    def find_loss(self, words_tb: Tensor, targets_tb: Tensor, state: State) -> Loss:
        """The loss of the next words `targets_tb`, with the penalties of the configuration.

        Source of the penalties: Merity et al., "Revisiting Activation Regularization for Language
        RNNs".
        """
        h_tbs, decoder_vs, state = self.run(words_tb, state)
        dropped_tbs = self.drop_outputs(h_tbs)
        value = mean_loss(self.decode(dropped_tbs, decoder_vs), targets_tb.flatten())
        penalised, config = value, self.config
        if config.activation_penalty > 0:
            penalised = penalised + config.activation_penalty * mean_square(dropped_tbs)
        if config.change_penalty > 0 and len(h_tbs) > 1:
            penalised = penalised + config.change_penalty * mean_square(h_tbs[1:] - h_tbs[:-1])
        return Loss(value=value, penalised=penalised, state=state)

    @property
    @abc.abstractmethod
    def dims(self) -> tuple[int, int]:
        """The live widths: (gate_width, state_width), or (hidden, output) of the baseline."""

    @abc.abstractmethod
    def count_recurrent_parameters(self) -> int:
        """Parameters of the recurrent layers, as the paper counts them."""

    @property
    def compute_dtype(self) -> torch.dtype:
        """The dtype of products."""
        assert self.config.precision != "auto", "the run chooses it before it makes a model"
        return torch.bfloat16 if self.config.precision == "bfloat16" else self.table.dtype

    @property
    @abc.abstractmethod
    def table(self) -> Tensor:
        """Embedding and decoder."""

    @property
    @abc.abstractmethod
    def decoder_bias_v(self) -> Tensor:
        """The decoder's bias."""

    @torch.no_grad()
    def set_word_counts(self, count_v: Tensor) -> None:
        """Sets the decoder's bias to the words' log shares, each counted once more than given.

        The model then knows how common each word is before its first update, and gradients are
        about context only. With an initial bias of zero, narrow models predict little more than the
        words' frequencies for several epochs: the gain from context is small as long as the bias is
        wrong.
        """
        self.decoder_bias_v.copy_(((count_v + 1) / (count_v + 1).sum()).log())

    def embed(self, words_tb: Tensor) -> Tensor:
        """The words' embeddings x_tbe, after dropout of words and of columns."""
        table_ve = self.table[:, : self.config.embedding_width]
        x_tbe = F.embedding(words_tb, table_ve)
        if self.training and self.config.dropout_words > 0:
            keep_v = F.dropout(table_ve.new_ones(len(table_ve)), self.config.dropout_words)
            x_tbe = x_tbe * keep_v[words_tb][:, :, None]
        return self.drop_columns(x_tbe, self.config.dropout_embedding).to(self.compute_dtype)

    def drop_columns(self, x_tbe: Tensor, share: float) -> Tensor:
        """The input without a random share of its columns, the same at all time steps."""
        if not self.training or share == 0:
            return x_tbe
        return x_tbe * F.dropout(x_tbe.new_ones(1, *x_tbe.shape[1:]), share)

    def drop_outputs(self, h_tbs: Tensor) -> Tensor:
        """The states after dropout, as the decoder reads them."""
        return self.drop_columns(h_tbs, self.config.dropout_output)

    def drop_recurrent(self, weight: Tensor) -> Tensor:
        """A recurrent weight without a random share of its elements, the same at all time steps.

        Source: Merity et al., "Regularizing and Optimizing LSTM Language Models".
        """
        return F.dropout(weight, self.config.dropout_recurrent, training=self.training)

    def decode(self, h_tbs: Tensor, decoder_vs: Tensor) -> Tensor:
        """The scores scores_nv of the states, in `compute_dtype`."""
        dtype = self.compute_dtype
        h_ns = h_tbs.flatten(0, 1).to(dtype)
        return F.linear(h_ns, decoder_vs.to(dtype), self.decoder_bias_v.to(dtype))


def mean_square(x: Tensor) -> Tensor:
    """The mean of the squares, float32."""
    return x.float().square().mean()


def mean_loss(scores_nv: Tensor, words_n: Tensor) -> Tensor:
    """The mean cross entropy, float32, in nats per token.

    Each token's loss has the precision of the scores; their mean has that of float32. A float32
    copy of bfloat16 scores would take longer than the product that made them, and their gradient
    would be rounded to bfloat16 again.
    """
    return F.cross_entropy(scores_nv, words_n, reduction="none").float().mean()


class MaskedHLSTM(LanguageModel, MaskedNetwork):
    """The H-LSTM language model with masks.

    `network` holds all weights that can exist; the masks say which of them live. Dead units are
    left out of the computation, and only live weights get gradients.
    """

    layout = HLSTM_LAYOUT
    """The units of its layer."""

    def __init__(self, vocabulary: int, config: LanguageModelConfig) -> None:
        super().__init__(vocabulary, config)
        self.network = HLSTMLanguageModel(
            vocabulary, config.embedding_width, config.state_width, config.gate_width
        )
        self.keep_masks(full_masks(self.layout, self.weights))

    @property
    def weights(self) -> dict[str, Tensor]:
        """The layer's parameters, by name."""
        return self.network.layer.weights()._asdict()

    def keep_masks(self, masks: Masks) -> None:  # noqa: D102  inherited
        super().keep_masks(masks)
        self._has_dead_units = not all(bool(live_u.all()) for live_u in masks.units.values())

    @torch.no_grad()
    def widen(self, widths: Mapping[str, int], *, seed: int = 0) -> None:
        """Adds dead units up to these widths, at least the present ones.

        The decoder gets columns for new states, drawn as the table was, so that a dormant
        state's gradient reaches it.
        """
        weights, masks = widen(self.layout, self.weights, self.masks, widths=widths)
        wider = {f"layer.{name}": weight for name, weight in weights.items()}
        new_columns = widths.get(STATE_AXIS, 0) - self.table.shape[1]
        if new_columns > 0:
            generator = torch.Generator().manual_seed(seed)
            drawn_vm = torch.empty(len(self.table), new_columns)
            drawn_vm.uniform_(-0.1, 0.1, generator=generator)
            wider["table_vm"] = torch.cat([self.table, drawn_vm.to(self.table)], 1)
        set_parameters(self.network, wider)
        self.masks = masks

    @property
    def table(self) -> Tensor:  # noqa: D102  inherited
        return self.network.table_vm

    @property
    def decoder_bias_v(self) -> Tensor:  # noqa: D102  inherited
        return self.network.decoder_bias_v

    @property
    def dims(self) -> tuple[int, int]:  # noqa: D102  inherited
        live = self.live_widths
        return live[GATE_AXIS], live[STATE_AXIS]

    def count_recurrent_parameters(self) -> int:
        """Live weights of H and W, without biases: the paper's 7,200,000 for the dense layer."""
        return self.count_live_weights()

    def zero_state(self, batch: int) -> State:  # noqa: D102  inherited
        h_sb = self.table.new_zeros(self.dims[1], batch)
        return h_sb, h_sb.clone()

    def run(self, words_tb: Tensor, state: State) -> tuple[Tensor, Tensor, State]:  # noqa: D102
        masks = self.masks
        live = apply_masks(self.weights, masks)
        decoder_vs = self.table[:, : self.network.layer.state_width]
        if self._has_dead_units:
            shrunk = shrink(self.layout, live, masks)
            live, decoder_vs = shrunk.weights, decoder_vs[:, shrunk.index[STATE]]
        live = {**live, "recurrent_kgs": self.drop_recurrent(live["recurrent_kgs"])}
        weights = HLSTMWeights(**{k: each.to(self.compute_dtype) for k, each in live.items()})
        batch = words_tb.shape[1]
        mask_qb = None
        if self.training and self.config.dropout_gates > 0:
            num_units = NUM_GATES * weights.input_kgi.shape[1]
            ones_qb = weights.input_kgi.new_ones(num_units, batch)
            mask_qb = F.dropout(ones_qb, self.config.dropout_gates)
        x_in = self.embed(words_tb).flatten(0, 1).t()
        h_tsb, h_sb, c_sb = run_recurrence(x_in, weights, *state, mask_qb=mask_qb)
        return h_tsb.transpose(1, 2), decoder_vs, (h_sb.to(self.table.dtype), c_sb)


class StackedLSTM(LanguageModel):
    """The baseline: embedding, two LSTM layers E → H → E, tied decoder.

    `network` is what the service measures as `lstm_lm`.
    """

    def __init__(self, vocabulary: int, config: LanguageModelConfig) -> None:
        super().__init__(vocabulary, config)
        self.network = LSTMLanguageModel(vocabulary, config.embedding_width, config.gate_width)

    @property
    def table(self) -> Tensor:  # noqa: D102  inherited
        return self.network.table_ve

    @property
    def decoder_bias_v(self) -> Tensor:  # noqa: D102  inherited
        return self.network.decoder_bias_v

    @property
    def dims(self) -> tuple[int, int]:  # noqa: D102  inherited
        return self.network.first.hidden_size, self.network.second.hidden_size

    def count_recurrent_parameters(self) -> int:  # noqa: D102  inherited
        return self.network.count_recurrent_parameters()

    def zero_state(self, batch: int) -> State:  # noqa: D102  inherited
        h_bh = self.table.new_zeros(1, batch, self.network.first.hidden_size)
        h_bj = self.table.new_zeros(1, batch, self.network.second.hidden_size)
        return h_bh, h_bh.clone(), h_bj, h_bj.clone()

    def run(self, words_tb: Tensor, state: State) -> tuple[Tensor, Tensor, State]:  # noqa: D102
        h_h, c_h, h_j, c_j = (each.to(self.compute_dtype) for each in state)
        x_tbh, (h_h, c_h) = self._run_layer(self.network.first, self.embed(words_tb), (h_h, c_h))
        x_tbh = self.drop_columns(x_tbh, self.config.dropout_gates)
        x_tbj, (h_j, c_j) = self._run_layer(self.network.second, x_tbh, (h_j, c_j))
        state = tuple(each.detach().to(self.table.dtype) for each in (h_h, c_h, h_j, c_j))
        return x_tbj, self.table, state

    def _run_layer(
        self, layer: nn.LSTM, x_tbi: Tensor, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The layer's output, its weights in `compute_dtype`.

        Not by autocast: on CUDA, autocast always runs LSTM layers in float16.
        """
        weights: dict[str, Tensor] = dict(layer.named_parameters())
        weights["weight_hh_l0"] = self.drop_recurrent(weights["weight_hh_l0"])
        weights = {name: each.to(self.compute_dtype) for name, each in weights.items()}
        output: tuple[Tensor, tuple[Tensor, Tensor]]
        output = functional_call(layer, weights, (x_tbi, state))
        return output
