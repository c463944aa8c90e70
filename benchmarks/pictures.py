"""Takes the pictures of the pages that the documentation shows: `make pictures`.

    python -m benchmarks.pictures

Starts the service with a worker on a database of its own, asks and sweeps what the pictures show,
opens the pages in Chromium, and writes PNG files. Everything on them was measured by this machine
just before, or earlier, if the database has it already. What was measured beside other programs is
measured again, at most TRIES times.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, Page

from benchmarks.pages.looking import open_browser
from benchmarks.png import shrink
from profiler_service.client import ServiceClient
from profiler_service.wire import CurveInfo, GridAxisRange, SweepRequest

QUESTION = {"workload": "linear", "dims": "382,207", "dtype": "float16", "settle": "8"}
SIZES = GridAxisRange(first=256, last=384)
SWEEPS: tuple[Mapping[str, str], ...] = (
    {"backend": "dense", "dtype": "float16"},
    {"backend": "dense", "dtype": "float32"},
    {"backend": "packed", "dtype": "float32"},
)
"""Square products over SIZES that are measured point by point."""
BUDGET_S = 60.0
WAIT_S = 300.0
TRIES = 5
MOST_BYTES = 200_000
DESKTOP: Any = {"viewport": {"width": 1280, "height": 900}}
PHONE: Any = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}
MOST_HEIGHT = {"desktop": 1080, "phone": 1300}
"""Of a picture, in pixels of the page. What is further down is cut."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What was measured for the pictures."""

    curves: Sequence[str]
    """Ids, in the order of SWEEPS."""
    race: str
    """The id of the sweep that answered QUESTION."""

    @property
    def question(self) -> str:
        """The address of its answer."""
        return "?" + "&".join(f"{name}={value}" for name, value in QUESTION.items())


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A page in a window."""

    name: str
    address: Callable[[Shown], str]
    window: Literal["desktop", "phone"] = "desktop"
    theme: Literal["light", "dark"] = "light"
    act: Callable[[Page], None] | None = None
    """What is done before the picture is taken; then it shows the window, and not the page."""


def tap_a_point(page: Page) -> None:
    """Taps a point of the figure, in the upper half of the window."""
    mark = page.locator("[data-figure] .scatterlayer .point").nth(30)
    mark.evaluate("each => scrollBy(0, each.getBoundingClientRect().top - 300)")
    box = mark.bounding_box()
    assert box is not None, "the mark is drawn"
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.locator(".sheet.open").wait_for()


PICTURES = (
    Picture(name="ask", address=lambda shown: shown.question),
    Picture(name="ask-phone", address=lambda shown: shown.question, window="phone"),
    Picture(name="curve", address=lambda shown: f"ui/curves/{shown.curves[0]}"),
    Picture(
        name="curve-phone",
        address=lambda shown: f"ui/curves/{shown.curves[0]}",
        window="phone",
        act=tap_a_point,
    ),
    Picture(
        name="compare",
        address=lambda shown: f"ui/compare?ids={shown.curves[1]},{shown.curves[2]}",
        theme="dark",
    ),
    Picture(name="race", address=lambda shown: f"ui/sweeps/{shown.race}"),
    Picture(
        name="race-phone",
        address=lambda shown: f"ui/sweeps/{shown.race}",
        window="phone",
        theme="dark",
    ),
)


@contextlib.contextmanager
def serving(database: Path, port: int) -> Iterator[str]:
    """The address of the service with its worker, on that database."""
    database.parent.mkdir(parents=True, exist_ok=True)
    given = {name: value for name, value in os.environ.items() if not name.startswith("LHP_")}
    given |= {"LHP_DATABASE_URL": f"sqlite:///{database.resolve()}", "LHP_HOST": "myhost"}
    program = [sys.executable, "-m", "profiler_service.cli"]
    subprocess.run([*program, "db", "upgrade"], env=given, check=True)
    command = [*program, "serve", "--port", str(port)]
    with subprocess.Popen(command, env=given, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            greeting = process.stdout.readline()
            if not greeting.startswith("listening on "):
                raise SystemExit(f"the service doesn't start: is port {port} taken?")
            yield greeting.split()[2].rstrip(",")
        finally:
            process.terminate()


def measure(url: str) -> Shown:
    """What the pictures show: measured, unless the database has it."""
    with ServiceClient(url) as client:
        answer = client.ask_lhp(QUESTION, wait_s=WAIT_S)
        for _ in range(TRIES - 1):
            if not (answer.disturbed or answer.noisy):
                break
            client.ask_lhp({**QUESTION, "max_age": "0"}, wait_s=WAIT_S)
            answer = client.ask_lhp(QUESTION, wait_s=WAIT_S)  # as the page will ask
        curves = [_measure_curve(client, params) for params in SWEEPS]
        race = client.get_curve(answer.curve).sweep
        return Shown(curves=curves, race=race)


def _measure_curve(client: ServiceClient, params: Mapping[str, str]) -> str:
    """The id of its curve that was disturbed least."""
    request = SweepRequest(
        workload="matmul", params=dict(params), axes=[SIZES], mode="grid", budget=BUDGET_S
    )
    known = find_curves(client, params)
    for _ in range(TRIES - len(known)):
        if any(not each.evidence.disturbed for each in known):
            break
        client.measure(request, wait_s=WAIT_S)
        known = find_curves(client, params)
    return min(known, key=lambda each: each.evidence.others_share or 0.0).id


def find_curves(client: ServiceClient, params: Mapping[str, str]) -> list[CurveInfo]:
    """The curves of that product over SIZES, the newest first."""
    page = client.list_curves({"workload": "matmul", "mode": "grid", "limit": 100})
    wanted = [f"{name}={value}" for name, value in params.items()]
    return [
        each
        for each in page.items
        if each.axes[0].first == SIZES.first and all(one in each.workload for one in wanted)
    ]


def take(browser: Browser, url: str, shown: Shown, picture: Picture) -> bytes:
    """The PNG of a page. Raises SystemExit if it fails, or would be larger than MOST_BYTES."""
    window = PHONE if picture.window == "phone" else DESKTOP
    context = browser.new_context(color_scheme=picture.theme, **window)
    page = context.new_page()
    reply = page.goto(f"{url}/{picture.address(shown)}", wait_until="networkidle")
    if reply is None or not reply.ok:
        raise SystemExit(f"the page of {picture.name} answers {reply and reply.status}")
    for figure in page.locator("[data-figure]").all():
        figure.locator(".main-svg").first.wait_for()
    page.evaluate("typeof lhpSettled === 'function' ? lhpSettled() : true")
    if picture.act is not None:
        picture.act(page)
        content = page.screenshot()
    else:
        width = window["viewport"]["width"]
        height = int(page.evaluate("document.querySelector('main').getBoundingClientRect().bottom"))
        area = {"x": 0, "y": 0, "width": width, "height": height}
        area["height"] = min(height, MOST_HEIGHT[picture.window])
        content = page.screenshot(clip=area, full_page=True)  # type: ignore[arg-type]
    context.close()
    content = shrink(content)
    if len(content) > MOST_BYTES:
        raise SystemExit(f"{picture.name}.png would have {len(content):,} bytes: show less of it")
    return content


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures what isn't there, and writes the pictures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures", description=__doc__)
    parser.add_argument("--database", type=Path, help="where to keep what is measured")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these pictures")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        database = options.database or Path(folder) / "pictures.sqlite"
        with serving(database, options.port) as url, open_browser() as browser:
            shown = measure(url)
            for picture in PICTURES:
                if not options.names or picture.name in options.names:
                    content = take(browser, url, shown, picture)
                    (options.out / f"{picture.name}.png").write_bytes(content)
                    print(f"{picture.name}.png: {len(content):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
