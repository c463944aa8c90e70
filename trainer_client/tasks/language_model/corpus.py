"""Texts for language models: reads them, counts their tokens, and turns them into token ids.

Knows no network, and downloads nothing. T: tokens of a text; N: time steps; B: texts side by
side.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from profiler_service.errors import InvalidRequestError, LhpError, NotFoundError
from profiler_service.suggestions import did_you_mean

EOS = "<eos>"
"""Ends every line, empty ones included."""
UNKNOWN = "<unk>"

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")


class MissingTextError(NotFoundError):
    """A file of the corpus is missing, or can't be read."""


class UnexpectedTextError(LhpError):
    """A file has another text than expected: cut short, or tokenised in another way."""


@dataclass(frozen=True, kw_only=True)
class CorpusKind:
    """A known corpus: its files, and the numbers that show whether they are complete."""

    name: str
    folder: str
    """Folder in the given directory that is searched first for its files."""
    files: Mapping[Split, str]
    num_tokens: Mapping[Split, int]
    """Number of tokens of each text, with one EOS per line; empty if any text is accepted."""
    vocabulary_size: int | None
    """Number of different tokens of the training text, with EOS; None if any number is accepted."""
    origin: str
    """Its origin."""


PTB = CorpusKind(
    name="ptb",
    folder="ptb",
    files={split: f"ptb.{split}.txt" for split in SPLITS},
    num_tokens={"train": 929_589, "valid": 73_760, "test": 82_430},
    vocabulary_size=10_000,
    origin="the Penn Treebank as Mikolov prepared it, in simple-examples.tgz under ./data; its"
    " text is licensed by the LDC (LDC99T42)",
)
WIKITEXT_2 = CorpusKind(
    name="wikitext-2",
    folder="wikitext-2",
    files={split: f"{split}.txt" for split in SPLITS},
    num_tokens={"train": 2_088_628, "valid": 217_646, "test": 245_569},
    vocabulary_size=33_278,
    origin="WikiText-2, word level (wikitext-2-v1.zip; name its wiki.train.tokens train.txt, and"
    " so on)",
)
OWN_TEXT = CorpusKind(
    name="own-text",
    folder="own-text",
    files={split: f"{split}.txt" for split in SPLITS},
    num_tokens={},
    vocabulary_size=None,
    origin="any text of your own, words separated by spaces",
)
CORPUS_KINDS: Mapping[str, CorpusKind] = {kind.name: kind for kind in (PTB, WIKITEXT_2, OWN_TEXT)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus:
    """A corpus as token ids.

    Each text is int64 of shape [T], on the CPU; id i stands for `vocabulary[i]`. Ids are in the
    order of the first occurrence in the training text.
    """

    name: str
    vocabulary: tuple[str, ...]
    train: torch.Tensor
    valid: torch.Tensor
    test: torch.Tensor


def split_words(text: str, end_of_line: str = EOS) -> list[str]:
    """The words of a text, which are separated by white space, and the end of each line."""
    if text and not text.endswith("\n"):
        text += "\n"
    return text.replace("\n", f" {end_of_line} ").split()


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The words that a model knows, and how a text is split into them."""

    words: tuple[str, ...]
    """Word i is token i of the model."""
    end_of_line: str = EOS
    """The word that ends every line."""
    unknown: str = UNKNOWN
    """The word that replaces an unknown one, if the model has such a word."""

    def encode(self, text: str, max_tokens: int | None = None) -> tuple[torch.Tensor, int]:
        """The text's first tokens, int64 [T], and how many of those words are unknown.

        Raises UnexpectedTextError if there is an unknown word and no word for it.
        """
        number = {word: i for i, word in enumerate(self.words)}
        unknown = number.get(self.unknown)
        words = split_words(text, self.end_of_line)[:max_tokens]
        ids = [number.get(word, unknown) for word in words]
        if None in ids:
            raise UnexpectedTextError(
                f"the model doesn't know the word {words[ids.index(None)]!r}, and has no"
                f" {self.unknown} for such words",
                hint="leave it out, or replace it; a model knows only the words that it was"
                " trained on",
            )
        num_unknown = sum(word not in number for word in words)
        return torch.tensor([each for each in ids if each is not None]).long(), num_unknown


def get_corpus_kind(name: str) -> CorpusKind:
    """The corpus called `name`. Raises InvalidRequestError."""
    if name not in CORPUS_KINDS:
        raise InvalidRequestError(
            f"there is no corpus {name!r}",
            hint=did_you_mean(name, CORPUS_KINDS) + f"choose one of: {', '.join(CORPUS_KINDS)}",
        )
    return CORPUS_KINDS[name]


def load_corpus(kind: CorpusKind, directory: str | os.PathLike[str]) -> Corpus:
    """The corpus in `directory/<its folder>`, or in `directory` if there is no such folder.

    Texts with published results (PTB, WIKITEXT_2) must have exactly the expected tokens. Otherwise
    results could not be compared. OWN_TEXT takes any text.

    Raises MissingTextError, UnexpectedTextError.
    """
    inner = Path(directory) / kind.folder
    folder = inner if inner.is_dir() else Path(directory)
    words = {split: _read_words(kind, folder, split) for split in SPLITS}
    # dict keeps the order of first appearance; set wouldn't, and ids would differ from run to run.
    number = {word: i for i, word in enumerate(dict.fromkeys(words["train"]))}
    if kind.vocabulary_size is not None and len(number) != kind.vocabulary_size:
        raise UnexpectedTextError(
            f"{folder / kind.files['train']} has {len(number):,} different tokens instead of"
            f" {kind.vocabulary_size:,}: it was tokenised in another way",
            hint=f"get {kind.origin}; or train on it as your own text ({OWN_TEXT.name})",
        )
    texts = {
        split: _encode(words[split], number, folder / kind.files[split], kind) for split in SPLITS
    }
    return Corpus(name=kind.name, vocabulary=tuple(number), **texts)


def _read_words(kind: CorpusKind, folder: Path, split: Split) -> list[str]:
    """The tokens of one text with EOS. Checks their number."""
    path = folder / kind.files[split]
    get_it = f"get {kind.origin}"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise MissingTextError(
            f"{path} can't be read: {error.strerror}",
            hint=f"{get_it}; name the directory that has {', '.join(kind.files.values())} in it,"
            f" or in a folder {kind.folder}",
        ) from error
    except UnicodeDecodeError as error:
        raise UnexpectedTextError(
            f"{path} isn't UTF-8 text (byte {error.start:,})", hint=get_it
        ) from error
    words = split_words(text)
    expected = kind.num_tokens.get(split)
    if not words:
        raise UnexpectedTextError(f"{path} is empty", hint=get_it)
    if expected is not None and len(words) != expected:
        why = "it was cut short, or " if len(words) < expected else ""
        raise UnexpectedTextError(
            f"{path} has {len(words):,} tokens (with one {EOS} a line) instead of {expected:,}:"
            f" {why}it was tokenised in another way",
            hint=f"{get_it}; or train on it as your own text ({OWN_TEXT.name})",
        )
    return words


def _encode(
    words: Sequence[str], number: Mapping[str, int], path: Path, kind: CorpusKind
) -> torch.Tensor:
    """The ids of the words, [T]. A word that the training text lacks has the id of UNKNOWN."""
    # In a known text, a new word is an error.
    unknown = None if kind.num_tokens else number.get(UNKNOWN)
    ids = [number.get(word, unknown) for word in words]
    known = [i for i in ids if i is not None]
    if len(known) < len(ids):
        raise UnexpectedTextError(
            f"{path} has the word {words[ids.index(None)]!r}, which the training text lacks",
            hint=f"get {kind.origin}"
            if kind.num_tokens
            else f"write {UNKNOWN} for rare words, in the training text, too",
        )
    return torch.tensor(known, dtype=torch.int64)


def batchify(text_t: torch.Tensor, batch: int) -> torch.Tensor:
    """The text cut into `batch` equal pieces, side by side: [T] → [N, B], N = T // B.

    Column b is the b-th piece, so that the state of row n carries over to row n + 1. The last
    T mod B tokens are left out. Raises InvalidRequestError if a piece has fewer than two tokens:
    one to read, one to predict.
    """
    num_steps = len(text_t) // batch if batch > 0 else 0
    if num_steps < 2:
        raise InvalidRequestError(
            f"{len(text_t)} tokens don't make {batch} texts of two tokens or more",
            hint="choose a smaller batch, at least 1; or a longer text",
        )
    return text_t[: num_steps * batch].view(batch, num_steps).t().contiguous()
