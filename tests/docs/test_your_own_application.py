"""docs/start/your_own_application.md, followed from an empty folder to an event in a real browser."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.architecture.sources import ROOT
from tests.browser.conftest import _chromium
from tests.docs.walk import RUN_S, Walk
from tests.packaging.environments import build_wheels, constraints
from tests.python_types import check_python
from tests.tools.terminal import free_ports

__all__ = ["_chromium"]

PAGE = "docs/start/your_own_application.md"
WHEELS = "~/beaconfire/dist"
RECONNECT_MS = 90_000
"""The client's longest pause between two attempts is 32 s, and the machine may be busy."""

pytestmark = pytest.mark.timeout(2 * RUN_S)


@pytest.fixture(name="walk")
async def _walk(tmp_path: Path) -> AsyncIterator[Walk]:
    """A reader in an empty folder. Their ports may be taken here, and the wheels are built now."""
    wheels = await asyncio.to_thread(build_wheels, tmp_path / "wheels")
    port, folder = free_ports(), tmp_path / "parcels"
    folder.mkdir()
    replacing = {
        WHEELS: str(wheels),
        "beaconfire up ": f"beaconfire up --port {port} ",
        "127.0.0.1:8080": f"127.0.0.1:{port}",
    }
    walk = Walk(PAGE, folder, replacing, PIP_CONSTRAINT=str(constraints(tmp_path / "constraints.txt")))
    yield walk
    await walk.close()


@pytest.fixture(name="page")
async def _page(chromium: Browser) -> AsyncIterator[Page]:
    page = await chromium.new_page()
    yield page
    await page.close()


async def test_following_the_page_shows_ones_own_events_in_a_browser(walk: Walk, page: Page, tmp_path: Path) -> None:
    await walk.section("1. Install")
    await walk.section("2. Describe your events")
    await walk.section("3. Say who your users are")
    await walk.section("4. Write a page")
    [address] = await walk.section("5. Start everything")
    await page.goto(address.strip())
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()

    *_, refused = await walk.section("6. Publish")
    events = page.locator("#events")
    await expect(events).to_have_text('parcel.moved {"status":"in_transit"}\n')
    assert "status" in refused

    await walk.interrupt("1")
    await walk.again("5. Start everything")
    await walk.wait_for("1", "Open")

    await walk.section("7. Change your events while everything runs")
    await expect(events).to_contain_text("parcel.lost {}", timeout=RECONNECT_MS)

    await walk.section("8. Get pages and types for your events")
    await page.goto((tmp_path / "parcels" / "events.html").as_uri())
    await expect(page.get_by_role("heading", name="parcel.lost")).to_be_visible()
    await asyncio.to_thread(check_python, tmp_path / "parcels", "events.py")

    assert walk.unread() == []


def test_page_names_the_place_of_the_wheels_once() -> None:
    assert (ROOT / PAGE).read_text().count(WHEELS) == 1
