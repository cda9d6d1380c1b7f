"""The page at the window sizes it is made for: everything important is visible, large and clear."""

import os
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Page, ViewportSize, expect

from beaconfire import demo
from beaconfire.api import call
from tests.browser.conftest import LAPTOP, NO_PAUSES, PHONE, Table

IMAGES = Path(__file__).parents[2] / "docs" / "images"
TABLET: ViewportSize = {"width": 800, "height": 600}
SIZES = pytest.mark.parametrize("viewport", [LAPTOP, TABLET, PHONE], ids=["laptop", "tablet", "phone"])
SCHEMES = pytest.mark.parametrize("scheme", ["light", "dark"])
WIDTHS = pytest.mark.parametrize("viewport", [LAPTOP, PHONE], ids=["laptop", "phone"])


@WIDTHS
async def test_campaign_page_fits_the_window_and_its_controls_are_large_enough_for_a_thumb(
    table: Table, viewport: ViewportSize, request: pytest.FixtureRequest
) -> None:
    owner, editor = await table.seat("Owner", viewport=viewport), await table.seat("Editor")
    await editor.page.get_by_role("button", name="Raise the level of Smithy").click()
    await editor.page.get_by_role("button", name="Let 1 day pass").click()
    await owner.page.get_by_role("button", name="Raise the level of Emberford").click()
    await expect(owner.page.locator(".entry-text")).to_have_count(3)

    await _picture(owner.page, request, "campaign")
    assert await _overflow(owner.page) <= 0
    assert await _small_targets(owner.page) == []


@WIDTHS
async def test_page_with_kingdoms_fits_the_window_and_its_controls_are_large_enough_for_a_thumb(
    table: Table, viewport: ViewportSize, request: pytest.FixtureRequest
) -> None:
    owner, token = await table.seat("Owner", viewport=viewport), table.token("Owner")
    saltmere = await owner.page.get_by_role("article", name="Saltmere").get_attribute("data-key")
    body = {"name": "The Kingdom of Northmarch", "description": "Cold winters, proud towns."}
    kingdom = call("POST", f"{table.campaign_url}/kingdoms", body, token=token)["kingdom"]["id"]
    call("PATCH", f"{table.campaign_url}/settlements/{saltmere}", {"kingdomId": kingdom}, token=token)
    region = owner.page.get_by_role("region", name="The Kingdom of Northmarch")
    await expect(region.get_by_role("article", name="Saltmere")).to_be_visible()
    await owner.page.reload()
    await expect(region.get_by_role("article", name="Saltmere")).to_be_visible()
    await owner.page.locator(".settlements").evaluate("(list) => list.scrollIntoView()")

    await _picture(owner.page, request, "kingdoms")
    overflow, small = await _overflow(owner.page), await _small_targets(owner.page)
    call("DELETE", f"{table.campaign_url}/kingdoms/{kingdom}", token=token)

    assert (overflow <= 0, small) == (True, [])


@WIDTHS
async def test_sign_in_page_fits_the_window(
    table: Table, viewport: ViewportSize, request: pytest.FixtureRequest
) -> None:
    window = await table.window(viewport=viewport)
    await expect(window.page.get_by_role("heading", name="Continue as")).to_be_visible()

    await _picture(window.page, request, "sign-in")
    assert await _overflow(window.page) <= 0
    assert await _small_targets(window.page) == []


@WIDTHS
async def test_longest_form_fits_the_window_or_scrolls(table: Table, viewport: ViewportSize) -> None:
    owner = await table.seat("Owner", viewport=viewport)
    await owner.page.get_by_role("button", name="Edit Emberford").click()
    box = await owner.page.get_by_role("dialog").bounding_box()

    assert box is not None
    assert box["width"] <= viewport["width"]
    assert box["height"] <= viewport["height"]


@SIZES
async def test_conflict_dialog_shows_its_reason_and_save_below_the_notice(table: Table, viewport: ViewportSize) -> None:
    owner, token = await table.seat("Owner", viewport=viewport), table.token("Owner")
    page = owner.page
    settlement = await page.get_by_role("article", name="Emberford").get_attribute("data-key")
    await page.get_by_role("button", name="Edit Emberford").click()
    population = int(await page.get_by_role("dialog").get_by_label("Population").input_value()) + 1
    call("PATCH", f"{table.campaign_url}/settlements/{settlement}", {"population": population}, token=token)
    await page.get_by_role("dialog").get_by_label("Population").fill("99")
    await page.get_by_role("dialog").get_by_role("button", name="Save").click()

    alert = page.get_by_role("dialog").get_by_role("alert")
    await expect(alert).to_contain_text("This was changed in the meantime")
    await expect(page.locator(".beaconfire-toast")).to_contain_text("Your change to Emberford was undone.")
    assert await _is_in_sight(page, "dialog [role=alert]")
    assert await _is_in_sight(page, "dialog button[type=submit]")
    assert await _is_in_sight(page, ".beaconfire-toast")
    await page.get_by_role("button", name="Dismiss").click()
    await expect(page.locator(".beaconfire-toast")).to_have_count(0)
    await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    await expect(page.locator("body > .beaconfire-toasts")).to_be_attached()


