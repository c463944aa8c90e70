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
    elif ending == "pdf":
        # One page of the figure's shape; PDF has 72 points an inch, CSS 96 pixels.
        assert content.startswith(b"%PDF-") and content.rstrip().endswith(b"%%EOF")
        pages = re.findall(rb"/MediaBox \[0 0 ([0-9.]+) ([0-9.]+)\]", content)
        assert len(pages) == 1
        height = curve_figure(RACED, race=RACE)["layout"]["height"]
        assert [float(each) for each in pages[0]] == pytest.approx([750, 0.75 * height], abs=1)
    else:
        # Resolved colours, and the title as text.
        assert b"Use 259 instead of 256: 11.1 % faster" in content
        assert b"role:" not in content and b"rgb(0, 121, 91)" in content


def press(key: str, number: int) -> str:
    """A script that presses the key on the figure of that number."""
    return (
        f"document.getElementById('figure-{number}')"
        f".dispatchEvent(new KeyboardEvent('keydown', {{key: {key!r}}}))"
    )


def shows(text: str, number: int) -> str:
    """A script that waits until the hover box begins with the text; or is closed, without one."""
    is_so = f"text.startsWith({text!r})" if text else "text === ''"
    return (
        "new Promise(resolve => {const look = () => {"
        f"const text = document.querySelector('#figure-{number} .hoverlayer').textContent;"
        f" {is_so} ? resolve(true) : setTimeout(look, 10)}}; look()}})"
    )


def extras(number: int) -> str:
    """A script that counts the figure's shapes and annotations."""
    return (
        "(({layout}) => layout.shapes.length + layout.annotations.length)"
        f"(document.getElementById('figure-{number}'))"
    )


@needs_browser
def test_a_page_is_drawn_and_used_in_a_browser_without_an_error(tmp_path: Path) -> None:
    path = tmp_path / "curves.html"
    path.write_text(render_html([curve_figure(CURVE), curve_figure(PLANE)]))
    boxes = (
        ("256  LHP", "257 → use 259"),  # from left to right: sizes, or cells
        ("10 × 5 → use 12 × 5", "10 × 6 → use 11 × 6"),
    )
    background = "getComputedStyle(document.querySelector('.main-svg')).backgroundColor"
    scripts = [
        "lhpDrawn.then(() => document.querySelectorAll('.gtitle').length)",
        background,
        "document.documentElement.dataset.theme = 'dark'; lhpDrawn.then(() => lhpSettled())",
        background,
    ]
    for number, (first, second) in enumerate(boxes):
        scripts += [extras(number), press("ArrowRight", number), shows(first, number)]
        scripts += [press("ArrowRight", number), shows(second, number), extras(number)]
        scripts += [press("Escape", number), shows("", number), extras(number)]
    values, problems = open_page(path, *scripts)
    assert problems == []
    # The page itself says the first title.
    assert values[:4] == [1, "rgb(255, 255, 255)", True, "rgb(22, 25, 31)"]
    for start in (4, 13):
        before, pointed, after = values[start], values[start + 5], values[start + 8]
        # The bin of the point is shaded, or an arrow leads to the point that dominates it.
        assert (pointed, after) == (before + 1, before)


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
