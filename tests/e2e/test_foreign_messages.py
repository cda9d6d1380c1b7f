"""The workspace's and the tracker's own messages reach a socket byte for byte, published over NATS and over HTTP."""

import asyncio
import json
from dataclasses import replace

import pytest
from nats.aio.client import Client

from beaconfire_kit import broker
from beaconfire_kit.roles import Role
from tests.client import SocketClient, open_socket
from tests.e2e.conftest import Line
from tests.foreign_messages import STORED, TYPING, USER, Message
from tests.people import Person

PATIENCE_S = 60.0
METADATA = '{"timestamp": "2026-11-21T10:00:00Z", "source": "theirs", "correlationId": "req-9"}'


async def member(line: Line, nc: Client) -> Person:
    """A user who hears everything that the messages are about."""
    person = await line.sign_up("member")
    await line.grant(nc, "workspace:w-theirs", person, Role.VIEWER)
    return person


def addressed_to(person: Person, message: Message) -> Message:
    """Return the message with the user's id in its subject."""
    return replace(message, subject=message.subject.replace(USER, f"user.{person.id}"))


def body(message: Message, id_: str) -> str:
    """The message as its publisher writes it."""
    event = f'"id": "{id_}", "type": "{message.type}", "version": 1'
    return f'{{{event}, "payload": {message.payload}, "metadata": {METADATA}}}'


async def heard(client: SocketClient, count: int) -> list[str]:
    """The text of the next event frames. The membership that was just granted may be heard before them."""
    texts: list[str] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(texts) < count:
            text = await client.socket.receive_str()
            frame = json.loads(text)
            texts += [text] if frame["type"] == "event" and frame["event"]["type"] != "member_changed" else []
    return texts


async def test_their_messages_over_nats_reach_a_socket_byte_for_byte(line: Line, nc: Client) -> None:
    person = await member(line, nc)
    messages = [addressed_to(person, message) for message in STORED]
    bodies = [body(message, f"theirs-{number}") for number, message in enumerate(messages)]
    async with open_socket(line.services.gateways[0].url) as client:
        await client.connect(person.token, ["workspace:w-theirs", f"user:{person.id}"])
        for number, message in enumerate(messages):
            await broker.publish(nc, message.subject, bodies[number].encode(), message_id=f"theirs-{number}")
        texts = await heard(client, len(messages))

    assert [sent for sent, text in zip(bodies, texts, strict=True) if sent not in text] == []


async def test_their_messages_over_http_reach_a_socket_with_the_same_payload(line: Line, nc: Client) -> None:
    person = await member(line, nc)
    messages = [addressed_to(person, message) for message in STORED]
    token = await line.service_token("theirs", "workspace.w-theirs.>", f"user.{person.id}.notification.*")
    given = ", ".join(
        f'{{"type": "{message.type}", "subject": "{message.subject}", "payload": {message.payload}}}'
        for message in messages
    )
    async with open_socket(line.services.gateways[1].url) as client:
        await client.connect(person.token, ["workspace:w-theirs", f"user:{person.id}"])
        url = f"{line.services.publisher_url}/v1/events"
        answer = await line.call("POST", url, f"[{given}]".encode(), token=token, X_Correlation_Id="req-9")
        texts = sorted(await heard(client, len(messages)))

    assert [one["error"] for one in answer["events"] if "error" in one] == []
    for message in messages:
        found = [text for text in texts if f'"payload":{message.payload},"metadata"' in text]
        assert any(json.loads(text)["event"]["type"] == message.type for text in found), str(message)
    assert {json.loads(text)["event"]["metadata"]["correlationId"] for text in texts} == {"req-9"}


async def test_their_typing_messages_reach_a_connected_socket_byte_for_byte(line: Line, nc: Client) -> None:
    person = await member(line, nc)
    bodies = [body(message, f"typing-{number}") for number, message in enumerate(TYPING)]
    async with open_socket(line.services.gateways[0].url) as client:
        await client.connect(person.token, ["workspace:w-theirs"])
        for number, message in enumerate(TYPING):
            await nc.publish(message.subject, bodies[number].encode())
        texts = await heard(client, len(bodies))

    assert [sent for sent, text in zip(bodies, texts, strict=True) if sent not in text] == []


@pytest.mark.parametrize("pattern", ["approval.", "agent.", "ai.", "notification."])
async def test_bus_events_reach_the_rooms_of_their_pattern_with_their_correlation_id(
    line: Line, nc: Client, pattern: str
) -> None:
    """Requirement B5: each in the room of the workspace or the user, and in the room of its own item."""
    person = await member(line, nc)
    messages = [addressed_to(person, one) for one in STORED if one.type.startswith(pattern)]
    own_rooms = sorted({room_of(one) for one in messages})
    async with open_socket(line.services.gateways[0].url) as wide, open_socket(line.services.gateways[1].url) as narrow:
        await wide.connect(person.token, ["workspace:w-theirs", f"user:{person.id}"])
        await narrow.connect(person.token, own_rooms)
        for number, message in enumerate(messages):
            id_ = f"{pattern}{number}-{person.id}"
            await broker.publish(nc, message.subject, body(message, id_).encode(), message_id=id_)
        frames = [[json.loads(text) for text in await heard(one, len(messages))] for one in (wide, narrow)]

    for by_socket in frames:
        assert [frame["event"]["type"] for frame in by_socket] == [one.type for one in messages]
        assert [frame["rooms"][-1] for frame in by_socket] == [room_of(one) for one in messages]
        assert {frame["event"]["metadata"]["correlationId"] for frame in by_socket} == {"req-9"}


def room_of(message: Message) -> str:
    """The room of the message's own item."""
    root, root_id, kind, id_ = message.subject.split(".")
    return f"{root}:{root_id}/{kind}:{id_}"
