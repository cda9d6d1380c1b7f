"""examples/react in a browser, with each of its two libraries: Vite's server in front of the services."""

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.async_api import Browser, Locator, ViewportSize, expect

from beaconfire import demo
from beaconfire.local_services import Plan, Services
from beaconfire.nats_server import free_port
from tests.browser.conftest import LAPTOP, PHONE, Window
from tests.forked import all_forked
from tests.javascript import CLIENTS, install_from_lock, node

EXAMPLE = Path(__file__).parents[2] / "examples" / "react"
PATIENCE_MS = 40_000
PAGES = ("index.html", "apollo.html")

pytestmark = pytest.mark.timeout(200)


@dataclass
class Example:
    """The example's server, and the browser of the people who use it."""

    services: Services
    url: str
    browser: Browser

    async def window(self, page: str, name: str, viewport: ViewportSize = LAPTOP) -> Window:
        """The window of one of the demo's people, with the settlements on the page."""
        context = await self.browser.new_context(viewport=viewport, locale="en-GB")
        context.set_default_timeout(10_000)
        window = Window(await context.new_page(), context)
        window.page.on("pageerror", window.note_error)
        window.page.on("console", window.note_message)
        window.page.on("websocket", lambda socket: window.sockets.append(socket) if "/ws" in socket.url else None)
        await window.page.goto(f"{self.url}/{page}")
        await window.page.get_by_role("button", name=name).click()
        await expect(settlement(window, "Emberford")).to_be_visible()
        return window


def settlement(window: Window, name: str) -> Locator:
    return window.page.locator(f'li[data-name="{name}"]')


async def level_of(window: Window, name: str) -> int:
    text = await settlement(window, name).inner_text()
    found = re.search(r"level (\d+)", text)
    assert found, text
    return int(found[1])


async def raise_level(window: Window, name: str) -> int:
    """Raise the level of a settlement, and wait until that has come back. Returns the new one."""
    level = await level_of(window, name) + 1
    await settlement(window, name).get_by_role("button", name="Level up").click()
    await expect(settlement(window, name)).to_contain_text(f"level {level}")
    return level


@pytest.fixture(name="example_services", scope="module")
def _example_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    whole = all_forked(Services(Plan(tmp_path_factory.mktemp("example"), gateways=1)))
    try:
        whole.start()
        dict(demo.seed_all(whole))
        yield whole
    finally:
        whole.kill()


