"""The how-tos, followed line by line: in a copy of the repository, or in a repository of their own."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from beaconfire import demo, sign_in
from beaconfire.data_folder import DataFolder
from beaconfire.nats_server import free_port
from beaconfire.processes import Process
from tests.client import answering, open_socket
from tests.docs.tree import ROOT, RUN_S, Tree, blocks, fresh_environment, fresh_shell, write_blocks
from tests.tools.terminal import PORTS, free_ports

OWN_EVENT = "shared/src/beaconfire_kit/events/weather.py"


@contextmanager
def terminal(folder: Path, command: str, **environment: str) -> Iterator[Process]:
    """A command in a fresh terminal in a folder. At the end of the block the user presses Ctrl-C."""
    variables = [f"{name}={value}" for name, value in {**fresh_environment(), **environment}.items()]
    process = Process(
        "terminal",
        ["env", "-i", *variables, "bash", "-c", f"cd '{folder}' && {command}"],
        log_path=folder / "terminal.log",
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
async def test_following_add_an_event_delivers_the_new_events_to_a_socket(tmp_path: Path) -> None:
    """One channel of a file, and one class of a module: nothing but the page's own files is written or edited."""
    page = "docs/howto/add_an_event.md"
    tree = Tree(tmp_path)
    up, push, publish, both_from_python, generate = [
        block.text.strip() for block in blocks(page) if block.language == "sh"
    ]
    assert (up, generate) == ("make up", "make generate")

    tree.write(page)
    (tree.root / OWN_EVENT).unlink()  # it is among our own events, and the next test's
    # `make` reads ARGS from the environment, too: other ports, since those of the page may be taken here
    with terminal(tree.root, up, ARGS=f"--port {free_ports()} --gateways 1 --only campaign") as process:
        url = await address_of_up(process, tree.root / "terminal.log")
        folder = DataFolder(tree.root / ".beaconfire")
        printed = (tree.root / "terminal.log").read_text()
        campaign = json.loads((folder.path / "demo.json").read_text())["campaign"]
        viewer = await asyncio.to_thread(
            sign_in.access_token, folder.running().auth_url, "viewer@demo.example", demo.PASSWORD
        )
        async with open_socket(url) as client:
            await client.connect(viewer, [f"campaign:{campaign}"])
            commands = "\n".join([push, publish, both_from_python]).replace("c1", campaign)
            async with answering(client):
                said = await asyncio.to_thread(tree.fresh_shell, commands, installed=False)
            arrived, robbed = await client.events(2)
        letters = await asyncio.to_thread(tree.fresh_shell, ".venv/bin/beaconfire deadletters", installed=False)

    assert ".venv/bin/beaconfire chaos kill" in printed
    assert said.count("offset ") >= 2
    assert (arrived["event"]["type"], robbed["event"]["type"]) == ("caravan_arrived", "caravan_robbed")
    assert (arrived["event"]["payload"], robbed["event"]["payload"]["goods"]) == ({"goods": ["salt"]}, ["silver"])
    assert arrived["rooms"] == [
        f"campaign:{campaign}",
        f"campaign:{campaign}/settlement:s1",
        f"campaign:{campaign}/caravan:k1",
    ]
    assert robbed["rooms"] == [f"campaign:{campaign}", f"campaign:{campaign}/caravan:k1"]
    assert letters == "There are no dead letters\n"


