"""The clients that the pages about Socket.IO show, run as they are."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from beaconfire.nats_server import NatsServer
from tests.docs.tree import blocks
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway, settlement
from tests.javascript import install_from_lock, node
from tests.socketio.clients import FOLDER

WAIT_S = 30.0


@pytest.fixture(name="gateway")
async def _gateway(stream: NatsServer) -> AsyncIterator[Gateway]:
    """A gateway with a member of campaign c1."""
    auth = FakeAuth()
    auth.members = {"viewer": {"campaign:c1": "viewer"}}
    async with auth.running(stream), running_gateway(stream, auth) as gateway:
        yield gateway


@asynccontextmanager
async def running(code: str, folder: Path, **environment: str) -> AsyncIterator[asyncio.StreamReader]:
    """Run a page's code beside the packages that it imports. Yields what it prints."""
    await asyncio.to_thread(install_from_lock, FOLDER)
    (folder / "node_modules").symlink_to(FOLDER / "node_modules")
    (folder / "client.mjs").write_text(code)
    process = await asyncio.create_subprocess_exec(
        node(), "client.mjs", cwd=folder, stdout=asyncio.subprocess.PIPE, env={**os.environ, **environment}
    )
    try:
        assert process.stdout is not None
        yield process.stdout
    finally:
        process.kill()
        await process.wait()


async def line_of(output: asyncio.StreamReader) -> str:
    async with asyncio.timeout(WAIT_S):
        return (await output.readline()).decode().strip()


async def test_client_of_the_page_subscribes_reloads_and_hears_events(gateway: Gateway, tmp_path: Path) -> None:
    """docs/howto/move_socketio_clients.md"""
    [code] = [one.text for one in blocks("docs/howto/move_socketio_clients.md") if one.title == "client.mjs"]
    async with running(code, tmp_path, GATEWAY_URL=gateway.url, TOKEN=gateway.auth.token("viewer")) as output:
        assert await line_of(output) == "reading the campaign"
        await gateway.publish(settlement("s1"))
        assert await line_of(output) == "changed: s1"


async def test_first_client_of_the_reference_subscribes_and_hears_events(gateway: Gateway, tmp_path: Path) -> None:
    """docs/reference/socketio.md"""
    code = next(one.text for one in blocks("docs/reference/socketio.md") if one.language == "js")
    whole = code.replace("http://127.0.0.1:8080", gateway.url) + "\nconst token = process.env.TOKEN;\n"
    async with running(whole, tmp_path, TOKEN=gateway.auth.token("viewer")) as output:
        assert await line_of(output) == "true undefined"
        await gateway.publish(settlement("s1"))
        assert await line_of(output) == "s1 [ 'level' ]"
