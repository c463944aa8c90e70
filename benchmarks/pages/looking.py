"""Looks at pages through a real Chromium: when a chart answers, and what came over the wire.

Shares no code with the service.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from benchmarks.soak.machines import SoakError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WINDOW: Any = {"width": 1440, "height": 900}
LIMIT_MS = 60_000
MARKS = "[data-figure] .scatterlayer .point"
CELLS = "[data-figure] .heatmaplayer image"
BOX = ".hoverlayer .hovertext"
"""What plotly.js draws: marks, cells, and the box that tells of the point under the pointer."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one opening of a page took, in a browser that has nothing of it yet."""

    answered_s: float
    """Until the first byte of the page had come."""
    drawn_s: float
    """Until the chart was there."""
    interactive_s: float
    """Until a box told of the point under the pointer."""
    received_bytes: int
    """Everything on the wire, with the heads of responses."""
    told: str
    """What the box said."""


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """A Chromium of this machine. Raises SoakError if it has none."""
    found = os.environ.get("BROWSER_PATH") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise SoakError("neither Chrome nor Chromium is here: install one, or set BROWSER_PATH")
    with sync_playwright() as playwright:
        # As root, which a container may be, Chromium's own sandbox doesn't start.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


def look(browser: Browser, url: str, *, limit_s: float = 60) -> Look:
    """One look at a page with a chart, in a window without cache. Raises SoakError."""
    limit_ms = 1000 * limit_s
    context = browser.new_context(viewport=WINDOW)
    try:
        page = context.new_page()
        network = context.new_cdp_session(page)
        received: list[int] = []
        network.on(
            "Network.loadingFinished", lambda event: received.append(event["encodedDataLength"])
        )
        network.send("Network.enable")
        begun_s = time.perf_counter()
        page.goto(url, wait_until="commit", timeout=limit_ms)
        answered_s = time.perf_counter() - begun_s
        page.locator(f"{MARKS}, {CELLS}").first.wait_for(state="attached", timeout=limit_ms)
        drawn_s = time.perf_counter() - begun_s
        told = _point_at_the_middle(page, limit_ms)
        interactive_s = time.perf_counter() - begun_s
        page.wait_for_load_state("networkidle", timeout=limit_ms)
    except PlaywrightError as error:
        raise SoakError(f"{url} has no chart that answers: {error}") from error
    finally:
        context.close()
    return Look(
        answered_s=answered_s,
        drawn_s=drawn_s,
        interactive_s=interactive_s,
        received_bytes=round(sum(received)),
        told=told,
    )


def _point_at_the_middle(page: Page, limit_ms: float) -> str:
    """What the box says of the middle mark, or of the cell in the middle."""
    marks, cells = page.locator(MARKS), page.locator(CELLS)
    target = cells.first if cells.count() else marks.nth(marks.count() // 2)
    place = target.bounding_box(timeout=limit_ms)
    if place is None:
        raise SoakError("the chart has no middle")
    x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    page.mouse.move(x - 2, y - 2)
    page.mouse.move(x, y)
    box = page.locator(BOX).first
    box.wait_for(state="visible", timeout=limit_ms)
    return box.text_content() or ""


@contextlib.contextmanager
def open_pages(browser: Browser, urls: Sequence[str]) -> Iterator[None]:
    """All these pages, each in a tab of its own, open until the context ends. Raises SoakError."""
    context = browser.new_context(viewport=WINDOW)
    try:
        for url in urls:
            # Pages with a stream never end loading: their content is enough.
            reply = context.new_page().goto(url, wait_until="load", timeout=LIMIT_MS)
            if reply is None or not reply.ok:
                raise SoakError(f"{url} doesn't open: {None if reply is None else reply.status}")
        yield
    except PlaywrightError as error:
        raise SoakError(f"the pages don't open: {error}") from error
    finally:
        context.close()
