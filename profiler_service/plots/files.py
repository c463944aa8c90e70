"""Writes charts into files: pages that work without a network, and pictures by a browser.

Pictures are printed by kaleido, which needs a Chrome or Chromium on the machine. It is given
plotly's script from the installed wheel, so that nothing is fetched.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, cast

from profiler_service.errors import InvalidRequestError, LhpError
from profiler_service.plots.curve import curve_figure
from profiler_service.plots.figure import WIDTH, Figure, Scale, View
from profiler_service.plots.palette import Theme, css, resolve
from profiler_service.wire import CurveDetail, PlatformInfo, RaceInfo

Format = Literal["png", "svg", "pdf"]

ENDINGS: Final = (".html", ".png", ".svg", ".pdf")
FIGURES_SCRIPT: Final = Path(__file__).parent / "static" / "figures.js"
"""The script that draws figures in pages, with plotly's own script before it."""
PNG_SCALE: Final = 1.5
"""Pixels of a PNG for each pixel of the layout."""
PRINT_TIMEOUT_S: Final = 90

_STYLE = """
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--second);
font:14px/20px Inter,system-ui,sans-serif}
main{max-width:1376px;margin:0 auto;padding:16px}
h1{color:var(--ink);font-size:32px;line-height:40px;font-weight:600;margin:16px 0 8px}
p{margin:0 0 16px;overflow-wrap:anywhere}
.lhp-figure{background:var(--card);border:1px solid var(--line);border-radius:10px;overflow:hidden}
@media (max-width:480px){h1{font-size:24px;line-height:32px}}
"""


def check_ending(path: Path) -> str:
    """The ending of the file's name, in small letters. Raises InvalidRequestError for another."""
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise InvalidRequestError(
            f"can't draw into {str(path)!r}",
            hint="end the file's name with .png, .svg, .pdf or .html",
        )
    return ending


def save_plot(
    curve: CurveDetail,
    path: Path,
    *,
    platform: PlatformInfo | None = None,
    race: RaceInfo | None = None,
    view: View = "latency",
    scale: Scale = "linear",
    theme: Theme = "light",
) -> None:
    """Writes the picture of `curve`, and of its `race`, to `path`: HTML, PNG, SVG or PDF.

    Raises InvalidRequestError for another ending, or a curve of more than two axes; LhpError
    if the file can't be written, or if no browser can print it.
    """
    check_ending(path)
    figure = curve_figure(curve, platform=platform, race=race, view=view, scale=scale)
    save_figure(figure, path, theme=theme)


def save_figure(figure: Figure, path: Path, *, theme: Theme = "light") -> None:
    """Writes the figure to `path`: HTML, PNG, SVG or PDF. Raises as `save_plot` does."""
    ending = check_ending(path)
    if ending == ".html":
        content = render_html([figure]).encode()
    else:
        content = render_image(figure, cast("Format", ending[1:]), theme=theme)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise LhpError(
            f"can't write {str(path)!r}: {error.strerror}", hint="choose another file with -o FILE"
        ) from error


def render_html(figures: Sequence[Figure]) -> str:
    """A page with the figures, the first one's title above. It needs no network."""
    title = figures[0]["layout"]["title"]  # its texts are escaped already
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{title['text']}</title><style>{css()}{_STYLE}</style></head><body><main>",
        f"<h1>{title['text']}</h1><p>{title['subtitle']['text']}</p>",
    ]
    for number, figure in enumerate(figures):
        name = figure["layout"]["title"]["text"].replace('"', "&quot;")
        parts.append(
            f'<div id="figure-{number}" class="lhp-figure" tabindex="0" role="img"'
            f' aria-label="{name}"></div>'
        )
    parts += [
        "</main>",
        f"<script>{find_plotly_script().read_text(encoding='utf-8')}</script>",
        f"<script>{FIGURES_SCRIPT.read_text(encoding='utf-8')}</script>",
        f'<script type="application/json" id="figures">{dump(list(figures))}</script>',
        "<script>const lhpDrawn = Promise.all(JSON.parse("
        "document.getElementById('figures').textContent).map((figure, number) =>"
        " lhpDraw(document.getElementById(`figure-${number}`), figure, {title: number > 0})));"
        "</script>",
        "</body></html>\n",
    ]
    return "\n".join(parts)


def dump(value: Any) -> str:
    """The figures as JSON that may stand in a page's script."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def render_image(
    figure: Figure,
    image_format: Format,
    *,
    theme: Theme = "light",
    width: int = WIDTH,
    height: int | None = None,
) -> bytes:
    """The figure as PNG, SVG or PDF, printed by a browser of its own: that takes seconds.

    Raises LhpError if no browser is found, or if it doesn't print.
    """
    from kaleido import calc_fig_sync

    colored = resolve(figure, theme)
    options = {
        "format": image_format,
        "width": width,
        "height": height or figure["layout"]["height"],
        "scale": PNG_SCALE if image_format == "png" else 1,
    }
    browser = {
        "plotlyjs": find_plotly_script(),
        "mathjax": False,
        "timeout": PRINT_TIMEOUT_S,
    }
    try:
        image: bytes = calc_fig_sync(colored, opts=options, kopts=browser)
    except Exception as error:  # whatever kaleido and its browser raise
        raise LhpError(
            f"no browser could print the picture: {str(error).strip() or type(error).__name__}",
            hint="install Chrome or Chromium, or set BROWSER_PATH to one; a page needs none:"
            " -o FILE.html",
        ) from error
    return image


def find_plotly_script() -> Path:
    """The file of plotly's script in its wheel.

    Raises ModuleNotFoundError if plotly isn't installed.
    """
    spec = importlib.util.find_spec("plotly")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'plotly'", name="plotly")
    return Path(spec.submodule_search_locations[0]) / "package_data" / "plotly.min.js"
