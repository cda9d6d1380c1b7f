"""The page at the two widths it is made for: nothing sticks out. BEACONFIRE_SCREENSHOTS=1 writes docs/images."""

import os
from pathlib import Path

import pytest
from playwright.async_api import Page, ViewportSize, expect

from tests.browser.conftest import LAPTOP, PHONE, Table

IMAGES = Path(__file__).parents[2] / "docs" / "images"
WIDTHS = pytest.mark.parametrize("viewport", [LAPTOP, PHONE], ids=["laptop", "phone"])


@WIDTHS
async def test_campaign_fits(table: Table, viewport: ViewportSize, request: pytest.FixtureRequest) -> None:
    """A campaign with its feed is no wider than the window, and what can be pressed is large enough for a thumb."""
    owner, editor = await table.seat("Owner", viewport=viewport), await table.seat("Editor")
    await editor.page.get_by_role("button", name="Raise the level of Smithy").click()
    await editor.page.get_by_role("button", name="Let 1 day pass").click()
    await owner.page.get_by_role("button", name="Raise the level of Emberford").click()
    await expect(owner.page.locator(".entry-text")).to_have_count(3)

    await _picture(owner.page, request, "campaign")
    assert await _overflow(owner.page) <= 0
    assert await _smallest_control(owner.page) >= 32


@WIDTHS
async def test_sign_in_fits(table: Table, viewport: ViewportSize, request: pytest.FixtureRequest) -> None:
    """Signing in is no wider than the window."""
    window = await table.window(viewport=viewport)
    await expect(window.page.get_by_role("heading", name="Continue as")).to_be_visible()

    await _picture(window.page, request, "sign-in")
    assert await _overflow(window.page) <= 0


@WIDTHS
async def test_form_fits(table: Table, viewport: ViewportSize) -> None:
    """The longest form fits into the window or scrolls in it."""
    owner = await table.seat("Owner", viewport=viewport)
    await owner.page.get_by_role("button", name="Edit Emberford").click()
    box = await owner.page.get_by_role("dialog").bounding_box()

    assert box is not None
    assert box["width"] <= viewport["width"]
    assert box["height"] <= viewport["height"]


async def _picture(page: Page, request: pytest.FixtureRequest, name: str) -> None:
    if os.environ.get("BEACONFIRE_SCREENSHOTS") == "1":
        IMAGES.mkdir(parents=True, exist_ok=True)
        await page.screenshot(path=IMAGES / f"{name}-{request.node.callspec.id}.png")


async def _overflow(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    return int(await page.evaluate("document.documentElement.scrollWidth - innerWidth"))


async def _smallest_control(page: Page) -> float:
    """The least height of a button or field, pixels."""
    heights = "[...document.querySelectorAll('main button, main select, main input')].map((one) => one.offsetHeight)"
    return float(await page.evaluate(f"Math.min(...{heights})"))
