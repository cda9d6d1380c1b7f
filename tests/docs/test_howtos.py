"""The how-tos, followed line by line in a copy of the repository."""

import asyncio
import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from beaconfire import demo, sign_in
from beaconfire.data_folder import DataFolder
from beaconfire.processes import Process
from tests.client import open_socket
from tests.docs.tree import RUN_S, Tree, blocks, commands, fresh_environment
from tests.tools.terminal import free_ports


@contextmanager
def terminal(tree: Tree, command: str, **environment: str) -> Iterator[Process]:
    """A command in a fresh terminal in the tree. At the end of the block the user presses Ctrl-C."""
    variables = [f"{name}={value}" for name, value in {**fresh_environment(), **environment}.items()]
    process = Process(
        "terminal",
        ["env", "-i", *variables, "bash", "-c", f"cd '{tree.root}' && {command}"],
        log_path=tree.root / "terminal.log",
    )
    process.start()
    try:
        yield process
    finally:
        if process.pid is not None and process.is_running:
            os.killpg(process.pid, signal.SIGINT)
            process.stop(60)


async def address_of_up(process: Process, log: Path) -> str:
    """The address that `make up` prints, once it has."""
    async with asyncio.timeout(RUN_S):
        while not (found := re.search(r"Open  (http://\S+)", log.read_text() if log.exists() else "")):
            assert process.is_running, log.read_text()
            await asyncio.sleep(0.1)
    return found[1]


@pytest.mark.timeout(2 * RUN_S)
async def test_following_add_an_event_delivers_the_new_event_to_a_socket(tmp_path: Path) -> None:
    page = "docs/howto/add_an_event.md"
    tree = Tree(tmp_path)
    make, up, publish = [block.text.strip() for block in blocks(page) if block.language == "sh"]
    assert (make, up) == ("make generate", "make up")

    tree.write(page)
    await asyncio.to_thread(tree.fresh_shell, make, installed=False)
    # `make` reads ARGS from the environment, too: other ports, since those of the page may be taken here
    with terminal(tree, up, ARGS=f"--port {free_ports()} --gateways 1") as process:
        url = await address_of_up(process, tree.root / "terminal.log")
        folder = DataFolder(tree.root / ".beaconfire")
        printed = (tree.root / "terminal.log").read_text()
        campaign = json.loads((folder.path / "demo.json").read_text())["campaign"]
        viewer = await asyncio.to_thread(
            sign_in.access_token, folder.running().auth_url, "viewer@demo.example", demo.PASSWORD
        )
        async with open_socket(url) as client:
            await client.connect(viewer, [f"campaign:{campaign}"])
            said = await asyncio.to_thread(tree.fresh_shell, publish.replace("c1", campaign), installed=False)
            event = await client.next("event")
        letters = await asyncio.to_thread(tree.fresh_shell, ".venv/bin/beaconfire deadletters", installed=False)

    assert ".venv/bin/beaconfire chaos kill" in printed
    assert said.startswith("offset ")
    assert event["event"]["type"] == "caravan_arrived"
    assert event["event"]["payload"]["goods"] == ["salt"]
    assert event["rooms"] == [
        f"campaign:{campaign}",
        f"campaign:{campaign}/settlement:s1",
        f"campaign:{campaign}/caravan:k1",
    ]
    assert letters == "nothing was set aside\n"
    for derived in (
        "docs/reference/events.md",
        "docs/reference/asyncapi.json",
        "docs/reference/schemas/events.json",
        "clients/js/src/events.d.ts",
    ):
        assert "caravan_arrived" in (tree.root / derived).read_text(), derived


@pytest.mark.timeout(300)
def test_following_add_a_domain_service_passes_the_checks_and_delivers_its_event(tmp_path: Path) -> None:
    page = "docs/howto/add_a_domain_service.md"
    tree = Tree(tmp_path)
    write, generate, check, test = commands(page)
    assert (generate, check) == (["make", "generate"], ["make", "check"])
    assert test == ["make", "test", "ARGS=tests/quests"]

    tree.write(page)
    tree.python(*write[1:])
    tree.python("-m", "scripts.generate")
    for one in (
        ["-m", "ruff", "check", "."],
        ["-m", "ruff", "format", "--check", "."],
        ["-m", "mypy", "services/quests/src"],
        ["-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        ["-m", "scripts.migrations", "check"],
        ["-m", "scripts.generate", "--check"],
    ):
        tree.python(*one)
    tree.python("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/quests")
