"""The palette: every text and mark can be read on its ground, in light and in dark."""

from __future__ import annotations

import re

import pytest

from profiler_service.plots.palette import PALETTE, Theme, color_of, css, resolve

GROUNDS = ("page", "card", "sunken")
TEXTS = ("ink", "second", "third")
TEXTS_ON_SOFT = ("faster", "undecided", "slower", "lhp")
MARKS = (
    *("control", "measured", "lhp", "faster", "undecided", "slower", "predicted"),
    *(f"curve-{number}" for number in range(1, 7)),
)
THEMES: tuple[Theme, ...] = ("light", "dark")


def luminance(color: str) -> float:
    """The relative luminance of WCAG 2.2."""
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#FFFFFF", "#000000") == pytest.approx(21)
    # 0x77 = 119: ((119 / 255 + 0.055) / 1.055) ** 2.4 = 0.1845; 1.05 / 0.2345 = 4.48.
    assert contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("theme", THEMES)
def test_texts_and_marks_can_be_read(theme: Theme) -> None:
    pairs = [(text, ground, 4.5) for text in TEXTS for ground in GROUNDS]
    pairs += [(text, ground, 4.5) for text in TEXTS_ON_SOFT for ground in (f"{text}-soft", "card")]
    pairs += [(mark, ground, 3.0) for mark in MARKS for ground in ("page", "card")]
    weak = {
        pair: round(found, 2)
        for pair in pairs
        if (found := contrast(color_of(pair[0], theme), color_of(pair[1], theme))) < pair[2]
    }
    assert weak == {}


def test_roles_become_colours_where_colours_stand() -> None:
    figure = {
        "data": [
            {
                "name": "role:lhp",
                "marker": {"color": ["role:lhp", "#123456"]},
                "fillcolor": "role:ink/0.5",
                "colorscale": [[0, "role:heat-1"]],
                "colorbar": {"title": {"text": "role:lhp"}},
            }
        ]
    }
    [light] = resolve(figure, "light")["data"]
    assert light == {
        "name": "role:lhp",  # a name, though a strange one
        "marker": {"color": ["#0067A8", "#123456"]},
        "fillcolor": "rgba(20,23,28,0.5)",  # 0x14, 0x17, 0x1C
        "colorscale": [[0, "#94400F"]],
        "colorbar": {"title": {"text": "role:lhp"}},
    }
    assert resolve(figure, "dark")["data"][0]["marker"]["color"][0] == "#56B4E9"
    assert figure["data"][0]["fillcolor"] == "role:ink/0.5"


def test_pages_get_every_role_in_both_themes() -> None:
    light, dark, chosen_light, chosen_dark = css().splitlines()
    assert dark.startswith("@media (prefers-color-scheme:dark)")
    assert chosen_light.startswith(':root[data-theme="light"]')
    for text, theme in ((light, 0), (dark, 1), (chosen_light, 0), (chosen_dark, 1)):
        found = dict(re.findall(r"--([a-z0-9-]+):(#[0-9A-F]{6});", text))
        assert found == {role: colors[theme] for role, colors in PALETTE.items()}
