"""The page at the window sizes it is made for: everything important is visible, large and clear."""

from typing import Literal

import pytest
from playwright.async_api import ViewportSize, expect

from beaconfire import demo
from beaconfire.api import call
from tests.browser.conftest import LAPTOP, NO_PAUSES, PHONE, Table
from tests.browser.looks import FAINT, WIDTHS, is_in_sight, overflow_of, picture, small_targets

TABLET: ViewportSize = {"width": 800, "height": 600}
SIZES = pytest.mark.parametrize("viewport", [LAPTOP, TABLET, PHONE], ids=["laptop", "tablet", "phone"])
SCHEMES = pytest.mark.parametrize("scheme", ["light", "dark"])


@WIDTHS
async def test_campaign_page_fits_the_window_and_its_controls_are_large_enough_for_a_thumb(
    table: Table, viewport: ViewportSize, request: pytest.FixtureRequest
) -> None:
    owner, editor = await table.seat("Owner", viewport=viewport), await table.seat("Editor")
    await editor.page.get_by_role("button", name="Raise the level of Smithy").click()
    await editor.page.get_by_role("button", name="Let 1 day pass").click()
    await owner.page.get_by_role("button", name="Raise the level of Emberford").click()
    await expect(owner.page.locator(".entry-text")).to_have_count(3)

    await picture(owner.page, request, "campaign")
    assert await overflow_of(owner.page) <= 0
    assert await small_targets(owner.page) == []


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

    await picture(owner.page, request, "kingdoms")
    overflow, small = await overflow_of(owner.page), await small_targets(owner.page)
    call("DELETE", f"{table.campaign_url}/kingdoms/{kingdom}", token=token)

    assert (overflow <= 0, small) == (True, [])


@WIDTHS
async def test_sign_in_page_fits_the_window(
    table: Table, viewport: ViewportSize, request: pytest.FixtureRequest
) -> None:
    window = await table.window(viewport=viewport)
    await expect(window.page.get_by_role("heading", name="Continue as")).to_be_visible()

    await picture(window.page, request, "sign-in")
    assert await overflow_of(window.page) <= 0
    assert await small_targets(window.page) == []


@WIDTHS
async def test_longest_form_fits_the_window_or_scrolls(table: Table, viewport: ViewportSize) -> None:
    owner = await table.seat("Owner", viewport=viewport)
    await owner.page.get_by_role("button", name="Edit Emberford").click()
    box = await owner.page.get_by_role("dialog").bounding_box()

    assert box is not None
    assert box["width"] <= viewport["width"]
    assert box["height"] <= viewport["height"]


@SIZES
async def test_conflict_dialog_shows_both_values_and_save_on_the_screen(table: Table, viewport: ViewportSize) -> None:
    owner, token = await table.seat("Owner", viewport=viewport), table.token("Owner")
    page = owner.page
    settlement = await page.get_by_role("article", name="Emberford").get_attribute("data-key")
    await page.get_by_role("button", name="Edit Emberford").click()
    population = int(await page.get_by_role("dialog").get_by_label("Population").input_value()) + 1
    call("PATCH", f"{table.campaign_url}/settlements/{settlement}", {"population": population}, token=token)
    await page.get_by_role("dialog").get_by_label("Population").fill(str(population + 1))
    await page.get_by_role("dialog").get_by_role("button", name="Save").click()

    await expect(page.get_by_role("dialog")).to_contain_text("Another user changed the same.")
    assert await is_in_sight(page, "dialog .theirs")
    assert await is_in_sight(page, "dialog .mine")
    assert await is_in_sight(page, "dialog button[type=submit]")
    await page.get_by_role("dialog").get_by_role("button", name="Save").click()
    await expect(page.locator("body > .beaconfire-toasts")).to_be_attached()


@SIZES
async def test_reason_for_a_refused_sign_in_is_visible_beside_the_button(table: Table, viewport: ViewportSize) -> None:
    window = await table.window(viewport=viewport)
    await window.page.get_by_label("E-mail").fill("owner@demo.example")
    await window.page.get_by_label("Password").fill("not this one")
    await window.page.get_by_role("button", name="Sign in", exact=True).click()

    await expect(window.page.get_by_role("alert")).to_have_text("Unknown e-mail address or wrong password.")
    assert await is_in_sight(window.page, "[role=alert]")


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
    """The indicator covers nothing, however long the connection is lost."""
    viewer = await table.seat("Viewer", viewport=viewport, script=NO_PAUSES)
    gateway = table.services.gateways[0]
    gateway.kill()
    await expect(viewer.page.locator("#connection")).to_contain_text("max retries reached")
    small = await small_targets(viewer.page)
    overflow, is_clear = await overflow_of(viewer.page), await is_in_sight(viewer.page, ".back")
    gateway.start()
    await viewer.page.evaluate("dispatchEvent(new Event('focus'))")  # the user returns to the window
    await expect(viewer.page.locator("#connection")).to_contain_text("Connected")

    assert (small, overflow <= 0, is_clear) == ([], True, True)
