"""Every view of the demo's pages meets WCAG 2.2 AA, as far as axe-core and measurements can tell."""

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Browser, Page, ViewportSize, expect

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
