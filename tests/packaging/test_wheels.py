"""Each part is installed from its wheel into an empty environment, and does its work there."""

import asyncio
import json
import threading
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from beaconfire.local_services import ServiceProcess
from beaconfire.nats_server import NatsServer
from beaconfire.processes import Process
from beaconfire_demo.applications import APPLICATIONS
from tests.architecture.sources import PROJECTS
from tests.browser.conftest import _chromium
from tests.fakes import FakeAuth
from tests.gateway.conftest import running_gateway, settlement
from tests.packaging.environments import Environment
from tests.tools.terminal import free_ports

__all__ = ["_chromium"]

INSTALL_S = 300
PARTS = {project["name"]: project["name"].replace("-", "_") for project in PROJECTS.values()}
"""Each distribution, and the one package that it installs."""
SERVICES = ("auth", "gateway", "publisher")


@pytest.fixture(name="jwks_url")
async def _jwks_url(stream: NatsServer) -> AsyncIterator[str]:
    """The address of the keys of access tokens."""
    auth = FakeAuth()
    async with auth.running(stream):
        yield auth.jwks_url


def top_levels(wheel: Path) -> set[str]:
    """Return the top-level names that a wheel installs, besides its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name.split("/")[0] for name in archive.namelist()}
    return {name for name in names if not name.endswith(".dist-info")}


@pytest.mark.timeout(INSTALL_S)
def test_each_wheel_installs_one_package_named_like_its_distribution(wheels: Path) -> None:
    """None is called `shared`, `services` or `tools`: those would collide with packages of others."""
    found = {wheel.name.split("-")[0]: top_levels(wheel) for wheel in wheels.glob("*.whl")}

    assert found == {package: {package} for package in PARTS.values()}


@pytest.mark.timeout(INSTALL_S)
def test_demo_wheel_has_every_page_and_the_browser_client(wheels: Path) -> None:
    (wheel,) = wheels.glob("beaconfire_demo-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())

    pages = [f"{name}/page/main.js" for name in APPLICATIONS]
    assert {f"beaconfire_demo/{name}" for name in ("index.html", "page/style.css", "client/index.js", *pages)} <= names


@pytest.mark.timeout(INSTALL_S)
@pytest.mark.parametrize("service", SERVICES)
async def test_service_installed_alone_from_its_wheel_becomes_ready(
    service: str, wheels: Path, tmp_path: Path, stream: NatsServer, jwks_url: str
) -> None:
    """The service's environment has the kit and their dependencies, and no other package of this project."""
    alone = await asyncio.to_thread(Environment, tmp_path / "environment", f"beaconfire-{service}", wheels)
    installed = alone.ask("import pkgutil; print(*(one.name for one in pkgutil.iter_modules()))").split()
    running = ServiceProcess(
        service,
        f"beaconfire_{service}",
        {
            **stream.environment(service),
            "BEACONFIRE_JWKS_URL": jwks_url,
            "BEACONFIRE_DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/{service}.db",
        },
        folder=tmp_path,
    )
    running.process.command = [alone.program(f"beaconfire-{service}")]
    try:
        await asyncio.to_thread(running.start)
        why_not = await asyncio.to_thread(running.why_not_ready)
        running.terminate()
        await asyncio.to_thread(running.process.wait, 20)
    finally:
        running.kill()

    ours = {name for name in installed if name.startswith("beaconfire") or name in ("shared", "services", "tools")}
    assert ours == {"beaconfire_kit", f"beaconfire_{service}"}
    assert why_not is None
    assert running.process.exit_code == 0


@pytest.mark.timeout(INSTALL_S)
async def test_python_client_installed_alone_from_its_wheel_hears_an_event(
    wheels: Path, tmp_path: Path, stream: NatsServer
) -> None:
    """Its environment has aiohttp, and no other package of this project. Type checkers find its types."""
    auth = FakeAuth()
    auth.members = {"viewer": {"campaign:c1": "viewer"}}
    alone = await asyncio.to_thread(Environment, tmp_path / "environment", "beaconfire-client", wheels)
    installed = alone.ask("import pkgutil; print(*(one.name for one in pkgutil.iter_modules()))").split()
    async with auth.running(stream), running_gateway(stream, auth) as gateway:
        tail = await asyncio.create_subprocess_exec(
            *(alone.program("python"), "-I", "-m", "beaconfire_client", "tail", gateway.url, "campaign:c1"),
            env={"BEACONFIRE_TOKEN": auth.token("viewer")},
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert tail.stdout is not None
            line = asyncio.create_task(tail.stdout.readline())
            while not line.done():
                await gateway.publish(settlement("s1"))
            event = json.loads(await line)
        finally:
            tail.kill()
            await tail.wait()

    assert {name for name in installed if name.startswith("beaconfire")} == {"beaconfire_client"}
    assert (event["room"], event["payload"]["settlementId"]) == ("campaign:c1", "s1")
    assert list(alone.folder.glob("lib/python*/site-packages/beaconfire_client/py.typed"))


@pytest.mark.timeout(INSTALL_S)
async def test_up_installed_from_wheels_in_an_empty_folder_shows_the_page(
    wheels: Path, tmp_path: Path, chromium: Browser
) -> None:
    """`beaconfire`, installed from wheels, starts everything; the page and the client that it loads are there."""
    environment = await asyncio.to_thread(Environment, tmp_path / "environment", "beaconfire", wheels)
    empty, port = tmp_path / "empty", free_ports()
    empty.mkdir()
    command = f"cd '{empty}' && exec '{environment.program('beaconfire')}' up --port {port} --gateways 1"
    opened = threading.Event()
    up = Process(
        "up",
        ["sh", "-c", command],
        log_path=tmp_path / "up.log",
        environment={"NO_COLOR": "1"},
        on_line=lambda _name, line: opened.set() if "Open  " in line else None,
    )
    up.start()
    try:
        page = await chromium.new_page()
        assert await asyncio.to_thread(opened.wait, INSTALL_S / 3), (tmp_path / "up.log").read_text()
        client = await page.request.get(f"http://127.0.0.1:{port}/client/index.js")
        await page.goto(f"http://127.0.0.1:{port}/")
        await expect(page.get_by_role("heading", name="Continue as")).to_be_visible()
    finally:
        await asyncio.to_thread(up.stop, 30)

    assert client.status == 200
    assert "javascript" in client.headers["content-type"]
    assert (empty / ".beaconfire").is_dir()
