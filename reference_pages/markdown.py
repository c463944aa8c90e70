"""Markdown from values: tables, and text that is safe inside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def cell(text: object) -> str:
    """The text as one cell of a table: on one line, with nothing that ends the cell."""
    return " ".join(str(text).split()).replace("|", "\\|")


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table, ending with an empty line."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines) + "\n\n"


def code(text: object) -> str:
    """The text as inline code; empty text stays empty."""
    text = str(text)
    return f"`{text}`" if text else ""


def paragraphs(docstring: str | None) -> str:
    """A docstring as Markdown paragraphs, ending with an empty line."""
    import inspect

    return inspect.cleandoc(docstring or "").strip() + "\n\n"
