"""Texts small enough to count by hand, and the real ones if LHP_DATA names their directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from profiler_service.errors import InvalidRequestError
from trainer_client.tasks.language_model.corpus import (
    EOS,
    OWN_TEXT,
    PTB,
    WIKITEXT_2,
    CorpusKind,
    MissingTextError,
    UnexpectedTextError,
    batchify,
    get_corpus_kind,
    load_corpus,
)

TRAIN = " the cat sat \n\n the dog sat "
VALID = "dog\n"
TEST = "cat cat\n"

# the cat sat <eos> <eos> the dog sat <eos>: 9 tokens, of which 5 differ.
SMALL = CorpusKind(
    name="small",
    folder="small",
    files={"train": "train.txt", "valid": "valid.txt", "test": "test.txt"},
    num_tokens={"train": 9, "valid": 2, "test": 3},
    vocabulary_size=5,
    origin="the shelf",
)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A directory with the small corpus in its folder."""
    write(tmp_path / "small", TRAIN, VALID, TEST)
    return tmp_path


def write(folder: Path, train: str, valid: str, test: str) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in (("train", train), ("valid", valid), ("test", test)):
        (folder / f"{name}.txt").write_text(text)


def test_ids_follow_first_appearance(small: Path) -> None:
    corpus = load_corpus(SMALL, small)
    assert corpus.vocabulary == ("the", "cat", "sat", EOS, "dog")
    assert corpus.train.tolist() == [0, 1, 2, 3, 3, 0, 4, 2, 3]
    assert corpus.valid.tolist() == [4, 3]
    assert corpus.test.tolist() == [1, 1, 3]
    assert corpus.train.dtype == torch.int64


def test_the_folder_itself_may_be_named(small: Path) -> None:
    assert load_corpus(SMALL, small / "small").valid.tolist() == [4, 3]


def test_a_missing_file_is_named_with_its_origin(small: Path) -> None:
    (small / "small" / "valid.txt").unlink()
    with pytest.raises(MissingTextError, match=r"small/valid\.txt can't be read") as raised:
        load_corpus(SMALL, small)
    assert "get the shelf" in raised.value.hint
    assert "train.txt, valid.txt, test.txt" in raised.value.hint


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingTextError, match="nonesuch"):
        load_corpus(SMALL, tmp_path / "nonesuch")


def test_a_truncated_file_is_named(small: Path) -> None:
    (small / "small" / "train.txt").write_text(" the cat sat \n")
    with pytest.raises(UnexpectedTextError, match=r"train\.txt has 4 tokens .* of 9: it was cut"):
        load_corpus(SMALL, small)


def test_too_many_tokens_are_no_truncation(small: Path) -> None:
    (small / "small" / "test.txt").write_text("c a t c a t\n")
    with pytest.raises(UnexpectedTextError, match=r"test\.txt has 7 .* of 3: it was tokenised"):
        load_corpus(SMALL, small)


def test_another_vocabulary_is_another_tokenisation(small: Path) -> None:
    (small / "small" / "train.txt").write_text(TRAIN.replace("the dog", "The dog"))
    with pytest.raises(UnexpectedTextError, match=r"train\.txt has 6 different tokens .* of 5"):
        load_corpus(SMALL, small)


def test_a_word_that_training_lacks_is_an_error(small: Path) -> None:
    (small / "small" / "valid.txt").write_text("bird\n")
    with pytest.raises(UnexpectedTextError, match=r"valid\.txt has the word 'bird'"):
        load_corpus(SMALL, small)
    # <unk> in training doesn't excuse it if the text is known.
    (small / "small" / "train.txt").write_text(TRAIN.replace("the", "<unk>"))
    with pytest.raises(UnexpectedTextError, match="'bird'"):
        load_corpus(SMALL, small)


def test_bytes_that_are_no_text_are_an_error(small: Path) -> None:
    (small / "small" / "test.txt").write_bytes(b"cat \xff\n")
    with pytest.raises(UnexpectedTextError, match=r"isn't UTF-8 text \(byte 4\)"):
        load_corpus(SMALL, small)


def test_own_text_may_be_any(tmp_path: Path) -> None:
    write(tmp_path, "a <unk> b\n", "a bird\n", "b\n")
    corpus = load_corpus(OWN_TEXT, tmp_path)
    assert corpus.valid.tolist() == [0, 1, 3]  # a <unk> <eos>


def test_own_text_without_a_word_for_the_unknown_knows_all_its_words(tmp_path: Path) -> None:
    write(tmp_path, "a b\n", "a bird\n", "b\n")
    with pytest.raises(UnexpectedTextError, match="'bird'") as raised:
        load_corpus(OWN_TEXT, tmp_path)
    assert "<unk>" in raised.value.hint


def test_own_text_is_not_empty(tmp_path: Path) -> None:
    write(tmp_path, "a b\n", "", "b\n")
    with pytest.raises(UnexpectedTextError, match=r"valid\.txt is empty"):
        load_corpus(OWN_TEXT, tmp_path)


def test_corpora_are_known_by_name() -> None:
    assert get_corpus_kind("wikitext-2") is WIKITEXT_2
    with pytest.raises(InvalidRequestError) as raised:
        get_corpus_kind("wikitext-3")
    assert raised.value.hint == (
        "did you mean 'wikitext-2'? choose one of: ptb, wikitext-2, own-text"
    )


def test_batchify_lays_pieces_side_by_side() -> None:
    # 0..7 in two pieces of 4 (8 is left out): 0 1 2 3 and 4 5 6 7, as columns.
    laid_nb = batchify(torch.arange(9), 2)
    assert laid_nb.tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert laid_nb.is_contiguous()


@pytest.mark.parametrize(("num_tokens", "batch"), [(3, 2), (0, 1), (9, 0), (9, -1)])
def test_batchify_needs_two_tokens_a_piece(num_tokens: int, batch: int) -> None:
    with pytest.raises(InvalidRequestError):
        batchify(torch.arange(num_tokens), batch)


@pytest.mark.skipif("LHP_DATA" not in os.environ, reason="LHP_DATA doesn't say where the texts are")
@pytest.mark.parametrize("kind", [PTB, WIKITEXT_2], ids=lambda kind: kind.name)
def test_the_real_texts_have_the_tokens_published(kind: CorpusKind) -> None:
    corpus = load_corpus(kind, os.environ["LHP_DATA"])
    texts = {"train": corpus.train, "valid": corpus.valid, "test": corpus.test}
    assert {split: len(text) for split, text in texts.items()} == kind.num_tokens
    assert len(corpus.vocabulary) == kind.vocabulary_size
    for text in texts.values():
        assert int(text.min()) >= 0 and int(text.max()) < len(corpus.vocabulary)
    if kind is PTB:
        words = [corpus.vocabulary[i] for i in corpus.valid[:5].tolist()]
        assert words == ["consumers", "may", "want", "to", "move"]
