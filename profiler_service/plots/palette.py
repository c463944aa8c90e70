"""The colours of pages and charts, as roles: each role once, for light and for dark.

A figure names roles, `role:lhp` or `role:lhp/0.3` with an opacity. `resolve` puts colours in their
place for a file. Pages get the same table as CSS custom properties.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

Theme = Literal["light", "dark"]

PALETTE: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "page": ("#F7F7F5", "#0F1115"),
        "card": ("#FFFFFF", "#16191F"),
        "sunken": ("#F1F1EE", "#1D2128"),
        "line": ("#E4E4DF", "#2A2F38"),
        "grid": ("#EDEDE9", "#232831"),
        "control": ("#85888E", "#6F7784"),
        "ink": ("#14171C", "#ECEEF1"),
        "second": ("#4A505A", "#B3B9C4"),
        "third": ("#666C76", "#939BA8"),
        "measured": ("#828A98", "#7C8593"),
        "lhp": ("#0067A8", "#56B4E9"),
        "faster": ("#00795B", "#2FC59A"),
        "undecided": ("#9A6000", "#E6A93A"),
        "slower": ("#8E1F1F", "#F08A5D"),
        "predicted": ("#9B4F80", "#D69ABF"),
        "faster-soft": ("#E0F2EC", "#12332A"),
        "undecided-soft": ("#FBEFD9", "#382B12"),
        "slower-soft": ("#FBE7DC", "#3B2117"),
        "lhp-soft": ("#DCEBF6", "#16303F"),
        "bin-a": ("#AFCDE4", "#234357"),
        "bin-b": ("#DCE9F3", "#1A2C38"),
        # Compared curves; the first is the baseline.
        "curve-1": ("#4A505A", "#B3B9C4"),
        "curve-2": ("#0067A8", "#56B4E9"),
        "curve-3": ("#B36B00", "#E6A93A"),
        "curve-4": ("#9B4F80", "#C465A0"),
        "curve-5": ("#3A94D0", "#4F7BE8"),
        "curve-6": ("#5B3F00", "#F6E58D"),
        # Of a heat map: three slower ones, equal, four faster ones.
        "heat-1": ("#94400F", "#F0A57D"),
        "heat-2": ("#D97A3E", "#B9612F"),
        "heat-3": ("#F2C3A2", "#6B3A20"),
        "heat-4": ("#EFEEEA", "#2A2E35"),
        "heat-5": ("#B9D9EA", "#1F4A66"),
        "heat-6": ("#5FA8D0", "#2478AA"),
        "heat-7": ("#1C74AE", "#56B4E9"),
        "heat-8": ("#0A4674", "#BFE4FA"),
    }
)
"""Role → colour in light and in dark."""

ROLE: Final = "role:"


def color_of(role: str, theme: Theme) -> str:
    """The colour of `role:lhp` (`#0067A8`) or `role:lhp/0.3` (`rgba(0,103,168,0.3)`).

    Raises KeyError for an unknown role.
    """
    name, _, opacity = role.removeprefix(ROLE).partition("/")
    color = PALETTE[name][theme == "dark"]
    if not opacity:
        return color
    red, green, blue = (int(color[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},{float(opacity):g})"


def resolve(value: Any, theme: Theme, *, is_color: bool = False) -> Any:
    """A copy of the figure, or of a part of it, with colours in place of roles.

    Only values of colours are looked at: a name that reads `role:lhp` stays.
    """
    if isinstance(value, dict):
        return {
            key: resolve(each, theme, is_color=key.endswith("color") or key == "colorscale")
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [resolve(each, theme, is_color=is_color) for each in value]
    if is_color and isinstance(value, str) and value.startswith(ROLE):
        return color_of(value, theme)
    return value


def css() -> str:
    """The palette as CSS custom properties, `--lhp: #0067A8;`.

    Dark where the system prefers it, unless `data-theme` of the root says otherwise.
    """
    light, dark = (
        "color-scheme:"
        + theme
        + ";"
        + "".join(f"--{role}:{colors[theme == 'dark']};" for role, colors in PALETTE.items())
        for theme in ("light", "dark")
    )
    return (
        f":root{{{light}}}\n"
        f"@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
        f':root[data-theme="light"]{{{light}}}\n'
        f':root[data-theme="dark"]{{{dark}}}\n'
    )
