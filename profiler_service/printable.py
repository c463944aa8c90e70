"""Makes text from elsewhere safe to print and to use in a file's name.

A name or a message of the service may hold anything: codes that a terminal obeys, line breaks that
pretend to be further lines, marks that turn the order of letters around.
"""

from __future__ import annotations

import re
import unicodedata

_NO_FILE_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_MAX_NAME_LENGTH = 80


def printable(text: str) -> str:
    """The text on one line, with an escape such as `\\x1b` for each character that isn't shown."""
    if text.isprintable():
        return text
    return "".join(
        # No-break spaces count as unprintable, but are shown.
        each if each.isprintable() or unicodedata.category(each) == "Zs" else _escape(each)
        for each in text
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def file_name(text: str) -> str:
    """The text as (a part of) a file's name: letters, digits, `.`, `_` and `-`, at most 80.

    It names no other directory and no hidden file, and is no option of a command. Different texts
    may have the same name.
    """
    name = _NO_FILE_NAME.sub("_", text).lstrip(".-")[:_MAX_NAME_LENGTH]
    return name or "_"
