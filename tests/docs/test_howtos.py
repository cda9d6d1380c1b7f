"""The how-tos, followed line by line in a copy of the tree: what they say works, as they say it."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.client import SocketClient, open_socket
from tests.docs.tree import Tree, commands
from tests.fakes import FakeAuth
from tools.cluster import ServiceProcess
from tools.data_folder import DataFolder, Running
from tools.nats_server import NatsServer


@asynccontextmanager
async def listener(tree: Tree, stream: NatsServer, folder: Path) -> AsyncIterator[SocketClient]:
    """Somebody on a socket of a gateway that runs the copy, in the room of campaign c1."""
    auth = FakeAuth()
    auth.members = {"viewer": {"campaign:c1": "viewer"}}
    async with auth.running(stream):
        environment = {**tree.environment, **stream.environment("gateway"), "BEACONFIRE_JWKS_URL": auth.jwks_url}
        gateway = ServiceProcess("gateway", "services.gateway", environment, folder=folder)
        try:
            await asyncio.to_thread(gateway.start)
            async with open_socket(gateway.url) as client:
                await client.connect(auth.token("viewer"), ["campaign:c1"])
                yield client
        finally:
            gateway.kill()


@pytest.fixture(name="running")
def _running(stream: NatsServer, tmp_path: Path) -> Iterator[str]:
    """The folder of what looks to the command line like a running `beaconfire up`: the broker, and nothing else."""
    folder = DataFolder(tmp_path / "up")
    with folder.locked():
        (folder.path / "passwords.json").write_text(json.dumps(stream.passwords))
        nowhere = "http://127.0.0.1:1"
        folder.write_running(Running(nowhere, nowhere, nowhere, stream.url, nowhere))
        yield str(folder.path)


@pytest.mark.timeout(120)
async def test_add_an_event(stream: NatsServer, running: str, tmp_path: Path) -> None:
    """The class of the page is all it takes: what is derived follows, and the event reaches a socket."""
    page = "docs/howto/add_an_event.md"
    tree = Tree(tmp_path)
    make, publish = commands(page)
    assert (make, publish[0]) == (["make", "generate"], "beaconfire")

    tree.write(page)
    await asyncio.to_thread(tree.python, "-m", "tools.generate")  # make generate
    async with listener(tree, stream, tmp_path) as client:
        await asyncio.to_thread(tree.python, "-m", "tools", *publish[1:], "--data", running)
        event = await client.next("event")

    assert event["event"]["type"] == "caravan_arrived"
    assert event["event"]["payload"]["goods"] == ["salt"]
    assert event["rooms"] == ["campaign:c1", "campaign:c1/settlement:s1", "campaign:c1/caravan:k1"]
    for derived in (
        "docs/reference/events.md",
        "docs/reference/asyncapi.json",
        "docs/reference/schemas/events.json",
        "clients/js/src/events.d.ts",
    ):
        assert "caravan_arrived" in (tree.root / derived).read_text(), derived


@pytest.mark.timeout(300)
def test_add_a_domain_service(tmp_path: Path) -> None:
    """The service of the page passes the project's checks and its own test: its event reaches a socket."""
    page = "docs/howto/add_a_domain_service.md"
    tree = Tree(tmp_path)
    write, generate, check, test = commands(page)
    assert (generate, check) == (["make", "generate"], ["make", "check"])
    assert test == ["make", "test", "ARGS=tests/quests"]

    tree.write(page)
    tree.python(*write[1:])
    tree.python("-m", "tools.generate")
    for one in (
        ["-m", "ruff", "check", "."],
        ["-m", "ruff", "format", "--check", "."],
        ["-m", "mypy", "services/quests"],
        ["-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        ["-m", "tools.migrations", "check"],
        ["-m", "tools.generate", "--check"],
    ):
        tree.python(*one)
    tree.python("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/quests")
