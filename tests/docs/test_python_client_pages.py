"""docs/start/python.md and clients/python/README.md: their programs run, and what they list is what there is."""

import asyncio
import inspect
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import beaconfire_client
from beaconfire_client import Client, Room, connect
from tests.architecture.sources import ROOT
from tests.e2e.conftest import Line, _line, _running  # noqa: F401  (its fixtures)
from tests.people import Person
from tests.python_types import check_python

PAGE = (ROOT / "docs/start/python.md").read_text()
README = (ROOT / "clients/python/README.md").read_text()
WAIT_S = 30.0


def blocks(page: str) -> list[str]:
    """The Python of a page."""
    return re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


BOT, LEVEL_UP, ANSWER = blocks(PAGE)


def bot_of(line: Line, person: Person, room: str) -> str:
    """The bot of the page, for a user and a room of this test."""
    changes = {
        "ws://127.0.0.1:8080/ws": line.services.gateways[0].url,
        "http://127.0.0.1:8081": line.services.auth_url,
        "bot@example.org": person.email,
        "campaign:c1": room,
    }
    program = BOT
    for shown, meant in changes.items():
        assert shown in program
        program = program.replace(shown, meant)
    return program


@asynccontextmanager
async def running(program: str, folder: Path) -> AsyncIterator[asyncio.StreamReader]:
    """Run a program in a folder, and end it. Yields what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=folder, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield process.stdout
    finally:
        process.kill()
        await process.wait()


async def printed(output: asyncio.StreamReader, text: str) -> str:
    """The next line with this text."""
    async with asyncio.timeout(WAIT_S):
        while text not in (line := (await output.readline()).decode()):
            assert line, "the program has ended"
        return line


async def test_bot_of_the_page_prints_events_and_begins_again_with_what_it_missed(line: Line, tmp_path: Path) -> None:
    owner = await line.sign_up("bot")
    campaign = await line.campaign(owner)
    settlement = await line.settlement(owner, campaign)
    path = f"/v1/campaigns/{campaign}/settlements/{settlement}"
    program = bot_of(line, owner, f"campaign:{campaign}")
    async with running(program, tmp_path) as output:
        levels = asyncio.create_task(raised(line, owner, path))
        await printed(output, "settlement_updated")
        levels.cancel()
        await asyncio.gather(levels, return_exceptions=True)
    await line.publisher("PATCH", path, {"name": "Renamed"}, token=owner.token)
    async with running(program, tmp_path) as output:
        missed = await printed(output, "['name']")

    assert missed.startswith("settlement_updated ")
    assert len([one for one in BOT.splitlines() if one]) <= 20


async def raised(line: Line, owner: Person, path: str) -> None:
    """Change the settlement until the bot has heard it: it says nothing when it is connected."""
    level = 1
    while True:
        level += 1
        await line.publisher("PATCH", path, {"level": level}, token=owner.token)


async def test_change_of_the_page_waits_until_its_event_was_seen(line: Line) -> None:
    owner = await line.sign_up("owner")
    campaign = await line.campaign(owner)
    url = f"{line.services.publisher_url}/v1/campaigns/{campaign}/settlements/{await line.settlement(owner, campaign)}"
    names: dict[str, Any] = {"Client": Client, "aiohttp": aiohttp}
    exec(LEVEL_UP, names)
    headers = {"Authorization": f"Bearer {owner.token}"}
    async with (
        aiohttp.ClientSession(headers=headers, raise_for_status=True) as http,
        connect(line.services.gateways[0].url, owner.token) as client,
    ):
        room = client.room(f"campaign:{campaign}")
        await room.ready()
        await names["level_up"](client, http, url, 5)
        async with asyncio.timeout(WAIT_S):
            async for event in room:  # those of the settlement's creation may come first
                if event.payload.get("changedFields") == ["level"]:
                    break


def test_programs_of_the_pages_pass_strict_checks(tmp_path: Path) -> None:
    """With the types that the client is installed with."""
    first = blocks(README)[0]
    (tmp_path / "watch.py").write_text(first)
    (tmp_path / "bot.py").write_text(BOT)
    rest = f"import asyncio\nimport aiohttp\nfrom beaconfire_client import Client, Room\n{LEVEL_UP}\n{ANSWER}"
    (tmp_path / "snippets.py").write_text(rest)

    check_python(tmp_path, "watch.py", "bot.py", "snippets.py")


@pytest.mark.parametrize("of", [Client.__init__, Client.room], ids=["connect", "room"])
def test_readme_lists_every_argument(of: Any) -> None:
    arguments = set(inspect.signature(of).parameters) - {"self"}

    assert {one for one in arguments if f"`{one}`" not in README} == set()


def test_readme_names_everything_public_of_rooms_and_clients() -> None:
    """`put`, `wake` and the like are for the client itself."""
    inner = {"put", "has_space", "joined", "refused", "left", "show_here", "show_typing", "wake", "number", "is_full"}
    of_clients = {"leave", "catch_up", "send_typing", "opened", "received"}
    names = {name for one in (Client, Room) for name in vars(one) if not name.startswith("_")}

    assert {name for name in names - inner - of_clients if not re.search(rf"\b{name}\b", README)} == set()


def test_readme_names_every_exception_and_notice() -> None:
    names = [name for name in beaconfire_client.__all__ if name[0].isupper()]
    classes = [name for name in names if inspect.isclass(getattr(beaconfire_client, name))]

    assert [name for name in classes if name not in README] == []
