"""Every view of the demo's pages meets WCAG 2.2 AA, as far as axe-core and measurements can tell."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Browser, Page, Route, ViewportSize, expect

from beaconfire import demo
from beaconfire.api import call
from beaconfire.local_services import Plan, Services
from tests.browser.conftest import PHONE, Table, Window
from tests.browser.looks import FAINT, WIDTHS, is_in_sight, overflow_of, picture, small_targets
from tests.forked import all_running
from tests.javascript import install_from_lock

HERE = Path(__file__).parent
CHECK = """async () => {
    const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];
    const { violations } = await axe.run(document, { runOnly: tags, resultTypes: ["violations"] });
    const words = ({ target, any }) => `${target} ${any[0]?.message ?? ""}`;
    return violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${words(node)}`));
}"""
DAY: tuple[Literal["light"], ...] = ("light",)
NIGHT_AND_DAY: tuple[Literal["light", "dark"], ...] = ("dark", "light")
# Where the keyboard is: the thing that the focus belongs to, and the control's own name.
FOCUSED = """(() => {
    const { activeElement: one } = document;
    const name = one.getAttribute("aria-label") ?? one.innerText.trim();
    return [one.closest("[data-key]")?.dataset.key ?? "", name];
})()"""
# The edges of the columns, first of what is shown while the page is loaded, and then of the page.
EDGES = """(selector) => [...document.querySelectorAll(selector)].map((one) => {
    const { left, top, width } = one.getBoundingClientRect();
    return [left, top, width].map(Math.round);
})"""
MOVING = "document.getAnimations().filter(({ playState }) => playState === 'running').length"


@pytest.fixture(name="demo_services", scope="module")
def _demo_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    people = [person.sign_in() for person in demo.PEOPLE]
    applications = ["campaign", "workspace", "tracker"]
    plan = Plan(tmp_path_factory.mktemp("everyone"), gateways=1, people=people, applications=applications)
    with all_running(plan) as whole:
        yield whole


@pytest.fixture(name="axe", scope="session")
def _axe() -> str:
    install_from_lock(HERE)
    return (HERE / "node_modules" / "axe-core" / "axe.min.js").read_text()


@pytest.fixture(name="everyone")
async def _everyone(demo_services: Services, chromium: Browser) -> Table:
    """The demo with all its applications."""
    roots = dict(demo.seed_all(demo_services))
    return Table(demo_services, roots["campaign"], chromium)


class Inspection:
    """What is wrong in the views that a window has shown."""

    def __init__(self, page: Page, axe: str, viewport: ViewportSize) -> None:
        self.page = page
        self.found: list[str] = []
        self._axe = axe
        self._viewport = viewport

    async def look(self, view: str) -> None:
        """Check what is shown now: on a laptop by day and at night, on a phone also the size of what is touched."""
        if not await self.page.evaluate("'axe' in window"):
            await self.page.evaluate(self._axe)
        for scheme in DAY if self._viewport == PHONE else NIGHT_AND_DAY:
            await self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            self._note(view, scheme, [*await self.page.evaluate(CHECK), *await self.page.evaluate(FAINT)])
        if self._viewport == PHONE:
            self._note(view, "small", await small_targets(self.page))
        if await overflow_of(self.page) > 0:
            self._note(view, "too wide", [str(await overflow_of(self.page))])
        if await self.page.evaluate(MOVING):
            self._note(view, "moves", [""])

    def _note(self, view: str, where: str, troubles: list[str]) -> None:
        self.found += [f"{view}, {where}: {one}" for one in troubles]


Look = Callable[[str], Awaitable[None]]


@WIDTHS
async def test_every_view_and_dialog_is_accessible_in_light_and_dark(
    everyone: Table, axe: str, viewport: ViewportSize, request: pytest.FixtureRequest
) -> None:
    window = await everyone.window(viewport=viewport)
    inspection = Inspection(window.page, axe, viewport)
    page, look = window.page, inspection.look
    await expect(page.get_by_role("heading", name="Continue as")).to_be_visible()
    await look("sign in")
    await window.sign_in("Owner")

    await _campaign(everyone, window, look, request)
    await page.goto(f"{everyone.url}workspace/")
    await _workspace(page, look)
    await page.goto(f"{everyone.url}tracker/")
    await _tracker(page, look)

    assert inspection.found == []


async def test_keyboard_keeps_its_place_when_another_user_changes_the_page_and_after_a_dialog(everyone: Table) -> None:
    owner, token = await everyone.seat("Owner"), everyone.token("Editor")
    page, url = owner.page, f"{everyone.campaign_url}/settlements"
    await page.reload()
    await expect(page.locator(".present-user").first).to_be_visible()
    order = []
    for _ in range(9):
        await page.keyboard.press("Tab")
        order.append((await page.evaluate(FOCUSED))[1])
    made = [
        call("POST", url, {"name": name}, token=token)["settlement"]["id"] for name in ("Ashen", "Birchen", "Cedarn")
    ]
    for each in made:
        await expect(page.locator(f"[data-key='{each}']")).to_be_visible()
    edit = page.get_by_role("button", name="Edit Birchen")
    dialogs = page.locator("dialog")  # a closed one stays in the document until it has given the focus back
    await edit.focus()
    kept = []

    async def note() -> None:
        kept.append(await page.evaluate(FOCUSED))

    call("DELETE", f"{url}/{made[0]}", token=token)  # the row before
    await expect(page.get_by_role("article", name="Ashen")).to_have_count(0)
    await note()
    kingdom = call("POST", f"{everyone.campaign_url}/kingdoms", {"name": "Woods"}, token=token)["kingdom"]["id"]
    call("PATCH", f"{url}/{made[1]}", {"kingdomId": kingdom}, token=token)  # moves to another list
    await expect(page.get_by_role("region", name="Woods").get_by_role("article", name="Birchen")).to_be_visible()
    await note()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog").get_by_label("Name", exact=True)).to_be_focused()
    call("PATCH", f"{url}/{made[1]}", {"kingdomId": None}, token=token)  # the button that opened the dialog is replaced
    await expect(page.get_by_role("region", name="Woods").get_by_role("article", name="Birchen")).to_have_count(0)
    await page.keyboard.press("Escape")
    await expect(dialogs).to_have_count(0)
    await note()
    await page.get_by_role("button", name="Delete Birchen").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").focus()
    await page.keyboard.press("Enter")  # the row is gone: its neighbour has the focus
    await expect(page.get_by_role("article", name="Birchen")).to_have_count(0)
    await expect(dialogs).to_have_count(0)
    after = (await page.evaluate(FOCUSED))[0]
    for path in (f"settlements/{made[2]}", f"kingdoms/{kingdom}"):
        call("DELETE", f"{everyone.campaign_url}/{path}", token=token)

    names = ["Skip to the content", "Beaconfire", "Campaign", "Workspace", "Tracker", "Connection details", "Sign out"]
    assert order == [*names, "Campaigns", "Edit the campaign"]
    assert kept == [[made[1], "Edit Birchen"]] * 3
    assert after == made[2]


@pytest.mark.parametrize("application", ["campaign", "workspace", "tracker"])
async def test_page_that_is_loaded_shows_where_its_content_will_be_and_says_that_it_is_busy(
    everyone: Table, application: str, demo_services: Services
) -> None:
    roots = dict(demo.seed_all(demo_services))
    window, answer = await everyone.window(), asyncio.Event()
    page = window.page
    await window.sign_in("Owner")
    await expect(page.locator("[aria-busy=true]")).to_have_count(0)

    async def hold(route: Route) -> None:
        await answer.wait()
        await route.continue_()

    await page.route(f"**/{roots[application]}", hold)
    word = "campaign" if application == "campaign" else "workspace"
    await page.goto(f"{everyone.url}{application}/#/{word}/{roots[application]}")
    await expect(page.locator(".skeleton[data-key]").get_by_role("status")).to_have_text("Loading…")
    await expect(page.locator("main [aria-busy=true]")).to_have_count(1)
    columns = ".board-bones .bones" if application == "tracker" else ".columns > .column"
    before = await page.evaluate(EDGES, columns)
    answer.set()

    await expect(page.locator(".present-user").first).to_be_visible()
    await expect(page.locator(".skeleton")).to_have_count(0)
    await expect(page.locator("[aria-busy=true]")).to_have_count(0)
    after = await page.evaluate(EDGES, ".board > section" if application == "tracker" else columns)
    moved = [
        max(abs(one - other) for one, other in zip(old, new, strict=True))
        for old, new in zip(before, after, strict=True)
    ]
    assert max(moved) <= 8, (before, after)


async def _campaign(everyone: Table, window: Window, look: Look, request: pytest.FixtureRequest) -> None:
    page, dialog = window.page, window.page.get_by_role("dialog")
    await expect(page.get_by_role("link", name=demo.campaign.CAMPAIGN)).to_be_visible()
    await look("campaigns")
    await window.open_campaign()
    await page.get_by_role("button", name="Raise the level of Smithy").click()
    await expect(page.locator(".entries .change")).to_be_visible()
    await look("campaign")
    await page.get_by_role("button", name="Delete Saltmere").click()
    await look("question")
    await dialog.get_by_role("button", name="Cancel").click()
    settlement = await page.get_by_role("article", name="Emberford").get_attribute("data-key")
    await page.get_by_role("button", name="Edit Emberford").click()
    await look("form")
    url, token = f"{everyone.campaign_url}/settlements/{settlement}", everyone.token("Editor")
    population = int(await dialog.get_by_label("Population").input_value())
    call("PATCH", url, {"population": population + 1}, token=token)
    await dialog.get_by_label("Population").fill(str(population + 2))
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog.locator(".conflict")).to_be_visible()
    await look("conflict")
    await picture(page, request, "conflict")
    await dialog.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("article", name="Emberford")).not_to_have_attribute("aria-busy", "true")
    await window.context.set_offline(True)
    await expect(page.locator("#connection")).to_contain_text("Reconnecting")
    await page.get_by_role("button", name="Raise the level of Smithy").click()
    await expect(page.locator(".beaconfire-toast")).to_have_count(2)
    await look("offline")
    call("PATCH", url, {"population": population}, token=token)
    await window.context.set_offline(False)
    await expect(page.get_by_role("region", name="While you were away: 1 change")).to_contain_text("population")
    await look("away")
    await page.evaluate("scrollTo(0, 0)")
    await picture(page, request, "away")


async def _workspace(page: Page, look: Look) -> None:
    await expect(page.get_by_role("link", name=demo.workspace.WORKSPACE)).to_be_visible()
    await page.evaluate("location.hash = '#/workspace/unknown'")
    await expect(page.get_by_role("heading", name="You cannot open this workspace")).to_be_visible()
    await page.get_by_label("Connection details").click()
    assert await is_in_sight(page, ".freshness-panel")
    await look("refused, and the connection's details")
    await page.keyboard.press("Escape")
    await page.get_by_role("link", name="My workspaces").click()
    await page.get_by_role("link", name=demo.workspace.WORKSPACE).click()
    await expect(page.locator(".present-user")).to_be_visible()
    await page.get_by_role("button", name="Notifications").click()
    await page.get_by_role("button", name="Request").click()
    await look("request")
    await page.get_by_role("dialog").get_by_label("What should be approved?").fill("Polish the lamps")
    await page.get_by_role("dialog").get_by_role("button", name="Request").click()
    await page.get_by_role("button", name="Approve Polish the lamps").click()
    await expect(page.locator(".settled").first).not_to_have_attribute("aria-busy", "true")
    await look("workspace")


async def _tracker(page: Page, look: Look) -> None:
    await page.get_by_role("link", name=demo.tracker.WORKSPACE).click()
    await expect(page.locator(".present-user")).to_be_visible()
    await look("board")
    await page.get_by_role("button", name="New issue").click()
    await look("new issue")
    await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    for part in ("Plans", "Activity", "Members"):
        await page.get_by_role("link", name=part, exact=True).click()
        await expect(page.locator(".tabs [aria-current=page]")).to_have_text(part)
        await look(part)
    await page.get_by_role("link", name="Board").click()
    await page.get_by_role("link", name="Write a book of all signals").click()
    await expect(page.locator(".comment")).to_be_visible()
    await look("issue")
