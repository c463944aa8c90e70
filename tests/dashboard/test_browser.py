"""The pages in a real Chromium: opened, used and looked at.

The service is a process of its own; the test plays its worker.
"""

from __future__ import annotations

import re

from playwright.sync_api import Browser, expect

from profiler_service.access.caller import Caller
from profiler_service.access.scopes import Scope
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import LINEAR, MATMUL
from profiler_service.plan.create import create_planner
from profiler_service.plan.spec import SweepSpec
from profiler_service.storage.store import HostStatus, Store
from tests.api.conftest import HOST, Worker, keep_curve
from tests.api.curves import square, stairs
from tests.api.learned import teach
from tests.dashboard.looking import (
    Site,
    browser,
    check_accessible,
    check_fits,
    own_site,
    shared,
    site,
)
from tests.dashboard.test_hosts import race
from tests.plots.browser import needs_browser
from tests.processes.fake_worker import wait_until
from tests.synthetic import SyntheticDevice
from tests.synthetic import stairs as synthetic_stairs

__all__ = ["browser", "own_site", "shared", "site"]

pytestmark = needs_browser

LINE = Grid(axes=(GridAxis(first=4, count=57),))
DARK_TOO = ("answer", "predicted", "curves", "hosts", "sweep", "wrong")
"""Pages that together use every colour."""
PHONE = {"width": 360, "height": 740}


