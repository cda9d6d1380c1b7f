"""The senders in Node reach rooms and sessions over NATS and over HTTP, as those in Python do (tests/e2e)."""

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from beaconfire_kit.roles import Role
from beaconfire_kit.sent_events import session_room
from tests.client import SocketClient, open_socket
from tests.clients.node_service import RUN_S, node_service
from tests.e2e.conftest import Line, _line, _nc, _running
from tests.people import Person
from tests.sending import WAYS, push_notices

__all__ = ["_line", "_nc", "_running"]


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return node_service(tmp_path_factory.mktemp("node"), "sends.mjs")


@pytest.fixture(name="person")
async def _person(line: Line, nc: Client) -> Person:
    """A user who is in two workspaces; and the types that can be sent are in the catalogue."""
    await push_notices(line.services.nats)
    person = await line.sign_up("member")
    for room in ("workspace:w1", "workspace:w2"):
        await line.grant(nc, room, person, Role.VIEWER)
    return person


async def with_node(line: Line, folder: Path, way: str, token: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
    """Make these calls in Node. Returns what each gave."""
    environment = {**os.environ, "CALLS": json.dumps(calls), "TOKEN": token}
    if way == "nats":
        broker = line.services.nats.environment("publisher")
        environment["ADDRESS"] = broker["BEACONFIRE_NATS_URL"]
        environment["NATS_USER"], environment["NATS_PASSWORD"] = "publisher", broker["BEACONFIRE_NATS_PASSWORD"]
    else:
        environment["ADDRESS"] = line.services.publisher_url
    return await run_node(folder, way, environment)


async def run_node(folder: Path, way: str, environment: dict[str, str]) -> dict[str, Any]:
    command = ["node", "sends.mjs", way]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=folder, env=environment, capture_output=True, text=True, timeout=RUN_S
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


async def notices(client: SocketClient, count: int) -> list[dict[str, Any]]:
    """The next events that were sent. The membership that was just granted may be heard before them."""
    frames: list[dict[str, Any]] = []
    while len(frames) < count:
        frame = await client.next("event")
        frames += [frame] if frame["event"]["type"] != "member_changed" else []
    return frames


@pytest.mark.timeout(2 * RUN_S)
@pytest.mark.parametrize("way", WAYS)
async def test_sender_in_node_reaches_several_rooms_a_user_and_one_session_once(
    line: Line, folder: Path, person: Person, way: str
) -> None:
    own = f"user:{person.id}"
    token = await line.service_token("theirs", "workspace.*", f"user.{person.id}", f"user.{person.id}.session.*")
    async with open_socket(line.services.gateways[0].url) as client, open_socket(line.services.gateways[1].url) as two:
        ack = await client.connect(person.token, ["workspace:w1", "workspace:w2"])
        await two.connect(person.token, [own])
        session = session_room(person.id, ack["sessionId"])
        about = {"userId": person.id, "correlationId": "req-7", "audience": ["viewer"], "id": f"from-node-{way}"}
        calls = [
            {"type": "announcement", "payload": {"text": "1"}, "to": ["workspace:w1", "workspace:w2"], **about},
            {"type": "notice", "payload": {"text": "2"}, "to": [session]},
            {"type": "notice", "payload": {"text": "3"}, "to": [own, session]},
            {"type": "notice", "payload": {"text": "4"}, "to": ["user:another"]},
        ]
        said = await with_node(line, folder, way, token, calls)
        mine, others = await notices(client, 3), await notices(two, 1)

    *sent, refused = said["results"]
    assert [one.get("rooms") for one in sent] == [2, 1, 2], said
    assert refused["error"].startswith("NotSent: the publisher refused the event: to: this token may not send")
    assert refused["isTemporary"] is False
    assert [frame["event"]["payload"]["text"] for frame in mine] == ["1", "2", "3"]
    assert [frame["event"]["payload"]["text"] for frame in others] == ["3"]
    metadata = mine[0]["event"]["metadata"]
    assert (mine[0]["event"]["id"], metadata["source"]) == (about["id"], "theirs")
    assert {name: metadata[name] for name in ("userId", "correlationId", "audience")} == {
        name: about[name] for name in ("userId", "correlationId", "audience")
    }
    assert said["room"] == session_room("u1", "s1")


@pytest.mark.timeout(2 * RUN_S)
async def test_sender_in_node_says_that_a_publisher_that_does_not_answer_is_temporary(line: Line, folder: Path) -> None:
    call = {"type": "notice", "payload": {}, "to": ["user:u1"]}
    environment = {**os.environ, "CALLS": json.dumps([call]), "TOKEN": "t", "ADDRESS": "http://127.0.0.1:1"}
    said = await run_node(folder, "http", environment)

    assert said["results"][0]["isTemporary"] is True
