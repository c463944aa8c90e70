"""What a page of the built site would load from the network. Pure: text in, addresses out."""

from __future__ import annotations

import re
from html.parser import HTMLParser

LOADED: dict[str, tuple[str, ...]] = {
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "video": ("src", "poster"),
    "audio": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
}
"""Attributes by element from which a browser loads something by itself."""
NOT_LOADED = {"canonical", "next", "prev", "alternate", "author", "license"}
"""Relations of a `link` that a browser doesn't load."""

_EXTERNAL = re.compile(r"(?:https?:)?//", re.IGNORECASE)
_IN_STYLE = re.compile(r"""(?:url\(\s*|@import\s+)["']?((?:https?:)?//[^"')\s]+)""", re.IGNORECASE)


class _Collector(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._is_in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self._is_in_style = tag == "style"
        if tag != "link" or not set((values.get("rel") or "").split()) & NOT_LOADED:
            for name in LOADED.get(tag, ()):
                for part in (values.get(name) or "").split(","):
                    if _EXTERNAL.match(part.strip()):
                        self.found.append(part.split()[0])
        self.found.extend(external_addresses_in_style(values.get("style") or ""))

    def handle_data(self, data: str) -> None:
        if self._is_in_style:
            self.found.extend(external_addresses_in_style(data))

    def handle_endtag(self, tag: str) -> None:
        self._is_in_style = False


def external_addresses(html: str) -> list[str]:
    """Addresses on other servers that a browser would load to show the page."""
    collector = _Collector()
    collector.feed(html)
    collector.close()
    return collector.found


def external_addresses_in_style(css: str) -> list[str]:
    """Addresses on other servers that a style sheet would load."""
    return _IN_STYLE.findall(css)
