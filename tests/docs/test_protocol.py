"""PROTOCOL.md describes what a gateway accepts and sends: its interfaces, its examples, its list of messages."""

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic.alias_generators import to_camel

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.wire import messages
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.events.workspace import UserTyping
from beaconfire_kit.resync import ResyncReason
from beaconfire_kit.roles import Role
from tests.architecture.sources import ROOT
from tests.client import SocketClient, open_socket
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, _auth, _gateway, running_gateway, settlement  # noqa: F401  (its fixtures)
from tests.gateway.events import member, publish_as_auth
from tests.javascript import check_types, node

PAGE = (ROOT / "PROTOCOL.md").read_text()
REQUESTS = {one.TYPE for one in get_args(messages.Request)}
MESSAGES = {one.TYPE for one in get_args(messages.Message)} | {messages.Event.TYPE}
ROOMS = ["campaign:c1", "campaign:c1/settlement:s1"]
INNER = {"presence_in"}
"""Fields that no message has: a recovered Socket.IO session is given them from its record."""


def chapter(number: int) -> str:
    """The text of `## <number>. …`."""
    return PAGE.split(f"\n## {number}. ")[1].split("\n## ")[0]


def sections(number: int) -> dict[str, str]:
    """The sections of a chapter that describe messages, by their headings."""
    parts = (part.partition("\n") for part in chapter(number).split("\n### ")[1:])
    return {heading: text for heading, _, text in parts if "```ts\n" in text}


def blocks(language: str, text: str = PAGE) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def examples(number: int) -> list[dict[str, Any]]:
    """The examples of a chapter's messages: one JSON object on each line."""
    return [json.loads(line) for block in blocks("json", chapter(number)) for line in block.splitlines()]


def spoken(arrow: str) -> list[dict[str, Any]]:
    """The messages of the client (`→`) or of the gateway (`←`) in the session that opens the page."""
    lines = [line for block in blocks("text") for line in block.splitlines()]
    return [json.loads(line.removeprefix(arrow)) for line in lines if line.startswith(arrow)]


def described(number: int) -> set[str]:
    """The types of the messages that the interfaces of a chapter describe."""
    return {one for text in sections(number).values() for one in re.findall(r'^  type: "(.+)";$', text, re.MULTILINE)}


def check_messages(folder: Path, kind: str, all_of_them: list[dict[str, Any]]) -> None:
    """Check messages against the page's interfaces, as the TypeScript compiler sees them."""
    (folder / "messages.d.ts").write_text((ROOT / "clients/js/src/messages.d.ts").read_text())
    constants = "".join(f"export const m{i}: {kind} = {json.dumps(one)};\n" for i, one in enumerate(all_of_them))
    (folder / "examples.ts").write_text(f'import type {{ {kind} }} from "./messages.d.ts";\n{constants}')
    check_types(folder / "examples.ts")


def shape(value: Any) -> Any:
    """A value with its texts and numbers left out."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items()}
    return [shape(one) for one in value] if isinstance(value, list) else type(value).__name__


def test_protocol_page_describes_every_message_type_and_no_other() -> None:
    assert described(4) == REQUESTS
    assert described(5) == MESSAGES


@pytest.mark.parametrize("request_type", get_args(messages.Request), ids=lambda one: one.TYPE)
def test_every_field_of_a_request_is_described(request_type: type) -> None:
    """The interface of a message from clients has the fields that gateways read, and no others."""
    (interface,) = blocks("ts", sections(4)[request_type.TYPE])  # type: ignore[attr-defined]

    assert re.findall(r"^  (\w+)\??: ", interface, re.MULTILINE)[1:] == [
        to_camel(one.name) for one in fields(request_type) if one.name not in INNER
    ]


@pytest.mark.parametrize(
    ("number", "direction", "types"), [(4, "Client → gateway", REQUESTS), (5, "Gateway → client", MESSAGES)]
)
def test_protocol_page_has_a_section_for_every_message(number: int, direction: str, types: set[str]) -> None:
    """A section has its type as heading, its direction, its interface and an example of each of its types."""
    headings = {word for heading in sections(number) for word in heading.split(" and ")}
    assert headings == types

    for heading, text in sections(number).items():
        assert text.lstrip().startswith(f"**{direction}**"), heading
        shown = {json.loads(line)["type"] for block in blocks("json", text) for line in block.splitlines()}
        assert shown == set(heading.split(" and "))


def test_protocol_page_describes_every_resync_reason() -> None:
    """Each reason stands with the client's action."""
    for reason in ResyncReason:
        assert f"| `{reason}` | {reason.meaning} | {reason.client} |" in sections(5)["resync"]


def test_protocol_pages_examples_match_its_interfaces(tmp_path: Path) -> None:
    check_messages(tmp_path, "ClientMessage", examples(4) + spoken("→"))
    check_messages(tmp_path, "GatewayMessage", examples(5) + spoken("←"))


async def test_gateway_accepts_every_client_message_of_the_protocol_page(gateway: Gateway) -> None:
    token = gateway.auth.token("viewer")
    gateway.auth.members["viewer"]["workspace:w1"] = "viewer"
    for example in examples(4) + spoken("→"):
        async with open_socket(gateway.url) as client:
            if example["type"] != "connect":
                await client.connect(token, [example["room"]] if "room" in example else [])
            message = {name: token if name == "token" else value for name, value in example.items()}
            await client.socket.send_json(message)
            answer = await client.next("connection.ack", "reply", "error")
            while answer["id"] != example["id"]:
                answer = await client.next("reply", "error")

        assert answer["type"] != "error"
        assert answer.get("success", True)


