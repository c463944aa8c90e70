"""A real browser without a network, for tests; they skip with the reason where there is none.

Where LHP_REQUIRE_BROWSER is set, they fail instead.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

TIMEOUT_S = 60
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = os.environ.get("BROWSER_PATH") or next(filter(None, map(shutil.which, NAMES)), None)

if BROWSER is None and "LHP_REQUIRE_BROWSER" in os.environ:
    raise RuntimeError("LHP_REQUIRE_BROWSER is set, and neither Chrome nor Chromium is here")

needs_browser = pytest.mark.skipif(BROWSER is None, reason="neither Chrome nor Chromium is here")


def open_page(page: Path, *scripts: str) -> tuple[list[Any], list[str]]:
    """The values of the scripts (promises are awaited) in that page; and its console's errors.

    Any request that leaves the page is such an error.
    """
    return asyncio.run(_open_page(page, scripts))


async def _open_page(page: Path, scripts: tuple[str, ...]) -> tuple[list[Any], list[str]]:
    import choreographer

    problems: list[str] = []

    async def note(event: Any) -> None:
        problems.append(str(event["params"]))

    async def note_request(event: Any) -> None:
        url = event["params"]["request"]["url"]
        if not url.startswith(("file:", "data:", "blob:")):
            problems.append(url)

    async def note_console(event: Any) -> None:
        if event["params"]["type"] in ("error", "warning", "assert"):
            problems.append(str(event["params"]["args"]))

    async with choreographer.Browser() as browser:
        tab = await browser.create_tab("")
        tab.subscribe("Runtime.exceptionThrown", note, repeating=True)
        tab.subscribe("Runtime.consoleAPICalled", note_console, repeating=True)
        tab.subscribe("Log.entryAdded", note, repeating=True)
        tab.subscribe("Network.requestWillBeSent", note_request, repeating=True)
        for domain in ("Runtime", "Log", "Network", "Page"):
            await tab.send_command(f"{domain}.enable")
        loaded = tab.subscribe_once("Page.loadEventFired")
        await tab.send_command("Page.navigate", params={"url": page.as_uri()})
        await asyncio.wait_for(loaded, TIMEOUT_S)
        values = []
        for script in scripts:
            command = tab.send_command(
                "Runtime.evaluate",
                params={"expression": script, "awaitPromise": True, "returnByValue": True},
            )
            answer = await asyncio.wait_for(command, TIMEOUT_S)
            result = answer["result"]
            if "exceptionDetails" in result:
                problems.append(str(result["exceptionDetails"]))
            values.append(result["result"].get("value"))
    return values, problems
