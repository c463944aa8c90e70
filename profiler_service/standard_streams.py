"""The standard streams of a command: closed, full or narrow ones end in no traceback.

A closed stream is opened on /dev/null: otherwise the next file or socket that is opened would take
its descriptor, and a print would go into it. What can't be written to standard output is an error;
what can't be written to standard error is dropped, because nobody is left to tell. A character that
the terminal's encoding doesn't have is written as a similar plain one.
"""

from __future__ import annotations

import codecs
import io
import os
import select
import sys
import unicodedata
from collections.abc import Mapping
from typing import Any, TextIO, cast

from profiler_service.errors import LhpError

SIMILAR: Mapping[str, str] = {
    "→": "->",
    "←": "<-",
    "≤": "<=",
    "≥": ">=",
    "×": "x",
    "·": "-",
    "…": "...",
    "±": "+-",
    "–": "-",
    "—": "-",
    "−": "-",
    "‑": "-",
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
    "µ": "u",
    "μ": "u",
    "τ": "tau",
}
"""What stands for a character that the terminal's encoding doesn't have. An accent is left out,
and any other character becomes a question mark."""
_SIMILAR_CHARACTERS = "lhp-similar"
_ASCII = "lhp_ascii"
"""ASCII under another name: typer takes a stream in `ascii` for a mistake, and writes UTF-8."""


class OutputError(LhpError):
    """Standard output can't be written to: its disk is full, for example."""


def make_safe() -> None:
    """Opens the standard streams that are closed, and makes all three safe to use.

    Call it before anything else is opened. Prints after that raise OutputError if standard output
    can't be written to, and BrokenPipeError if nobody reads it any more. Each is raised once: what
    is still buffered then is dropped.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    codecs.register_error(_SIMILAR_CHARACTERS, _replace_by_similar)
    codecs.register(_find_codec)
    # Python's own streams are None where the descriptor was closed.
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = _open_text(1, sys.stdout, is_needed=True)
    sys.stderr = _open_text(2, sys.stderr, is_needed=False)


def _open_text(descriptor: int, old: TextIO | None, *, is_needed: bool) -> TextIO:
    """A stream like `old` that writes to the descriptor."""
    like = cast("io.TextIOWrapper | None", old)
    if like is not None:
        like.flush()
    encoding = codecs.lookup("utf-8" if like is None else like.encoding).name
    return io.TextIOWrapper(
        io.BufferedWriter(_Output(descriptor, is_needed=is_needed)),
        encoding=_ASCII if encoding == "ascii" else encoding,
        errors=_SIMILAR_CHARACTERS,
        newline="\n",
        line_buffering=like is not None and like.line_buffering,
        write_through=like is not None and like.write_through,
    )


class _Output(io.FileIO):
    """Writes to the descriptor. Its errors are raised as `make_safe` says."""

    def __init__(self, descriptor: int, *, is_needed: bool) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._is_needed = is_needed

    def write(self, data: Any, /) -> int:
        """Number of bytes written, or dropped."""
        try:
            # None: whoever opened the stream made it non-blocking, and there is no space now.
            while (written := super().write(data)) is None:
                select.select([], [self], [])
        except OSError as error:
            if not self._is_needed:
                return memoryview(data).nbytes
            self._is_needed = False
            if isinstance(error, BrokenPipeError):
                raise
            raise OutputError(
                f"can't write to standard output: {error.strerror}",
                hint="what it says so far is incomplete: make space, or send it elsewhere",
            ) from error
        return written


def _find_codec(name: str) -> codecs.CodecInfo | None:
    if name != _ASCII:
        return None
    plain = codecs.lookup("ascii")
    return codecs.CodecInfo(
        plain.encode,
        plain.decode,
        incrementalencoder=plain.incrementalencoder,
        incrementaldecoder=plain.incrementaldecoder,
        name=_ASCII,
    )


def _replace_by_similar(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(map(_find_similar, missing)), error.end


def _find_similar(character: str) -> str:
    if character in SIMILAR:
        return SIMILAR[character]
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode("ascii")
    return plain or "?"