async def provoke(gateway: Gateway, client: SocketClient) -> None:
    """Make the gateway send this client everything that it sends, except what comes when it stops."""
    auth = gateway.auth
    ack = await client.connect(
        auth.token("viewer", ttl_s=20), ["campaign:c1", "campaign:c9", "workspace:w1", "nonsense"]
    )
    await gateway.publish(settlement())
    await client.next("event")
    await client.ask("subscribe", rooms=["campaign:c1/settlement:s1"], cursor=ack["cursor"])
    await client.ask("subscribe", rooms=["campaign:c1/settlement:s2"], cursor="nonsense")
    await client.ask("subscribe", rooms=["campaign:c1"], types=["nonsense"])
    await client.ask("subscribe", rooms=["campaign:c1/settlement:s1"], presence=True)
    await client.ask("presence", status="away")
    await client.next("presence")
    async with open_socket(gateway.url) as other:
        await other.connect(auth.token("editor"), ["campaign:c1"])
        await other.ask("typing", room="campaign:c1")
    await client.next("typing")
    async with open_socket(gateway.url) as same_user:
        await same_user.connect(auth.token("viewer"), ["campaign:c1"])
        await same_user.ask("select", room="campaign:c1", items=["settlement:s1"])
    await client.next("selection")
    await client.ask("unsubscribe", rooms=["campaign:c1/settlement:s1"])
    await client.ask("refresh", token="nonsense")
    await client.ask("ping")
    await client.socket.send_str("nonsense")
    typing = UserTyping(workspace_id="w1", target_kind="chat", target_id="h1", user_id="u2", typing=True)
    await gateway.publisher.publish(typing.full_subject(), Envelope(typing, Metadata(source="api")).encode())
    while "offset" in await client.next("event"):
        pass
    await publish_as_auth(gateway, member("viewer", Role.EDITOR))
    await client.next("role.changed")
    gateway.server.kill()
    await client.next("degraded")
    gateway.server.start()
    await client.next("live")
    await publish_as_auth(gateway, member("viewer", None, version=3))
    await client.next("room.left")
    await client.next("position")
    await client.next("token.expiring")


async def test_gateway_sends_every_message_of_the_protocol_page_as_described(
    stream: NatsServer, auth: FakeAuth, tmp_path: Path
) -> None:
    auth.members["viewer"]["workspace:w1"] = "viewer"
    running = running_gateway(stream, auth, heartbeat_s=1, stop_timeout_s=1)
    gateway = await running.__aenter__()
    stopping = None
    try:
        async with open_socket(gateway.url) as client:
            await provoke(gateway, client)
            stopping = asyncio.create_task(running.__aexit__(None, None, None))
            await client.next("goaway")
    finally:
        await (stopping or running.__aexit__(None, None, None))

    assert {frame["type"] for frame in client.frames} == MESSAGES
    check_messages(tmp_path, "GatewayMessage", client.frames)


def gateway_says() -> Iterator[dict[str, Any]]:
    """The gateway's messages in the page's session, except the heartbeat's `position`."""
    return (one for one in spoken("←") if one["type"] != "position")


async def test_session_at_the_top_of_the_protocol_page_runs_as_shown(gateway: Gateway) -> None:
    """Ack, event, ack, and the missed event."""
    first, second = spoken("→")
    token, heard = gateway.auth.token("viewer"), []
    async with open_socket(gateway.url) as client:
        await client.socket.send_json({**first, "token": token})
        heard.append(ack := await client.next("connection.ack"))
        offset = await gateway.publish(settlement("s1", "c1", "level"), user_id="u2")
        heard.append(event := await client.next("event"))
        epoch = ack["cursor"].partition(":")[0]
    await gateway.publish(settlement("s1", "c1", "population"), user_id="u2")
    async with open_socket(gateway.url) as client:
        resumed = {"token": token, "cursor": f"{epoch}:{offset}", "replaces": ack["sessionId"]}
        await client.socket.send_json({**second, **resumed})
        heard += [await client.next("connection.ack"), await client.next("event")]

    assert event["offset"] == offset
    assert [shape(one) for one in heard] == [shape(one) for one in gateway_says()]
    for real, shown in zip(heard, gateway_says(), strict=True):
        if real["type"] == "event":
            assert real["rooms"] == shown["rooms"] == ROOMS
            assert real["event"]["payload"] == shown["event"]["payload"]


async def test_code_at_the_top_of_the_protocol_page_runs_in_node(gateway: Gateway) -> None:
    """Only token and address are replaced."""
    (code,) = blocks("js", PAGE.split("\n## 1. ")[0])
    token = re.search(r'"(eyJ.+?)"', code)
    assert token is not None
    url = gateway.url.replace("http", "ws")
    code = code.replace(token[1], gateway.auth.token("viewer")).replace("ws://127.0.0.1:8080", url)
    process = await asyncio.create_subprocess_exec(node(), "-e", code, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            ack = json.loads(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()

    assert ack["type"] == "connection.ack"
    assert ack["rooms"] == {"campaign:c1": {"success": True}}
