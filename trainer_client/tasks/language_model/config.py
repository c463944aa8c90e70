"""The choices of language modelling: text, networks, and how latency is measured.

The defaults are those of section 5.1 of Yin et al.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from trainer_client.run.settings import (
    POSITIVE,
    SHARE,
    Check,
    InvalidConfigError,
    Settings,
    at_least,
    one_of,
)

Precision = Literal["auto", "float32", "bfloat16"]
LatencyWorkload = Literal["hlstm_lm", "hlstm"]
LatencyDtype = Literal["float32", "bfloat16", "float16"]
LatencyBackend = Literal["dense", "packed"]


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig(Settings):
    """The choices of a language model: the H-LSTM, and the baseline."""

    corpus: str = "ptb"
    """Name of the corpus."""
    max_train_tokens: int | None = None
    """Number of tokens used from the start of the training text; None for all."""
    max_held_out_tokens: int | None = None
    """Number of tokens used of the validation and of the test text; None for all."""
    embedding_width: int = 400
    """Width of the words' embeddings."""
    state_width: int = 400
    """Width of the H-LSTM's state."""
    gate_width: int = 1500
    """Width of the hidden layer in each gate of the H-LSTM, and of the baseline's first layer."""
    dropout_words: float = 0.1
    """Share of the words whose embedding is set to zero, drawn anew for each batch."""
    dropout_embedding: float = 0.65
    """Share of the input's columns dropped, the same at all time steps."""
    dropout_gates: float = 0.2
    """Share of values dropped in the gates of the H-LSTM, or between the baseline's layers."""
    dropout_output: float = 0.0
    """Share of the state's columns dropped before the decoder, the same at all time steps."""
    dropout_recurrent: float = 0.0
    """Share of the recurrent weights dropped, drawn anew for each batch (weight drop)."""
    activation_penalty: float = 0.0
    """Factor of the mean square of the dropped states in the loss (activation regularisation)."""
    change_penalty: float = 0.0
    """Factor of the mean square of the states' changes from step to step in the loss (temporal
    activation regularisation)."""
    precision: Precision = "float32"
    """Element type of the products; weights and cell states stay float32. With `auto`, a new run
    tries both for a few batches and takes the faster one, if it has the same loss."""
    batch: int = 32
    """Number of texts that are trained on side by side."""
    steps: int = 70
    """Number of words that a gradient reaches back."""
    random_steps: bool = False
    """Whether the number of words varies: normally distributed around `steps`, now and then around
    half of it, with a learning rate in proportion. So gradients begin at other words in every
    epoch."""
    table_rate: float = 1.0
    """The learning rate of the table, which is embedding and decoder, as a multiple of that of the
    layers. A word's row gets a gradient as embedding only when the word occurs."""
    latency_batch: int = 16
    """Batch at which the service measures latency."""
    latency_steps: int = 70
    """Length of the sequences at which the service measures latency."""
    latency_workload: LatencyWorkload = "hlstm_lm"
    """What the service measures in step (c): the whole model, or its H-LSTM layer alone."""
    latency_dtype: LatencyDtype = "float32"
    """Element type with which the exported model will run; it is measured with this."""
    latency_backend: LatencyBackend = "dense"
    """Kernels with which the exported model's layer will run; it is measured with these."""

    CHECKS: ClassVar[dict[str, Check]] = {
        "max_train_tokens": at_least(1),
        "max_held_out_tokens": at_least(1),
        **dict.fromkeys(
            ("embedding_width", "state_width", "gate_width", "batch", "steps"), at_least(1)
        ),
        **dict.fromkeys(
            (
                "dropout_words",
                "dropout_embedding",
                "dropout_gates",
                "dropout_output",
                "dropout_recurrent",
            ),
            SHARE,
        ),
        **dict.fromkeys(("activation_penalty", "change_penalty"), at_least(0)),
        "precision": one_of(Precision),
        "table_rate": POSITIVE,
        "latency_batch": at_least(1),
        "latency_steps": at_least(1),
        "latency_workload": one_of(LatencyWorkload),
        "latency_dtype": one_of(LatencyDtype),
        "latency_backend": one_of(LatencyBackend),
    }

    def check_together(self) -> None:
        """Raises InvalidConfigError if the decoder can't read the state."""
        if self.state_width > self.embedding_width:
            raise InvalidConfigError(
                f"state_width={self.state_width} is above embedding_width={self.embedding_width}",
                hint="the decoder shares the embedding's weights, so the state can't be wider",
            )
