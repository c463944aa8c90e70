"""Files: pages that need no network, pictures by a browser, and what can't be written."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from profiler_service.errors import InvalidRequestError, LhpError
from profiler_service.plots.curve import curve_figure
from profiler_service.plots.files import dump, find_plotly_script, render_html, save_plot
from profiler_service.wire import CurveDetail
from tests.cli.stub import CURVE, PLATFORM, RACE, RACED
from tests.plots.browser import needs_browser, open_page
from tests.plots.reading import PLANE


def test_a_page_holds_the_library_and_the_data(tmp_path: Path) -> None:
    path = tmp_path / "curve.html"
    save_plot(CURVE, path, platform=PLATFORM)
    page = path.read_text()
    assert find_plotly_script().read_text() in page
    assert re.findall(r"<(?:script|link)[^>]*\b(?:src|href)=", page) == []
    assert "<h1>Two of five sizes are slower than a larger one</h1>" in page
    text = page.split('<script type="application/json" id="figures">')[1].split("</script>")[0]
    assert json.loads(text) == [curve_figure(CURVE, platform=PLATFORM)]


def test_figures_cant_end_the_script_they_stand_in() -> None:
    text = dump(["</script><!--", "\u2028&"])
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == ["</script><!--", "\u2028&"]


def test_neither_figures_nor_pages_import_plotly() -> None:
    # Its import takes about as long as everything else together.
    program = (
        "import sys\n"
        "from profiler_service.plots import curve, files\n"
        "from tests.cli.stub import CURVE\n"
        "files.render_html([curve.curve_figure(CURVE)])\n"
        "sys.exit(bool({'plotly', 'matplotlib', 'kaleido'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@needs_browser
@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_browser_prints_pictures_without_a_network(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"race.{ending}"
    save_plot(RACED, path, platform=PLATFORM, race=RACE)
    content = path.read_bytes()
    if ending == "png":
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        # Width and height, big-endian, are the first fields of the first chunk.
        height = curve_figure(RACED, race=RACE)["layout"]["height"]
        assert struct.unpack(">II", content[16:24]) == (1500, int(1.5 * height))
    elif ending == "svg":
        # Resolved colours, and the title as text.
        assert b"Use 259 instead of 256: 11.1 % faster" in content
        assert b"role:" not in content and b"rgb(0, 121, 91)" in content
    else:
        assert content.startswith(b"%PDF")


PRESS = (
    "document.getElementById('figure-0').dispatchEvent(new KeyboardEvent('keydown', {key: '%s'}))"
)


def shows(text: str) -> str:
    """A script that waits until the hover box begins with the text; or is closed, without one."""
    is_so = f"text.startsWith({text!r})" if text else "text === ''"
    return (
        "new Promise(resolve => {const look = () => {"
        "const text = document.querySelector('.hoverlayer').textContent;"
        f" {is_so} ? resolve(true) : setTimeout(look, 10)}}; look()}})"
    )


@needs_browser
@pytest.mark.parametrize(
    ("curve", "first", "second"),
    [(CURVE, "256  LHP", "257 → use 259"), (PLANE, "10 × 5 → use 12 × 5", "10 × 6 → use 11 × 6")],
    ids=["one axis", "two axes"],
)
def test_a_page_is_drawn_and_used_in_a_browser_without_an_error(
    curve: CurveDetail, first: str, second: str, tmp_path: Path
) -> None:
    path = tmp_path / "curve.html"
    path.write_text(render_html([curve_figure(curve)]))
    extras = (
        "(({layout}) => layout.shapes.length + layout.annotations.length)"
        "(document.getElementById('figure-0'))"
    )
    background = "getComputedStyle(document.querySelector('.main-svg')).backgroundColor"
    values, problems = open_page(
        path,
        "lhpDrawn.then(() => document.querySelectorAll('.main-svg').length > 0)",
        extras,
        # From left to right: sizes, or cells.
        PRESS % "ArrowRight",
        shows(first),
        PRESS % "ArrowRight",
        shows(second),
        extras,
        PRESS % "Escape",
        shows(""),
        extras,
        background,
        "document.documentElement.dataset.theme = 'dark'; lhpDrawn.then(() => lhpSettled())",
        background,
        "document.querySelector('.gtitle') === null",
    )
    assert problems == []
    is_drawn, before, _, _, _, _, pointed, _, _, after, light, _, dark, is_untitled = values
    assert is_drawn is True
    # The bin of the point is shaded, or an arrow leads to the point that dominates it.
    assert (pointed, after) == (before + 1, before)
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(22, 25, 31)")
    assert is_untitled is True  # the page says it


def test_without_a_browser_the_hint_names_the_ending_that_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "none"))
    with pytest.raises(LhpError, match="no browser could print the picture") as caught:
        save_plot(CURVE, tmp_path / "curve.png")
    assert "-o FILE.html" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_what_cant_be_written_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="gif"):
        save_plot(CURVE, tmp_path / "curve.gif")
    with pytest.raises(LhpError, match="No such file or directory") as caught:
        save_plot(CURVE, tmp_path / "missing" / "curve.html")
    assert caught.value.hint