def test_class_among_our_own_events_is_in_every_file_that_follows_from_them(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.write("docs/howto/add_an_event.md")
    tree.python("-m", "scripts.generate")
    pushed = tree.python(
        "-c", "from beaconfire_kit.catalogue.builtin import fragments; print(*fragments()['campaign'].types)"
    )

    assert "('weather_changed', 1)" in pushed
    for derived in (
        "docs/reference/events.md",
        "docs/reference/asyncapi.json",
        "docs/reference/schemas/events.json",
        "clients/js/src/events.d.ts",
    ):
        assert "weather_changed" in (tree.root / derived).read_text(), derived


@pytest.mark.timeout(2 * RUN_S)
async def test_a_domain_service_in_a_repository_of_its_own_delivers_its_event(tmp_path: Path) -> None:
    page = "docs/howto/add_a_domain_service.md"
    repository, machine = tmp_path / "quests", tmp_path / "machine"
    build_kit, install, start, serve, _, give, _ = [
        block.text.strip() for block in blocks(page) if block.language == "sh"
    ]
    write_blocks(page, repository)
    (machine / ".beaconfire").mkdir(parents=True)
    (machine / ".venv").symlink_to(sys.prefix)
    first = free_ports()  # those of the page may be taken here
    port = next(port for port in iter(free_port, None) if not first <= port < first + PORTS)

    await asyncio.to_thread(fresh_shell, build_kit.replace("../quests", str(repository)), ROOT)
    await asyncio.to_thread(fresh_shell, install, repository)
    start = start.replace("../quests", str(repository))
    with terminal(machine, f"{start} --port {first} --gateways 1 --only campaign") as up:
        url = await address_of_up(up, machine / "terminal.log")
        campaign = json.loads((machine / ".beaconfire" / "demo.json").read_text())["campaign"]
        auth_url = DataFolder(machine / ".beaconfire").running().auth_url
        viewer = await asyncio.to_thread(sign_in.access_token, auth_url, "viewer@demo.example", demo.PASSWORD)
        settings = {"BEACONFIRE_PORT": str(port), "BEACONFIRE_JWKS_URL": f"{auth_url}/.well-known/jwks.json"}
        with terminal(repository, serve.replace("8083", str(first + 3)), **settings) as service:
            quests = await ready(f"http://127.0.0.1:{port}", service)
            async with open_socket(url) as client, aiohttp.ClientSession() as http:
                await client.connect(viewer, [f"campaign:{campaign}"])
                async with answering(client):
                    said = await asyncio.to_thread(
                        fresh_shell, give.replace("c1", campaign).replace("8090", str(port)), machine
                    )
                event = await client.next("event")
                path, bearer = f"{quests}/v1/campaigns/{campaign}/quests", {"Authorization": f"Bearer {viewer}"}
                async with http.post(path, json={"text": "Find it again"}, headers=bearer) as refused:
                    by_viewer = refused.status
                async with http.get(path, headers=bearer) as answer:
                    listed = await answer.json()

    quest = {"id": event["event"]["payload"]["entityId"], "text": "Find the lost bell"}
    assert json.loads(said[said.index("{") :]) == {"quest": quest}
    assert (by_viewer, listed) == (403, {"quests": [quest]})
    assert event["event"]["type"] == "entity_updated"
    assert event["event"]["metadata"]["source"] == "quests"
    assert event["rooms"] == [f"campaign:{campaign}", f"campaign:{campaign}/quest:{quest['id']}"]


@pytest.mark.timeout(RUN_S)
def test_the_code_of_add_a_domain_service_passes_strict_checks(tmp_path: Path) -> None:
    write_blocks("docs/howto/add_a_domain_service.md", tmp_path)
    style = ["--isolated", "--line-length", "120"]
    for check in (
        ["ruff", "check", *style, "--select", "B,E,F,I,UP"],
        ["ruff", "format", *style, "--check"],
        ["mypy", "--strict", "--cache-dir", f"{tmp_path}/cache", "quests"],
    ):
        subprocess.run([sys.executable, "-m", *check], cwd=tmp_path, check=True)


async def ready(url: str, process: Process) -> str:
    """Wait until the service at this address is ready. Returns the address."""
    async with aiohttp.ClientSession() as http, asyncio.timeout(RUN_S):
        while True:
            assert process.is_running, process.last_lines
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with http.get(f"{url}/readyz") as answer:
                    if answer.status == 200:
                        return url
            await asyncio.sleep(0.1)