def fill_store(store: Store) -> dict[str, str]:
    """Curves and sweeps to look at: name → address of each page."""
    plane = keep_curve(store, square(1, 48), stairs(8))
    line = keep_curve(store, LINE, stairs(4), workload=MATMUL.describe())
    packed = MATMUL.describe({"backend": "packed"})
    other = keep_curve(store, LINE, stairs(8), workload=packed)
    race(Worker(store), [0.001], days=0)
    teach(store)
    running, _ = store.create_sweep(
        SweepSpec(workload=LINEAR.describe(), mode="grid", grid=square(3, 5)), host=HOST
    )
    store.start_sweep(running.id)
    return {
        "ask": "",
        "answer": "?workload=linear&dims=5,6",
        "predicted": "?workload=linear&dims=101,203&basis=predicted",
        "unknown form": "?workload=lstm",
        "wrong": "?workload=linear&dims=5",
        "curves": "ui/curves",
        "plane": f"ui/curves/{plane}",
        "line": f"ui/curves/{line}",
        "compare": f"ui/compare?ids={line},{other}",
        "history": "ui/history",
        "canary": f"ui/history/canary?dims=5,5&host={HOST}",
        "hosts": "ui/hosts",
        "host": f"ui/hosts/{HOST}",
        "sweeps": "ui/sweeps",
        "new sweep": "ui/sweeps/new",
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
    expect(page).to_have_title(re.compile("^Use 24 × 24: .* · lhp$"))
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


def test_from_the_first_page_to_a_curve_on_screen(site: Site) -> None:
    page = site.page
    site.open("")
    page.get_by_role("link", name="Measure a curve").click()
    page.get_by_role("button", name="Measure", exact=True).click()
    sweep = site.take(256)
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^matmul.*256:320$"))
    site.worker.finish(sweep, stairs(8))
    page.get_by_role("link", name="Open the curve").click()
    expect(page.locator("[data-figure] .main-svg").first).to_be_visible()
    assert site.problems == []


def test_a_range_that_is_none_is_not_sent(site: Site) -> None:
    page = site.page
    site.open("ui/sweeps/new")
    page.get_by_label("Workload").select_option("linear")
    expect(page.get_by_label("in_features")).to_be_visible()
    page.get_by_label("out_features").fill("1,197")
    page.get_by_label("in_features").fill("5")
    page.get_by_role("button", name="Measure", exact=True).click()
    expect(page.get_by_label("out_features")).to_be_focused()  # with what is wrong beside it
    expect(page.get_by_role("button", name="Measure", exact=True)).to_be_visible()
    assert site.problems == []


def test_figures_change_their_scale_and_theme(site: Site) -> None:
    page = site.page
    pages = fill_store(site.store)
    plot = page.locator("[data-figure]")
    # A heat map is drawn in one way.
    site.open(pages["plane"])
    expect(plot.locator(".main-svg").first).to_be_visible()
    expect(page.get_by_role("button", name="Relative")).to_have_count(0)
    site.open(pages["line"])
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


def test_the_stages_of_a_race_are_drawn_while_it_goes_on(site: Site) -> None:
    page, store = site.page, site.store
    grid = Grid.window((401, 401), (50, 50))
    spec = SweepSpec(workload=LINEAR.describe(), mode="race", grid=grid, seed=3)
    sweep, _ = store.create_sweep(spec, host=HOST)
    site.open(f"ui/sweeps/{sweep.id}")
    expect(page.get_by_text("queued", exact=True)).to_be_visible()
    store.start_sweep(sweep.id)
    expect(page.get_by_text("running", exact=True)).to_be_visible()
    bars = page.locator(".race .before")
    expect(page.get_by_role("heading", name="No stage has ended yet")).to_be_visible()
    device, planner = SyntheticDevice(synthetic_stairs(grid, 16, 0.1)), create_planner(spec)
    for index in range(1000):
        if (batch := planner.next_batch()) is None:
            break
        samples = device.measure(batch)
        planner.record(samples)
        store.commit_batch(sweep.id, index, samples, planner.progress())
    # It hasn't ended, and its page wasn't loaded again.
    expect(bars.nth(3)).to_be_visible()
    expect(page.get_by_text("running", exact=True)).to_be_visible()
    check_accessible(page)
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    check_fits(page)
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


def test_on_a_phone_a_tapped_point_is_told_in_a_sheet(
    shared: tuple[str, Store], browser: Browser
) -> None:
    url, store = shared
    line = keep_curve(store, LINE, stairs(4), workload=MATMUL.describe())
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(f"{url}/ui/curves/{line}")
    expect(page.locator("[data-figure] .main-svg").first).to_be_visible()
    sheet, words = page.locator(".sheet"), page.locator(".sheet [aria-live=polite]")
    expect(sheet).to_have_count(0)
    mark = page.locator("[data-figure] .scatterlayer .point").nth(20)
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    assert box is not None
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(sheet).to_be_in_viewport()
    # What was tapped isn't below the sheet, and an arrow points to it.
    page.wait_for_function(
        "document.querySelector('[data-figure] .scatterlayer .point:nth-child(21)')"
        ".getBoundingClientRect().bottom"
        " < document.querySelector('.sheet').getBoundingClientRect().top"
    )
    expect(page.locator("[data-figure] .annotation-arrow-g")).to_have_count(1)
    check_accessible(page)
    check_fits(page)
    shown = words.text_content() or ""
    assert re.match(r"\d+", shown) and "<" not in shown
    page.get_by_role("button", name="Next").click()
    expect(words).not_to_have_text(shown)
    page.get_by_role("button", name="Previous").click()
    expect(words).to_have_text(shown)
    # Closed by the keyboard; the focus is back where the point is.
    page.get_by_role("button", name="Close").focus()
    page.keyboard.press("Escape")
    expect(words).to_be_empty()
    expect(page.locator("[data-figure]")).to_be_focused()
    expect(page.locator("[data-figure] .annotation-arrow-g")).to_have_count(0)
    context.close()


def test_a_point_that_the_keys_reach_is_told_to_screen_readers(site: Site) -> None:
    page = site.page
    line = keep_curve(site.store, LINE, stairs(4), workload=MATMUL.describe())
    site.open(f"ui/curves/{line}")
    expect(page.locator("[data-figure] .main-svg").first).to_be_visible()
    page.locator("[data-figure]").focus()
    words = page.locator(".sheet [aria-live=polite]")
    page.keyboard.press("ArrowRight")
    expect(words).to_contain_text("1.00 ms (1.00 to 1.01)")
    page.keyboard.press("End")
    expect(words).to_contain_text("60")
    # Beside a window as wide as this, the box at the point shows it.
    expect(page.get_by_role("button", name="Next")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(words).to_be_empty()
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
