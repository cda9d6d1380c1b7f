"""The how-to about sending: its commands and its Python are run as written, and their events heard."""

import ast
import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from nats.aio.client import Client

from beaconfire_kit import broker
from beaconfire_kit.roles import Role
from tests.client import SocketClient, answering, open_socket
from tests.docs.imitated_up import running_up, script_of
from tests.docs.tree import RUN_S, Tree, blocks
from tests.e2e.conftest import Line, _line, _nc, _running
from tests.people import Person

__all__ = ["_line", "_nc", "_running"]

PAGE = "docs/howto/send_from_a_service.md"


@pytest.fixture(name="person")
async def _person(line: Line, nc: Client) -> Person:
    """A user who is in the page's two workspaces."""
    person = await line.sign_up("member")
    for room in ("workspace:w1", "workspace:w2"):
        await line.grant(nc, room, person, Role.VIEWER)
    return person


async def texts(client: SocketClient, count: int) -> list[str]:
    """The texts of the next events, without changes of members."""
    found: list[str] = []
    while len(found) < count:
        event = (await client.next("event"))["event"]
        found += [event["payload"]["text"]] if event["type"] != "member_changed" else []
    return found


@pytest.mark.timeout(2 * RUN_S)
async def test_every_way_of_the_page_reaches_its_sessions(
    line: Line, nc: Client, person: Person, tmp_path: Path
) -> None:
    """The commands send to two rooms, twice. Python sends to them and to one session. A request sends to a user."""
    tree = Tree(tmp_path)
    token = await line.service_token("my-service", "workspace.>", "user.*", "user.*.session.*")
    async with open_socket(line.services.gateways[0].url) as one, open_socket(line.services.gateways[1].url) as two:
        await one.connect(person.token, ["workspace:w1", "workspace:w2/team:m1", f"user:{person.id}"])
        ack = await two.connect(person.token, ["workspace:w2/team:m1"])
        with running_up(tree.root, line.services):
            async with answering(one, two):
                said = await asyncio.to_thread(tree.fresh_shell, script_of(PAGE, line.services))
        await run_python(line, nc, token, person, ack["sessionId"])
        answer = await ask_over_nats(nc, token, person)
        heard = await texts(one, 4), await texts(two, 4)

    assert said.count("it is stored nowhere") == 1
    assert heard[0] == ["Back in 5 minutes"] * 3 + ["Saved"]
    assert heard[1] == ["Back in 5 minutes"] * 3 + ["Saved"]
    assert (answer["rooms"], answer["ephemeral"]) == (1, True)


async def run_python(line: Line, nc: Client, token: str, person: Person, session_id: str) -> None:
    """Run the page's Python, with the addresses and the user of this test."""
    [text] = [block.text for block in blocks(PAGE) if block.language == "python"]
    text = text.replace("https://publisher.example", line.services.publisher_url).replace('"u1"', f'"{person.id}"')
    code = compile(text, PAGE, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    async with aiohttp.ClientSession() as http:
        await eval(code, {"nc": nc, "http": http, "service_token": token, "session_id": session_id})


async def ask_over_nats(nc: Client, token: str, person: Person) -> dict[str, Any]:
    """Make the page's request over NATS."""
    [asked] = [json.loads(block.text) for block in blocks(PAGE) if "serviceToken" in block.text]
    asked |= {"serviceToken": token, "to": [f"user:{person.id}"]}
    return dict(json.loads((await nc.request(broker.SEND, json.dumps(asked).encode(), timeout=10)).data))
