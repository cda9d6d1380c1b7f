"""What a page looks like: pictures for the documentation, and measures of what people see and touch."""

import os
from pathlib import Path

import pytest
from playwright.async_api import Page

from tests.browser.conftest import LAPTOP, PHONE
from tests.browser.tabs import Tab

IMAGES = Path(__file__).parents[2] / "docs" / "images"
WIDTHS = pytest.mark.parametrize("viewport", [LAPTOP, PHONE], ids=["laptop", "phone"])


def are_pictures_kept() -> bool:
    """Whether this run of the tests writes pictures, because BEACONFIRE_SCREENSHOTS=1."""
    return os.environ.get("BEACONFIRE_SCREENSHOTS") == "1"


async def picture(page: Page, request: pytest.FixtureRequest, name: str) -> None:
    """Keep a picture of the page in the size that the test has as its parameter."""
    await keep(page, f"{name}-{request.node.callspec.id}")


async def keep(page: Page, name: str) -> None:
    """Keep a picture of the page for the documentation, if BEACONFIRE_SCREENSHOTS=1."""
    if are_pictures_kept():
        IMAGES.mkdir(parents=True, exist_ok=True)
        await page.screenshot(path=IMAGES / f"{name}.png")


async def keep_stage(tab: Tab, path: Path) -> None:
    """Keep a picture of a stage of a test, to be looked at, if BEACONFIRE_SCREENSHOTS=1."""
    if are_pictures_kept():
        await tab.screenshot(path)


async def overflow_of(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    return int(await page.evaluate("document.documentElement.scrollWidth - innerWidth"))


async def small_targets(page: Page) -> list[str]:
    """Return controls that are smaller than a thumb needs (44 pixels, WCAG 2.5.5). Links within text are exempt."""
    return list(await page.evaluate(SMALL))


async def is_in_sight(page: Page, selector: str) -> bool:
    """Whether the middle of an element is on the screen, and nothing lies over it."""
    return bool(await page.evaluate(IN_SIGHT, selector))


SMALL = """[...document.querySelectorAll("button, select, input, textarea, a[href]")]
    .filter((one) => one.checkVisibility() && !one.closest("p, .skip"))
    .map((one) => [one, (one.type === "radio" ? one.closest("label") : one).getBoundingClientRect()])
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