@SIZES
async def test_reason_for_a_refused_sign_in_is_visible_beside_the_button(table: Table, viewport: ViewportSize) -> None:
    window = await table.window(viewport=viewport)
    await window.page.get_by_label("E-mail").fill("owner@demo.example")
    await window.page.get_by_label("Password").fill("not this one")
    await window.page.get_by_role("button", name="Sign in", exact=True).click()

    await expect(window.page.get_by_role("alert")).to_have_text("Unknown e-mail address or wrong password.")
    assert await _is_in_sight(window.page, "[role=alert]")


@SCHEMES
async def test_controls_have_borders_with_a_contrast_of_at_least_3_to_1(
    table: Table, scheme: Literal["light", "dark"]
) -> None:
    """WCAG 1.4.11, on the page, in a form and in the list."""
    owner = await table.seat("Owner")
    page = owner.page
    await page.emulate_media(color_scheme=scheme)
    faint = await page.evaluate(FAINT)
    await page.get_by_role("button", name="Edit Emberford").click()
    faint += await page.evaluate(FAINT)
    await page.get_by_role("button", name="Cancel").click()
    await page.get_by_role("link", name="Campaigns").click()
    await expect(page.get_by_role("link", name=demo.campaign.CAMPAIGN)).to_be_visible()
    faint += await page.evaluate(FAINT)
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Continue as")).to_be_visible()
    faint += await page.evaluate(FAINT)

    assert faint == []


@WIDTHS
async def test_notice_buttons_are_large_enough_for_a_thumb_and_notices_do_not_overflow(
    table: Table, viewport: ViewportSize
) -> None:
    viewer = await table.seat("Viewer", viewport=viewport, script=NO_PAUSES)
    gateway = table.services.gateways[0]
    gateway.kill()
    await expect(viewer.page.locator("#connection")).to_contain_text("max retries reached")
    small = await _small_targets(viewer.page)
    overflow = await _overflow(viewer.page)
    gateway.start()
    await viewer.page.evaluate("dispatchEvent(new Event('focus'))")  # the user returns to the window
    await expect(viewer.page.locator("#connection")).to_contain_text("Connected")

    assert (small, overflow <= 0) == ([], True)


async def _picture(page: Page, request: pytest.FixtureRequest, name: str) -> None:
    if os.environ.get("BEACONFIRE_SCREENSHOTS") == "1":
        IMAGES.mkdir(parents=True, exist_ok=True)
        await page.screenshot(path=IMAGES / f"{name}-{request.node.callspec.id}.png")


async def _overflow(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    return int(await page.evaluate("document.documentElement.scrollWidth - innerWidth"))


async def _small_targets(page: Page) -> list[str]:
    """Return controls that are smaller than a thumb needs (44 pixels, WCAG 2.5.5). Links within text are exempt."""
    return list(await page.evaluate(SMALL))


async def _is_in_sight(page: Page, selector: str) -> bool:
    """Whether the middle of an element is on the screen, and nothing lies over it."""
    return bool(await page.evaluate(IN_SIGHT, selector))


SMALL = """[...document.querySelectorAll("button, select, input, textarea, a[href]")]
    .filter((one) => one.checkVisibility() && !one.closest("p, .skip"))
    .map((one) => [one, one.getBoundingClientRect()])
    .filter(([, { width, height }]) => width < 44 || height < 44)
    .map(([one, { width, height }]) => `${one.outerHTML.slice(0, 100)}: ${width} x ${height}`)"""
IN_SIGHT = """(selector) => {
    const element = document.querySelector(selector);
    const { left, top, width, height } = element.getBoundingClientRect();
    const isWhole = top >= 0 && left >= 0 && top + height <= innerHeight && left + width <= innerWidth;
    return isWhole && element.contains(document.elementFromPoint(left + width / 2, top + height / 2));
}"""
FAINT = """() => {
    const rgb = (color) => color.match(/[\\d.]+/g).map(Number);
    const light = ([red, green, blue]) => {
        const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        const [r, g, b] = [red, green, blue].map((each) => linear(each / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (element) => {
        for (let one = element; one; one = one.parentElement) {
            const color = rgb(getComputedStyle(one).backgroundColor);
            if (color.length === 3) return color;
        }
        return [255, 255, 255];
    };
    const faint = [];
    for (const element of document.querySelectorAll("button, select, input, textarea, a.button, a.card, .step .icon")) {
        const { borderTopColor, borderTopWidth } = getComputedStyle(element);
        const border = rgb(borderTopColor);
        if (!element.checkVisibility() || borderTopWidth === "0px" || border[3] === 0) continue;
        const [dark, bright] = [light(border), light(ground(element.parentElement))].sort((one, other) => one - other);
        const contrast = (bright + 0.05) / (dark + 0.05);
        if (contrast < 3) faint.push(`${element.outerHTML.slice(0, 80)}: ${contrast.toFixed(2)}`);
    }
    return faint;
}"""
