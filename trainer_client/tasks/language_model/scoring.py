"""How well an exported model predicts a text.

    score = load_scorer("run/models/weights.safetensors").score("a text of your own")
    score.perplexity

Computes as the trainer does when it evaluates a model, in float32.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from trainer_client.export import LoadedModel, load_model, load_vocabulary
from trainer_client.files import explaining
from trainer_client.tasks.language_model.corpus import UnexpectedTextError, Vocabulary, batchify
from trainer_client.tasks.language_model.evaluation import losses_by, perplexity_of
from trainer_client.tasks.language_model.task import EVALUATION_BATCH

# Shapes: T time steps, B texts side by side, N = T · B.

LONG_TEXT = 1000
"""From so many tokens on, a text is read as the trainer reads its own."""
STEPS = 70
"""How many tokens of each piece are read at once. The score doesn't depend on it."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well a model predicts a text."""

    perplexity: float
    num_predicted: int
    """Tokens that were predicted. The first one of a piece is only read, and the last few tokens
    of a text that can't be divided are left out."""
    num_unknown: int
    """Words of the text that the model doesn't know."""
    pieces: int
    """In how many pieces, side by side, the text was read: each without what was before it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scorer:
    """A model with its vocabulary."""

    model: LoadedModel
    vocabulary: Vocabulary

    def score(
        self, text: str, *, pieces: int | None = None, max_tokens: int | None = None
    ) -> Score:
        """The model's score on the text, or on its first `max_tokens`.

        A text of LONG_TEXT tokens or more is read as 10 pieces side by side, as the trainer reads
        the validation and the test text; a shorter one as a whole. Raises UnexpectedTextError.
        """
        losses_nb, num_unknown = self.find_losses(text, pieces=pieces, max_tokens=max_tokens)
        return Score(
            perplexity=perplexity_of(float(losses_nb.double().mean())),
            num_predicted=losses_nb.numel(),
            num_unknown=num_unknown,
            pieces=losses_nb.shape[1],
        )

    def find_losses(
        self, text: str, *, pieces: int | None = None, max_tokens: int | None = None
    ) -> tuple[Tensor, int]:
        """The loss of each predicted token, nats, [N − 1, pieces], and how many words are unknown.

        Arguments and errors are those of `score`.
        """
        text_t, num_unknown = self.vocabulary.encode(text, max_tokens)
        if pieces is None:
            pieces = EVALUATION_BATCH if len(text_t) >= LONG_TEXT else 1
        if pieces < 1 or len(text_t) < 2 * pieces:
            raise UnexpectedTextError(
                f"{len(text_t)} tokens can't be scored as {pieces} pieces",
                hint="a piece needs two tokens: one to read, and one to predict",
            )
        text_nb = batchify(text_t, pieces)
        return losses_by(self._run, None, text_nb, steps=STEPS), num_unknown

    def _run(self, words_tb: Tensor, state: Any) -> tuple[Tensor, Any]:
        scores_tbv, state = self.model(words_tb, state)
        return scores_tbv.flatten(0, 1), state


def read_text(path: Path) -> str:
    """The text in the file; of standard input for `-`. Raises FileError, UnexpectedTextError."""
    is_input = str(path) == "-"
    with explaining(path, doing="read"):
        if not is_input:
            content = path.read_bytes()
        else:  # which may be closed: there is no text then
            content = b"" if sys.stdin is None else sys.stdin.buffer.read()
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UnexpectedTextError(
            f"{'the input' if is_input else path} isn't UTF-8 text (byte {error.start:,})",
            hint="convert it, for example with iconv",
        ) from error


def load_scorer(path: str | os.PathLike[str]) -> Scorer:
    """The model in the file, with its vocabulary. Raises ModelFileError, also where that lacks."""
    return Scorer(model=load_model(path), vocabulary=load_vocabulary(path))
