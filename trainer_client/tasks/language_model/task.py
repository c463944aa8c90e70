"""Language modelling as a task: a corpus cut into pieces side by side, and what is asked of it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from profiler_service.kinds import HLSTM_LM
from profiler_service.networks.hlstm import NUM_GATES
from trainer_client.groups.layers import GATE_AXIS, STATE_AXIS
from trainer_client.run.logs import DIGEST
from trainer_client.run.ranks import Ranks
from trainer_client.run.task import Batch, Loss, Metric, Question, Split, State, Task
from trainer_client.tasks.language_model.config import LanguageModelConfig
from trainer_client.tasks.language_model.corpus import Corpus, batchify
from trainer_client.tasks.language_model.evaluation import measure_perplexity, perplexity_of
from trainer_client.tasks.language_model.networks import LanguageModel

# Shapes: T time steps, B batch, N rows of a batchified text, V vocabulary.

EVALUATION_BATCH: Final = 10
"""Number of pieces side by side when perplexity is measured."""

PROBE_SHARE: Final = 0.1
"""Share of the training text that is read to compare variants of a model before they are trained.
"""
USUALLY: Final = 0.95
"""With `random_steps`: the share of batches whose length is around `steps`, not half of it."""
SPREAD_STEPS: Final = 5.0
"""With `random_steps`: the standard deviation of the length."""
FEWEST_STEPS: Final = 5
"""With `random_steps`: the smallest length."""


class LanguageModelling(Task):
    """Predicts each next word of a text. This process has a share of the training text.

    A position is a row of the training text, which is cut into pieces side by side.
    """

    metric = Metric(name="perplexity")
    item = "tokens"

    def __init__(
        self,
        corpus: Corpus,
        config: LanguageModelConfig,
        *,
        seed: int,
        ranks: Ranks,
        device: torch.device,
    ) -> None:
        """`seed` is that of random lengths. Raises InvalidRequestError for a text too short."""
        self.config = config
        self.seed = seed
        self.words = corpus.vocabulary
        if config.precision == "bfloat16":
            self.weight_dtype = torch.bfloat16
        few = config.max_held_out_tokens
        words_t = corpus.train[: config.max_train_tokens]
        self.train_nb = ranks.share_of(batchify(words_t, config.batch)).to(device)
        self.end = len(self.train_nb) - 1  # the last row has no next one
        self._facts: dict[str, int | str] = {
            "tokens to train on": len(corpus.train),
            "words": len(self.words),
            DIGEST: _digest_of(corpus),
        }
        self.texts: dict[Split, Tensor] = {
            "valid": batchify(corpus.valid[:few], EVALUATION_BATCH).to(device),
            "test": batchify(corpus.test[:few], EVALUATION_BATCH).to(device),
            "probe": self.train_nb[: math.ceil(PROBE_SHARE * len(self.train_nb)) + 1],
        }
        self.count_v = torch.bincount(words_t, minlength=len(self.words)).to(device)
        """How often each word occurs in the training text."""

    @property
    def facts(self) -> Mapping[str, int | str]:
        """Numbers of tokens and of words, and a digest of the texts."""
        return self._facts

    def draw(self, position: int, *, epoch: int | None) -> Batch:
        """The words of some steps, and of the row after them: [T + 1, B]."""
        steps = min(self.config.steps, self.end - position)
        share = 1.0
        if self.config.random_steps and epoch is not None:
            steps = self._draw_steps(epoch, position)
            share = steps / self.config.steps
        words_tb = self.train_nb[position : position + steps + 1]
        return Batch(
            content=words_tb,
            count=words_tb[1:].numel(),
            end=position + steps,
            rate_share=share,
        )

    def _draw_steps(self, epoch: int, row: int) -> int:
        """A random number of steps from `row` on; 1 or more, and not beyond the last row.

        It is drawn as Merity et al. do ("Regularizing and Optimizing LSTM Language Models"). It
        depends only on the arguments and the seed: it is the same in a run that was resumed, and in
        all processes.
        """
        steps = self.config.steps
        generator = torch.Generator().manual_seed(
            int.from_bytes(hashlib.sha256(f"{self.seed} {epoch} {row}".encode()).digest()[:8])
        )
        around, share = torch.rand(1, generator=generator), torch.randn(1, generator=generator)
        middle = steps if around < USUALLY else steps / 2
        drawn = round(middle + SPREAD_STEPS * float(share))
        return min(max(drawn, min(FEWEST_STEPS, steps)), self.end - row)

    def begin_state(self, model: nn.Module) -> State:
        """Zeros."""
        return _of_language(model).zero_state(self.train_nb.shape[1])

    def rate_factor(self, model: nn.Module, parameter: str) -> float:
        """`table_rate` for the table; 1 for all else."""
        is_table = dict(model.named_parameters())[parameter] is _of_language(model).table
        return self.config.table_rate if is_table else 1.0

    def find_loss(self, model: nn.Module, batch: Batch, state: State) -> Loss:
        """The mean cross entropy of the next words, nats per token, and the penalties."""
        words_tb: Tensor = batch.content
        return _of_language(model).find_loss(words_tb[:-1], words_tb[1:], state)

    def measure(self, model: nn.Module, split: Split) -> float:
        """The perplexity. The text is read as EVALUATION_BATCH pieces, from a zero state."""
        text_nb = self.texts[split]
        return measure_perplexity(_of_language(model), text_nb, steps=self.config.steps)

    def describe(self, model: nn.Module) -> Mapping[str, Any]:
        """Live dims, and numbers of parameters as the paper counts them."""
        language = _of_language(model)
        return {
            "dims": list(language.dims),
            "live_dims": list(language.dims),
            "recurrent_parameters": language.count_recurrent_parameters(),
            "table_parameters": language.table.numel(),
        }

    def describe_loss(self, loss: float) -> Mapping[str, float]:  # noqa: D102  inherited
        return {"train_perplexity": perplexity_of(loss)}

    def ask_about(self, dims: Mapping[str, int]) -> Question:
        """The question about the H-LSTM, or about the whole language model with it."""
        config = self.config
        params: dict[str, int | str] = {
            "batch": config.latency_batch,
            "steps": config.latency_steps,
            "input_size": config.embedding_width,
            "dtype": config.latency_dtype,
            "backend": config.latency_backend,
        }
        if config.latency_workload == HLSTM_LM.name:
            params["vocabulary"] = len(self.words)
        axes = (GATE_AXIS, STATE_AXIS)
        return Question(
            axes=axes,
            dims=tuple(dims[axis] for axis in axes),
            workload=config.latency_workload,
            params=params,
        )

    def sparse_products(self, dims: Mapping[str, int]) -> Sequence[tuple[int, int]]:
        """The state's columns of H, and W. The input's product runs once a sequence only."""
        gate_width, state_width = dims[GATE_AXIS], dims[STATE_AXIS]
        return (NUM_GATES * gate_width, state_width), (state_width, gate_width)


def _of_language(model: nn.Module) -> LanguageModel:
    assert isinstance(model, LanguageModel)
    return model


def _digest_of(corpus: Corpus) -> str:
    """SHA-256 of the token ids of all three texts."""
    digest = hashlib.sha256()
    for text_t in (corpus.train, corpus.valid, corpus.test):
        digest.update(text_t.numpy().tobytes() + b"|")
    return digest.hexdigest()
