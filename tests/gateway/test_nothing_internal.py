"""No message to a client contains details of the services behind the gateway, or of other users (T18)."""

import asyncio
import json
import re
from typing import Any, get_args

import aiohttp

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.wire.messages import Event, Message
from beaconfire_kit.events.workspace import UserTyping
from beaconfire_kit.roles import Role
from tests.client import Closed, SocketClient, open_socket
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway, settlement
from tests.gateway.events import BODY, member, publish_as_auth, raw_publish

INTERNAL = re.compile(
    r"nats|_inbox|\$js|jetstream|deadletter|auth\.authorize|live\.|campaign\.c1|workspace\.w1|ephemeral\."
    r"|traceback|exception|error: |file \"|\.py\b|/work|/services|/shared|site-packages"
    r"|aiohttp|uvloop|python|pydantic|errors\.pydantic|asyncio|127\.0\.0\.1|localhost|bob-8|<[\w.]+ object",
    re.IGNORECASE,
)
KINDS = {one.TYPE for one in (*get_args(Message), Event)}


def told(frame: dict[str, Any]) -> str:
    """The frame without what publishers wrote: that is their own."""
    return json.dumps({name: value for name, value in frame.items() if name not in ("event", "events")})


async def provoke(client: SocketClient, *texts: str) -> None:
    """Send what cannot be used, and wait until each was answered."""
    for text in texts:
        await client.socket.send_str(text)
    for _ in texts:
        await client.next("error", "reply")


async def broken_answer(gateway: Gateway, user: str) -> tuple[int | None, str]:
    """How a session ends when auth answers what the gateway cannot read: a fault on our side."""
    gateway.auth.answer = lambda question: {
        "version": 1,
        "rooms": {name: {"allowed": True, "root": "no root", "role": "viewer"} for name in question["rooms"]},
    }
    async with open_socket(gateway.url) as client:
        try:
            await client.connect(gateway.auth.token(user), ["campaign:c1"])
        except Closed as end:
            return end.code, end.reason
        finally:
            gateway.auth.answer = gateway.auth.decide
    raise AssertionError("it was not closed")


async def test_no_kind_of_frame_contains_internals_or_another_users_data(stream: NatsServer, auth: FakeAuth) -> None:
    """Every kind is provoked, errors and failures of our own included."""
    auth.members |= {
        "alice-7": {"campaign:c1": "viewer", "workspace:w1": "viewer"},
        "bob-8": {"campaign:c1": "owner", "workspace:w1": "owner"},
    }
    ends: list[tuple[int | None, str]] = []
    rooms = ["campaign:c1", "campaign:c1/settlement:s1", "workspace:w1", "campaign:c2", "user:bob-8", "no room"]
    running = running_gateway(stream, auth, messages_per_minute=15, stop_timeout_s=1)
    gateway = await running.__aenter__()
    async with (
        open_socket(gateway.url) as alice,
        open_socket(gateway.url) as resuming,
        open_socket(gateway.url) as expiring,
        open_socket(gateway.url) as bob,
    ):
        other = await bob.connect(auth.token("bob-8"), ["campaign:c1", "workspace:w1", "user:bob-8"])
        ack = await alice.connect(auth.token("alice-7"), rooms, cursor="another:5")
        await expiring.connect(auth.token("alice-7", ttl_s=3))
        await gateway.publish(settlement(), user_id="bob-8")
        await alice.next("event")
        await resuming.connect(auth.token("alice-7"), rooms, cursor=ack["cursor"])
        await resuming.next("position")
        typing = UserTyping(workspace_id="w1", target_kind="chat", target_id="h1", user_id="bob-8", typing=True)
        body = {**BODY, "type": "user.typing", "payload": typing.model_dump(mode="json")}
        await raw_publish(gateway, typing.full_subject(), json.dumps(body).encode())
        await raw_publish(gateway, "campaign.c1.settlement.s1", b"garbage")
        await alice.ask("subscribe", rooms=["campaign:c1/settlement:s1"], cursor=ack["cursor"], presence=True)
        await resuming.ask("presence", status="busy")
        await alice.next("presence")
        await resuming.ask("typing", room="campaign:c1")
        await alice.next("typing")
        await resuming.ask("select", room="campaign:c1", items=["settlement:s1"])
        await alice.next("selection")
        await alice.ask("subscribe", rooms=["campaign:c1"], types=["no_such_type"])
        await alice.ask("refresh", token="nonsense")
        await provoke(alice, "{", "[]", '{"type":"nonsense","id":1}', '{"type":"subscribe","id":2,"rooms":[[]]}')
        auth.answer = lambda _question: {"error": {"code": "internal", "message": "see the log"}}
        await alice.ask("subscribe", rooms=["campaign:c1/settlement:s2"])
        auth.answer = auth.decide
        for _ in range(10):
            await alice.send("ping")
        await alice.next("error")
        await publish_as_auth(gateway, member("alice-7", Role.EDITOR, version=2))
        await alice.next("role.changed")
        await publish_as_auth(gateway, member("alice-7", None, version=3))
        await alice.next("room.left")
        await expiring.next("token.expiring")
        ends.append(await ended(expiring))
        ends.append(await broken_answer(gateway, "bob-8"))
        stream.freeze()
        await alice.next("degraded")
        stream.thaw()
        await alice.next("live")
        async with aiohttp.ClientSession() as http:
            answers = [
                await answer_of(http, f"{gateway.url}{path}")
                for path in ("/ws", "/metrics", "/api/v1/ws/stats", "/nowhere", "/client/../settings.py", "/client/x")
            ]
        stopping = asyncio.create_task(running.__aexit__(None, None, None))
        ends.append(await ended(alice))
        await stopping

    frames = [*alice.frames, *expiring.frames, *resuming.frames]
    assert {frame["type"] for frame in frames} == KINDS
    assert {code for code, _ in ends} == {4401, 4500, 4503}
    assert [status for status, _ in answers] == [400, 404, 404, 404, 404, 404]
    texts = [*map(told, frames), *(reason for _, reason in ends), *(text for _, text in answers)]
    assert [text for text in texts if INTERNAL.search(text.replace("user:bob-8", ""))] == []
    assert [text for text in texts if other["sessionId"] in text] == []


async def ended(client: SocketClient) -> tuple[int | None, str]:
    async with asyncio.timeout(15):
        end = await client.closed()
    return end.code, end.reason


async def answer_of(http: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    """Status, headers and body of an HTTP answer."""
    async with http.get(url) as answer:
        return answer.status, f"{dict(answer.headers)} {await answer.text()}"
