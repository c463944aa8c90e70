"""The service's fixtures, and what pages are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin

from tests.api.conftest import (
    anyio_backend,
    client,
    settings,
    sqlite_store,
    sqlite_url,
    sqlite_worker,
)

__all__ = [
    "anyio_backend",
    "client",
    "settings",
    "sqlite_store",
    "sqlite_url",
    "sqlite_worker",
]

ADDRESSES = ("href", "src", "action", "hx-get", "hx-post", "data-figure", "data-plotly")


@dataclass
class Page(HTMLParser):
    """A page's elements, as tests look at them."""

    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag in ("th", "td", "small"):
            self.text += " "  # neighbouring cells are words of their own

    def handle_data(self, data: str) -> None:
        self.text += data

    def find(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        """The attributes of each such element. `_` in a name stands for `-`."""
        wanted = {name.replace("_", "-"): value for name, value in attributes.items()}
        return [has for name, has in self.tags if name == tag and wanted.items() <= has.items()]

    def addresses(self) -> set[str]:
        """Every address that the page names."""
        return {has[name] for _, has in self.tags for name in ADDRESSES if name in has}


def read_page(text: str) -> Page:
    """The elements of a page, or of a part of one."""
    page = Page()
    page.feed(text)
    return page


def follow(address: str, of: str) -> str:
    """The path that an address leads to, seen from the page at the path `of`."""
    return urljoin(f"http://service{of}", address).removeprefix("http://service")