@pytest.fixture(name="installed", scope="module")
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, with its packages of the lock file, and ours as they are now."""
    install_from_lock(EXAMPLE)
    folder = tmp_path_factory.mktemp("example") / "react"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules", "dist"))
    for package in (EXAMPLE / "node_modules").glob("[!.]*"):
        if package.name != "@beaconfire":
            (folder / "node_modules").mkdir(exist_ok=True)
            (folder / "node_modules" / package.name).symlink_to(package)
    for name, source in (("client", CLIENTS / "js"), ("react", CLIENTS / "react")):
        target = folder / "node_modules" / "@beaconfire" / name
        shutil.copytree(source / "src", target / "src")
        shutil.copy(source / "package.json", target)
    return folder


@pytest.fixture(name="vite", scope="module")
def _vite(example_services: Services, installed: Path) -> Iterator[str]:
    """Vite's development server. Yields its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [node(), "node_modules/vite/bin/vite.js", "--host", "127.0.0.1", "--port", str(port), "--strictPort"]
    environment = {
        **os.environ,
        "GATEWAY": example_services.gateways[0].url,
        "AUTH": example_services.auth_url,
        "PUBLISHER": example_services.publisher_url,
    }
    with subprocess.Popen(
        command, cwd=installed, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        assert server.stdout is not None
        try:
            for line in server.stdout:
                if "ready in" in line:
                    break
            else:
                pytest.fail("Vite did not start")
            yield address
        finally:
            server.kill()


@pytest.fixture(name="example")
def _example(example_services: Services, vite: str, chromium: Browser) -> Example:
    return Example(example_services, vite, chromium)


@pytest.mark.parametrize("page", PAGES)
async def test_example_shows_what_another_person_changes_over_one_socket(example: Example, page: str) -> None:
    owner, editor = await example.window(page, "Owner"), await example.window(page, "Editor", PHONE)
    await expect(owner.page.locator(".people")).to_contain_text("2 people")
    await settlement(owner, "Emberford").get_by_role("button", name="Structures").click()
    await expect(settlement(owner, "Emberford")).to_contain_text("Old Mill")
    level = await raise_level(editor, "Emberford")
    await expect(settlement(owner, "Emberford")).to_contain_text(f"level {level}")
    await settlement(editor, "Emberford").get_by_role("button", name="Structures").click()
    towers = await settlement(owner, "Emberford").get_by_text("Watchtower").count()
    await editor.page.get_by_role("button", name="Build a watchtower").click()
    await expect(settlement(owner, "Emberford").get_by_text("Watchtower")).to_have_count(towers + 1)
    time = await owner.page.locator("time").inner_text()
    await editor.page.get_by_role("button", name="Advance an hour").click()
    await expect(owner.page.locator("time")).not_to_have_text(time)
    await editor.page.get_by_label("Name of the new settlement").fill(f"New of {page}")
    await editor.page.get_by_role("button", name="Found a settlement").click()
    await expect(settlement(owner, f"New of {page}")).to_be_visible()
    await expect(owner.page.locator(".beaconfire-toast")).to_contain_text("A settlement was founded.")
    await editor.page.get_by_role("button", name=f"Delete New of {page}").click()
    await expect(settlement(owner, f"New of {page}")).to_have_count(0)

    assert (len(owner.sockets), len(editor.sockets)) == (1, 1)  # under StrictMode, too
    assert owner.troubles == editor.troubles == []


@pytest.mark.parametrize("page", PAGES)
async def test_example_catches_up_after_it_was_offline_and_says_so(example: Example, page: str) -> None:
    owner, editor = await example.window(page, "Owner"), await example.window(page, "Editor")
    await editor.context.set_offline(True)
    light = editor.page.locator(".beaconfire-indicator")
    await expect(light).to_contain_text("Reconnecting", timeout=PATIENCE_MS)
    await expect(editor.page.locator(".beaconfire-toast")).to_contain_text("The connection was lost")
    level = await raise_level(owner, "Greywatch")
    await editor.context.set_offline(False)
    await expect(light).to_have_attribute("data-look", "green", timeout=PATIENCE_MS)
    await expect(editor.page.locator(".beaconfire-toast")).to_contain_text("Connected again")
    await expect(settlement(editor, "Greywatch")).to_contain_text(f"level {level}")


@pytest.mark.parametrize("page", PAGES)
async def test_example_catches_up_after_its_gateway_was_killed(example: Example, page: str) -> None:
    owner, editor = await example.window(page, "Owner"), await example.window(page, "Editor")
    gateway = example.services.gateways[0]
    await asyncio.to_thread(gateway.kill)
    light = editor.page.locator(".beaconfire-indicator")
    try:
        await expect(light).to_have_attribute("data-look", "yellow")
        level = await level_of(owner, "Saltmere") + 1
        await settlement(owner, "Saltmere").get_by_role("button", name="Level up").click()  # the publisher is there
        await expect(settlement(owner, "Saltmere")).to_contain_text("Saving")
    finally:
        await asyncio.to_thread(gateway.start)
    await expect(light).to_have_attribute("data-look", "green", timeout=PATIENCE_MS)
    for window in (owner, editor):
        await expect(settlement(window, "Saltmere")).to_contain_text(f"level {level}", timeout=PATIENCE_MS)
    await expect(settlement(owner, "Saltmere")).not_to_contain_text("Saving", timeout=PATIENCE_MS)


async def test_example_shows_a_refused_change_and_takes_nothing_over(example: Example) -> None:
    viewer = await example.window("index.html", "Viewer")
    level = await level_of(viewer, "Emberford")
    await settlement(viewer, "Emberford").get_by_role("button", name="Level up").click()
    await expect(viewer.page.locator('.beaconfire-toast[data-kind="bad"]')).to_be_visible()

    assert await level_of(viewer, "Emberford") == level
