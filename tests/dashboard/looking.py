"""A browser that looks at the pages of a service; the test plays the service's worker."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from profiler_service.plan.spec import SweepState
from profiler_service.processes.serve import upgrade_database
from profiler_service.settings import Settings
from profiler_service.storage.store import Store, Sweep
from tests.api.conftest import DTYPES, HOST, Worker
from tests.api.curves import PLATFORM, PROTOCOL
from tests.dashboard.run_files import write_examples
from tests.plots.browser import BROWSER
from tests.processes.fake_worker import wait_until
from tests.processes.test_serve import read_greeting

DESKTOP = {"width": 1440, "height": 900}


@pytest.fixture(scope="module")  # its event loop would be in the way of asynchronous tests
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # As root, which a container may be, Chromium's own sandbox doesn't start.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=BROWSER, args=arguments)
        yield browser
        browser.close()


@dataclass
class Site:
    """A running service, its worker, and a page that looks at it."""

    url: str
    worker: Worker
    page: Page
    problems: list[str]
    """What the browser complained of, and requests to other hosts."""

    @property
    def store(self) -> Store:
        return self.worker.store

    def open(self, address: str) -> None:
        self.page.goto(f"{self.url}/{address}")

    def take(self, *first: int) -> Sweep:
        """The sweep from that point on that was asked for and hasn't begun."""
        found: list[Sweep] = []

        def look() -> bool:
            queued = self.store.list_sweeps(host=HOST, state=SweepState.QUEUED).items
            found[:] = [each for each in queued if each.spec.grid.first == first]
            return bool(found)

        wait_until(look)
        return found[0]


@contextlib.contextmanager
def serving_process(path: Path) -> Iterator[tuple[str, Store]]:
    """The address of `lhp serve` without a worker on that database, and its store."""
    url = f"sqlite:///{path}"
    upgrade_database(Settings(database_url=url))
    store = Store.open(url)
    store.register_host(HOST, PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
    given = {k: v for k, v in os.environ.items() if not k.startswith("LHP_")}
    given |= {"LHP_DATABASE_URL": url, "LHP_HOST": HOST, "LHP_PRESENCE_S": "3600"}
    given["LHP_RUNS"] = str(write_examples(path.parent / "runs"))
    program = [sys.executable, "-m", "profiler_service.cli", "serve", "--port", "0", "--no-worker"]
    pipe = subprocess.PIPE
    with subprocess.Popen(program, stdout=pipe, stderr=pipe, text=True, env=given) as process:
        try:
            yield read_greeting(process)[0], store
        finally:
            process.kill()
            store.close()


@contextlib.contextmanager
def looking(browser: Browser, url: str, store: Store) -> Iterator[Site]:
    """A new window on that service."""
    context = browser.new_context(viewport=DESKTOP)  # type: ignore[arg-type]
    page = context.new_page()
    problems: list[str] = []

    def note_message(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            problems.append(message.text)

    def note_request(request: Request) -> None:
        if not request.url.startswith((url, "data:", "blob:")):
            problems.append(f"asked {request.url}")

    page.on("console", note_message)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", note_request)
    yield Site(url=url, worker=Worker(store), page=page, problems=problems)
    context.close()


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, Store]]:
    """One service for all tests that leave it as others need it."""
    with serving_process(tmp_path_factory.mktemp("shared") / "lhp.sqlite") as served:
        yield served


@pytest.fixture
def site(browser: Browser, shared: tuple[str, Store]) -> Iterator[Site]:
    with looking(browser, *shared) as site:
        yield site


@pytest.fixture
def own_site(browser: Browser, tmp_path: Path) -> Iterator[Site]:
    """A service of the test's own."""
    with serving_process(tmp_path / "lhp.sqlite") as served, looking(browser, *served) as site:
        yield site


def check_accessible(page: Page) -> None:
    """Asserts that axe-core finds no violation of WCAG 2.2 AA."""
    options: dict[str, Any] = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
    found = Axe().run(page, options=options)
    assert found.violations_count == 0, found.generate_report()


def check_fits(page: Page) -> None:
    """Asserts that the page has no sideways scrolling."""
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, f"{page.url} is {wide} px too wide"
