"""`docs/start/react.md` as a new user follows it: the packed packages in an application of Vite's React template."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from beaconfire.local_services import Services
from beaconfire.nats_server import free_port
from tests.browser.conftest import Table
from tests.javascript import install_from_lock, node, pack_packages

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "start" / "react.md"
CONSUMERS = ROOT / "tests" / "clients" / "consumers"
TEMPLATE = CONSUMERS / "vite-react"
"""The files of Vite's template that the page leaves as they are. Its types of libraries are checked, too."""
RUN_S = 120
PATIENCE_MS = 30_000
WIDEST_INDICATOR = 300

_TITLED = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(name="application", scope="module")
def _application(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the template, the files of the page, the two packages as they are packed, and the tools."""
    install_from_lock(CONSUMERS)
    folder = tmp_path_factory.mktemp("react") / "live"
    shutil.copytree(TEMPLATE, folder)
    for name, text in _TITLED.findall(PAGE.read_text()):
        (folder / name).write_text(text)
    modules = folder / "node_modules"
    modules.mkdir()
    for package in (CONSUMERS / "node_modules").glob("[!.]*"):
        (modules / package.name).symlink_to(package)
    for name, package in pack_packages(tmp_path_factory.mktemp("packed")).items():
        shutil.unpack_archive(package, modules / "@beaconfire")
        (modules / "@beaconfire" / "package").rename(modules / "@beaconfire" / name)
    return folder


@pytest.fixture(name="address", scope="module")
def _address(application: Path, demo_services: Services, demo_campaign: str) -> Iterator[str]:
    """The page's development server, in front of services on other ports than those of `make up`."""
    assert demo_campaign
    config = application / "vite.config.ts"
    text = config.read_text()
    urls = (demo_services.gateways[0].url, demo_services.auth_url, demo_services.publisher_url)
    for usual, url in zip(("8080", "8081", "8082"), urls, strict=True):
        text = text.replace(usual, url.rpartition(":")[2])
    config.write_text(text)
    port = free_port()
    command = [node(), "node_modules/vite/bin/vite.js", "--host", "127.0.0.1", "--port", str(port), "--strictPort"]
    with subprocess.Popen(
        command, cwd=application, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        assert server.stdout is not None
        try:
            if not any("ready in" in line for line in server.stdout):
                pytest.fail("Vite did not start")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()


@pytest.mark.parametrize("compiler", ["typescript", "typescript-7"])
def test_packed_packages_type_check_in_the_application_of_the_page(application: Path, compiler: str) -> None:
    _run([node(), f"node_modules/{compiler}/bin/tsc", "-p", "."], application)


def test_application_of_the_page_is_bundled_with_the_styles(application: Path) -> None:
    _run([node(), "node_modules/vite/bin/vite.js", "build", "--logLevel", "warn"], application)

    styles = "".join(path.read_text() for path in (application / "dist").rglob("*.css"))
    assert ".beaconfire-indicator" in styles


async def test_application_of_the_page_shows_what_the_owner_changes_in_the_demo(
    table: Table, address: str, chromium: Browser
) -> None:
    page = await chromium.new_page()
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    await page.goto(address)
    await expect(page.get_by_text("Emberford: level")).to_be_visible(timeout=PATIENCE_MS)
    await expect(page.get_by_text("People here: 1")).to_be_visible()
    before = await page.get_by_text("Emberford: level").inner_text()
    owner = await table.seat("Owner")
    await owner.page.get_by_role("button", name="Raise the level of Emberford").click()
    await expect(page.get_by_text("Emberford: level")).not_to_have_text(before)

    await expect(page.get_by_text("People here: 2")).to_be_visible()
    await expect(page.locator(".beaconfire-toast")).to_contain_text("A settlement was updated")
    assert troubles == []
    await page.context.set_offline(True)
    indicator = page.locator(".beaconfire-indicator")
    await expect(indicator).to_contain_text("Reconnecting")
    box = await indicator.bounding_box()
    assert box is not None
    assert box["width"] < WIDEST_INDICATOR, "the template's column stretches what it holds"


def _run(command: list[str], folder: Path) -> None:
    result = subprocess.run(command, cwd=folder, env=dict(os.environ), capture_output=True, text=True, timeout=RUN_S)
    assert result.returncode == 0, result.stdout + result.stderr
