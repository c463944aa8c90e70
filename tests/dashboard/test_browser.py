"""The pages in a real Chromium: opened, used and looked at.

The service is a process of its own; the test plays its worker.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    Request,
    expect,
    sync_playwright,
)

from profiler_service.access.caller import Caller
from profiler_service.access.scopes import Scope
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import LINEAR, MATMUL
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.processes.serve import upgrade_database
from profiler_service.settings import Settings
from profiler_service.storage.store import HostStatus, Store, Sweep
from tests.api.conftest import DTYPES, HOST, Worker, keep_curve
from tests.api.curves import PLATFORM, PROTOCOL, square, stairs
from tests.dashboard.prefix import offered_below
from tests.dashboard.run_files import write_examples
from tests.plots.browser import BROWSER, needs_browser
from tests.processes.fake_worker import wait_until
from tests.processes.test_serve import read_greeting

pytestmark = needs_browser

LINE = Grid(axes=(GridAxis(first=4, count=57),))
DESKTOP = {"width": 1440, "height": 900}
DARK_TOO = ("answer", "curves", "hosts", "sweep", "wrong")
"""Pages that together use every colour."""
PHONE = {"width": 360, "height": 740}


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


def fill_store(store: Store) -> dict[str, str]:
    """Curves and sweeps to look at: name → address of each page."""
    plane = keep_curve(store, square(1, 48), stairs(8))
    line = keep_curve(store, LINE, stairs(4), workload=MATMUL.describe())
    packed = MATMUL.describe({"backend": "packed"})
    other = keep_curve(store, LINE, stairs(8), workload=packed)
    running, _ = store.create_sweep(
        SweepSpec(workload=LINEAR.describe(), mode="grid", grid=square(3, 5)), host=HOST
    )
    store.start_sweep(running.id)
    return {
        "ask": "",
        "answer": "?workload=linear&dims=5,6",
        "unknown form": "?workload=lstm",
        "wrong": "?workload=linear&dims=5",
        "curves": "ui/curves",
        "plane": f"ui/curves/{plane}",
        "line": f"ui/curves/{line}",
        "compare": f"ui/compare?ids={line},{other}",
        "history": "ui/history",
        "hosts": "ui/hosts",
        "sweeps": "ui/sweeps",
        "runs": "ui/runs",
        "run": "ui/runs/sparse",
        "begun run": "ui/runs/begun",
        "sweep": f"ui/sweeps/{running.id}",
        "nothing": f"ui/curves/{'0' * 32}",
    }


def test_every_page_is_sound_and_accessible(site: Site) -> None:
    for name, address in fill_store(site.store).items():
        site.open(address)
        if site.page.locator("[data-figure]").count():
            expect(site.page.locator("[data-figure] .main-svg").first).to_be_visible()
        check_accessible(site.page)
        if name in DARK_TOO:
            site.page.emulate_media(color_scheme="dark")
            check_accessible(site.page)
            site.page.emulate_media(color_scheme="light")
        wrong = {"wrong": 422, "nothing": 404}
        expected = [f"status of {wrong[name]}"] if name in wrong else []
        found = [text for text in site.problems if not any(each in text for each in expected)]
        assert found == [], name
        site.problems.clear()


def test_every_page_fits_a_phone(site: Site) -> None:
    pages = fill_store(site.store)
    site.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    for address in pages.values():
        site.open(address)
        check_fits(site.page)


def test_a_question_is_typed_measured_and_answered(site: Site) -> None:
    page = site.page
    site.open("")
    page.get_by_label("out_features").fill("21")
    page.get_by_label("in_features").fill("22")
    page.get_by_role("button", name="Ask").click()
    sweep = site.take(21, 22)
    expect(page.get_by_role("heading", name=f"Measuring on {HOST}")).to_be_visible()
    site.worker.finish(sweep, stairs(8))
    expect(page.get_by_role("heading", level=1)).to_contain_text("Use 24 × 24")
    # The address shows the same to whoever gets it.
    answered = page.url
    page.goto("about:blank")
    page.goto(answered)
    expect(page.get_by_role("heading", level=1)).to_contain_text("Use 24 × 24")
    assert site.problems == []


def test_the_form_changes_with_the_workload_and_works_by_keyboard(site: Site) -> None:
    page = site.page
    site.open("")
    page.get_by_label("Workload").select_option("lstm")
    expect(page.get_by_label("hidden_size")).to_be_visible()
    page.get_by_label("hidden_size").focus()
    page.keyboard.type("64")
    page.keyboard.press("Tab")
    page.keyboard.type("32")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("dims=64&dims=32"))
    site.take(64, 32)


def test_figures_change_their_scale_and_theme(site: Site) -> None:
    page = site.page
    site.open(fill_store(site.store)["plane"])
    plot = page.locator("[data-figure]")
    expect(plot.locator(".main-svg").first).to_be_visible()
    page.get_by_role("button", name="Relative").click()
    expect(page.get_by_role("button", name="Relative")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert site.problems == []


def test_a_sweep_moves_on_while_it_is_watched(site: Site) -> None:
    page, store = site.page, site.store
    spec = SweepSpec(workload=LINEAR.describe(), mode="grid", grid=square(3, 7))
    sweep, _ = store.create_sweep(spec, host=HOST)
    site.open(f"ui/sweeps/{sweep.id}")
    expect(page.get_by_text("queued", exact=True)).to_be_visible()
    site.worker.finish(sweep, stairs(4))
    expect(page.get_by_role("link", name="Open the curve")).to_be_visible()
    assert site.problems == []


def test_an_operator_signs_in_and_drains_a_host(own_site: Site) -> None:
    site = own_site
    page, store = site.page, site.store
    _, token = store.create_token("ops", [Scope.ADMIN], lifetime_s=None, by=Caller())
    wait_until(lambda: page.request.get(f"{site.url}/hosts").status == 401)
    site.open("ui/hosts")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Drain").click()
    expect(page.get_by_text("draining", exact=True)).to_be_visible()
    assert store.get_host(HOST).status is HostStatus.DRAINING
    page.get_by_role("button", name=re.compile("Sign out")).click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert site.problems == []


def test_without_scripts_a_curve_is_a_table(site: Site, browser: Browser) -> None:
    pages = fill_store(site.store)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site.url}/{pages['plane']}")
    page.get_by_text("as a table").click()
    # A heading, and about 500 of 48 · 48 points: at least the 36 LHPs, and the 95 edges.
    assert page.get_by_role("row").count() > 132
    page.goto(f"{site.url}/?workload=linear&dims=5,6")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Use 8 × 8")
    context.close()


def test_while_the_database_is_away_the_page_says_so_and_comes_back(
    own_site: Site, tmp_path: Path
) -> None:
    """An embedded database that lost its file is away, too."""
    site, page, path = own_site, own_site.page, tmp_path / "lhp.sqlite"
    banner = page.locator("#away p")
    site.open("ui/sweeps")
    heading = page.get_by_role("heading", name="Nothing is being measured")
    expect(heading).to_be_visible()
    away = path.rename(tmp_path / "elsewhere.sqlite")
    # What was there stays.
    expect(banner).to_contain_text("The database is away")
    expect(heading).to_be_visible()
    check_accessible(page)
    site.open("ui/hosts")
    expect(page.get_by_role("alert")).to_contain_text("looks again by itself")
    away.rename(path)
    expect(page.get_by_role("heading", name=f"{HOST} is")).to_be_visible()
    expect(banner).to_have_count(0)
    found = [each for each in site.problems if "status of 503" not in each]
    assert found == []


def test_without_scripts_a_reload_shows_the_page_again(
    own_site: Site, browser: Browser, tmp_path: Path
) -> None:
    path = tmp_path / "lhp.sqlite"
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    away = path.rename(tmp_path / "elsewhere.sqlite")
    page.goto(f"{own_site.url}/ui/hosts")
    expect(page.get_by_role("alert")).to_contain_text("reload it")
    away.rename(path)
    page.reload()
    expect(page.get_by_role("heading", name=f"{HOST} is")).to_be_visible()
    context.close()


def test_a_curve_that_was_deleted_while_it_is_open_is_said_to_be(
    own_site: Site, tmp_path: Path
) -> None:
    site, page = own_site, own_site.page
    curve = keep_curve(site.store, LINE, stairs(4), workload=MATMUL.describe())
    site.open(f"ui/curves/{curve}")
    figure = page.locator("[data-figure] .main-svg").first
    expect(figure).to_be_visible()
    # Nothing in the service deletes curves; whoever has the database can.
    with contextlib.closing(sqlite3.connect(tmp_path / "lhp.sqlite")) as connection:
        assert connection.execute("DELETE FROM curves WHERE id = ?", [curve]).rowcount == 1
        connection.commit()
    page.get_by_role("button", name="Log").click()
    expect(page.get_by_role("alert")).to_contain_text("there is no curve")
    expect(figure).to_be_visible()
    expect(page.locator("#away p")).to_have_count(0)


def test_behind_a_proxy_that_strips_a_path_nothing_leaves_the_path(
    site: Site, browser: Browser
) -> None:
    with (
        offered_below("/tools/lhp", site.url) as url,
        looking(browser, url, site.store) as proxied,
    ):
        page = proxied.page
        proxied.open("?workload=linear&dims=29,30")
        proxied.worker.finish(proxied.take(29, 30), stairs(8))
        expect(page.get_by_role("heading", level=1)).to_contain_text("Use 32 × 32")
        expect(page.locator("[data-figure] .main-svg").first).to_be_visible()
        # The lines to paste name the path, which the service itself doesn't know.
        lines = page.locator(".again code")
        expect(lines.nth(0)).to_contain_text(f"--url {url} ")
        expect(lines.nth(1)).to_contain_text(f"{url}/lhp?")
        expect(lines.nth(2)).to_contain_text(f"ServiceClient('{url}')")
        run_lines(lines.nth(2).text_content() or "")
        page.get_by_role("link", name="Open the curve").click()
        page.wait_for_url(f"{url}/ui/curves/*")
        expect(page.locator("[data-figure] .main-svg").first).to_be_visible()
        assert proxied.problems == []


def run_lines(program: str) -> None:
    """Runs the Python lines that a page shows; they print the answer."""
    given = {k: v for k, v in os.environ.items() if not k.startswith("LHP_")}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=given
    )
    assert (done.returncode, done.stdout) == (0, "[32, 32]\n"), done.stderr
