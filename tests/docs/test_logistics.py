"""examples/logistics, followed from an empty folder: own events and tokens, a publisher in Go, and a real browser."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.architecture.sources import ROOT
from tests.browser.conftest import _chromium
from tests.docs.walk import RUN_S, Walk
from tests.packaging.environments import build_wheels, constraints
from tests.tools.terminal import free_ports

__all__ = ["_chromium"]

PAGE = "examples/logistics/README.md"

pytestmark = pytest.mark.timeout(2 * RUN_S)


@pytest.fixture(name="walk")
async def _walk(tmp_path: Path) -> AsyncIterator[Walk]:
    """A reader in an empty folder. Their ports may be taken here, and the wheels are built now."""
    wheels = await asyncio.to_thread(build_wheels, tmp_path / "wheels")
    port, folder = free_ports(), tmp_path / "logistics"
    folder.mkdir()
    replacing = {
        "~/beaconfire/dist": str(wheels),
        "~/beaconfire/": f"{ROOT}/",
        "beaconfire up ": f"beaconfire up --port {port} ",
        **{f"127.0.0.1:{8080 + offset}": f"127.0.0.1:{port + offset}" for offset in range(4)},
    }
    walk = Walk(PAGE, folder, replacing, PIP_CONSTRAINT=str(constraints(tmp_path / "constraints.txt")))
    yield walk
    await walk.close()


@pytest.fixture(name="pages")
async def _pages(chromium: Browser) -> AsyncIterator[list[Page]]:
    """Carla's window and Dora's."""
    pages = [await chromium.new_page() for _ in range(2)]
    yield pages
    for page in pages:
        await page.close()


async def test_logistics_runs_on_the_installed_packages_and_access_follows_token_and_backend(
    walk: Walk, pages: list[Page], tmp_path: Path
) -> None:
    """Grants come from a token and from a backend, and a revoked member's page leaves the room."""
    carla, dora = pages
    await walk.section("1. Install")
    await walk.section("2. Start")
    [address] = await walk.section("3. Access by token")
    await carla.goto(address.strip())
    await expect(carla.locator("#state")).to_have_text("Live")

    [said] = await walk.section("4. Publish from Go")
    await expect(carla.get_by_role("listitem")).to_have_text(["p1: in_transit"])

    [address] = await walk.section("5. Without access")
    await dora.goto(address.strip())
    await expect(dora.locator("#state")).to_contain_text("Refused: ")

    await walk.section("6. Access by your backend")
    await dora.reload()
    await expect(dora.locator("#state")).to_have_text("Live")

    await walk.section("7. Publish to the other depot")
    await expect(dora.get_by_role("listitem")).to_have_text(["p7: in_depot"])
    await expect(carla.get_by_role("listitem")).to_have_text(["p1: in_transit"])

    await walk.section("8. Revoke")
    await expect(dora.locator("#state")).to_have_text("Left: membership_removed")
    for depot, parcel in (("south", "p7"), ("north", "p1")):
        await asyncio.to_thread(publish, tmp_path / "logistics", walk, depot, parcel, "delivered")
    await expect(carla.get_by_role("listitem")).to_have_text(["p1: delivered"])
    await expect(dora.get_by_role("listitem")).to_have_text(["p7: in_depot"])

    assert said.startswith("published, offset ")
    assert walk.unread() == []


def publish(folder: Path, walk: Walk, depot: str, parcel: str, status: str) -> None:
    """Run the Go program once more."""
    environment = walk.variables | {
        "BEACONFIRE_LOGISTICS_PASSWORD": (folder / "password").read_text().strip(),
        "BEACONFIRE_NATS_URL": walk.here("nats://127.0.0.1:8083"),
    }
    subprocess.run([folder / "publish", depot, parcel, status], env=environment, check=True, timeout=RUN_S)
