"""What pages in a real Chromium do if something is away: the database, a curve, or the root."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Browser, expect

from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import MATMUL
from tests.api.conftest import HOST, keep_curve
from tests.api.curves import stairs
from tests.dashboard.looking import (
    Site,
    browser,
    check_accessible,
    looking,
    own_site,
    shared,
    site,
)
from tests.dashboard.prefix import offered_below
from tests.plots.browser import needs_browser

__all__ = ["browser", "own_site", "shared", "site"]

pytestmark = needs_browser

LINE = Grid(axes=(GridAxis(first=4, count=57),))


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


def test_a_page_that_renews_nothing_says_so_too(own_site: Site, tmp_path: Path) -> None:
    site, page, path = own_site, own_site.page, tmp_path / "lhp.sqlite"
    banner = page.locator("#away p")
    site.open("?workload=linear")
    page.get_by_label("out_features").fill("21")
    away = path.rename(tmp_path / "elsewhere.sqlite")
    expect(banner).to_contain_text("The database is away", timeout=30_000)
    away.rename(path)
    expect(banner).to_have_count(0, timeout=30_000)
    # It wasn't loaded again: what was typed is still there.
    expect(page.get_by_label("out_features")).to_have_value("21")
    assert site.problems == []


def test_a_question_is_measured_once_the_database_is_back(own_site: Site, tmp_path: Path) -> None:
    site, page, path = own_site, own_site.page, tmp_path / "lhp.sqlite"
    site.open("?workload=linear&dims=29,30")
    sweep = site.take(29, 30)
    away = path.rename(tmp_path / "elsewhere.sqlite")
    expect(page.locator("#away p")).to_contain_text("The database is away", timeout=30_000)
    away.rename(path)
    expect(page.locator("#away p")).to_have_count(0, timeout=30_000)
    site.worker.finish(sweep, stairs(8))
    expect(page.get_by_role("heading", level=1)).to_contain_text("Use 32 × 32", timeout=30_000)


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
