"""The documentation as a site: it is built strictly, and read from a file server below a prefix."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, Page, expect

from tests.architecture.sources import ROOT
from tests.browser.conftest import LAPTOP, PHONE, _chromium
from tests.javascript import install_from_lock

__all__ = ["_chromium"]

BUILD_S = 180
SITE = ROOT / "scripts" / "site"
PAGES = ("README", "docs/README", "docs/topics/architecture", "docs/reference/settings", "docs/features", "PROTOCOL")
# The first test builds the site.
pytestmark = pytest.mark.timeout(BUILD_S)


@pytest.fixture(name="site", scope="module")
def _site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built without a warning. A link without a target is one."""
    install_from_lock(SITE)
    folder = tmp_path_factory.mktemp("site")
    options = ("-q", "-W", "--keep-going", "-j", "2", "-c", str(SITE), "-d", str(folder / "cache"))
    command = [sys.executable, "-m", "sphinx", *options, str(ROOT), str(folder / "site")]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=BUILD_S)
    assert done.returncode == 0, done.stdout
    return folder / "site"


@pytest.fixture(name="address")
async def _address(site: Path) -> AsyncIterator[str]:
    """The address of a file server that has the site below `/manual/`."""
    app = web.Application()
    app.router.add_static("/manual/", site)
    async with TestServer(app) as server:
        yield str(server.make_url("/manual/"))


@pytest.fixture(name="page")
async def _page(chromium: Browser) -> AsyncIterator[Page]:
    context = await chromium.new_context(viewport=LAPTOP)
    yield await context.new_page()
    await context.close()


def troubles_of(page: Page, address: str) -> list[str]:
    """What goes wrong on a page from now on: errors, failed requests, and requests to any other host."""
    found: list[str] = []
    page.on("request", lambda one: None if one.url.startswith((address, "data:", "blob:")) else found.append(one.url))
    page.on("response", lambda one: found.append(f"{one.status} {one.url}") if one.status >= 400 else None)
    page.on("pageerror", lambda error: found.append(str(error)))
    return found


async def test_pages_fit_laptop_and_phone_and_ask_no_other_host(page: Page, address: str) -> None:
    troubles = troubles_of(page, address)
    for size in (LAPTOP, PHONE):
        await page.set_viewport_size(size)
        for name in PAGES:
            await page.goto(f"{address}{name}.html", wait_until="load")
            width = await page.evaluate("document.documentElement.scrollWidth")

            assert width <= size["width"], f"{name} is {width} pixels wide"
    assert troubles == []


async def test_diagrams_are_drawn_in_the_colours_of_the_theme(page: Page, address: str) -> None:
    troubles = troubles_of(page, address)
    await page.emulate_media(color_scheme="light")
    await page.goto(f"{address}docs/topics/architecture.html")
    diagram = page.locator("figure.diagram svg").first
    await expect(diagram).to_be_visible()
    light = await diagram.evaluate("svg => svg.innerHTML")
    await page.emulate_media(color_scheme="dark")
    await expect(diagram).to_be_visible()
    await page.wait_for_function(
        "light => document.querySelector('figure.diagram svg')?.innerHTML !== light", arg=light
    )

    assert troubles == []


async def test_reader_searches_a_word_and_follows_the_navigation(page: Page, address: str) -> None:
    """Every page is in the navigation. Decisions are below their index."""
    await page.goto(f"{address}index.html")
    await page.get_by_placeholder("Search").fill("backup")
    await page.get_by_placeholder("Search").press("Enter")
    await page.get_by_role("link", name="Deploy it", exact=True).last.click()
    await expect(page.get_by_role("heading", name="Deploy it")).to_be_visible()
    await page.get_by_role("link", name="Decisions").click()
    await page.get_by_role("main").get_by_role("link", name="0001").click()

    await expect(page.get_by_role("heading", level=1)).to_contain_text("0001")
