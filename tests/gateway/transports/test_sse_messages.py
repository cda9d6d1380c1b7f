"""What clients of event streams say, at the gateway of their stream and at another one."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.transports.sse_messages import MAX_BYTES, MAX_MESSAGES
from tests.client import open_socket
from tests.conftest import connected
from tests.event_streams import open_stream
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway
from tests.gateway.presence.watchers import watching
from tests.gateway.workers import running_workers

ROOM = "campaign:c1"
PING = {"type": "ping", "id": 1}


@pytest.fixture(name="pair", params=["handover", "aiohttp"])
async def _pair(
    stream: NatsServer, auth: FakeAuth, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[Gateway, Gateway]]:
    """Two gateways on one broker. The first has the streams."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(running_gateway(stream, auth, transport=request.param))
        yield first, await stack.enter_async_context(running_gateway(stream, auth))


async def say(gateway: Gateway, token: str, session_id: str, *messages: object) -> tuple[int, dict[str, Any]]:
    """Post messages for a stream. Returns the status and the answer."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    body = {"sessionId": session_id, "messages": messages}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{gateway.url}/sse/messages", json=body, headers=headers) as answer,
    ):
        return answer.status, await answer.json()


async def test_stream_is_given_what_its_client_says_at_any_gateway(pair: tuple[Gateway, Gateway]) -> None:
    """The answers come in the stream, in order. Another user sees the status and the typing."""
    first, second = pair
    token = first.auth.token("editor")
    async with watching(second) as (client, seen), open_stream(first.url, token, rooms=ROOM) as stream:
        session_id = (await stream.ack())["sessionId"]
        await seen.until(client, {"viewer": ("online", 1), "editor": ("online", 1)})
        said = [
            await say(second, token, session_id, {"type": "presence", "id": 1, "status": "away"}, PING | {"id": 2}),
            await say(first, token, session_id, {"type": "typing", "id": "t", "room": ROOM}),
            await say(second, token, session_id, {"type": "select", "id": 4, "room": ROOM, "items": ["a"]}),
        ]
        replies = [(await stream.next("reply")).json for _ in range(4)]
        typing = await client.next("typing")
        await seen.until(client, {"viewer": ("online", 1), "editor": ("away", 1)})

    assert said == [(202, {})] * 3
    assert [(one["id"], one["success"]) for one in replies] == [(1, True), (2, True), ("t", True), (4, True)]
    assert typing["userId"] == "editor"


async def test_message_that_cannot_be_used_is_answered_in_the_stream(pair: tuple[Gateway, Gateway]) -> None:
    """As on a WebSocket: a malformed one, a room that the stream is not in, and one over the limit."""
    first, second = pair
    token = first.auth.token("editor")
    async with open_stream(first.url, token, rooms=ROOM) as stream:
        session_id = (await stream.ack())["sessionId"]
        for message in ({"type": "presence", "id": 1, "status": "asleep"}, {"type": "typing", "id": 2, "room": "x:1"}):
            await say(second, token, session_id, message)
        malformed, forbidden = (await stream.next("error")).json, (await stream.next("reply")).json
        for _ in range(5):
            await say(first, token, session_id, *[PING] * MAX_MESSAGES)
        over = (await stream.next("error")).json

    assert (malformed["id"], malformed["code"]) == (1, "bad_request")
    assert (forbidden["id"], forbidden["error"]["code"]) == (2, "forbidden")
    assert (over["code"], over["retryAfterMs"] > 0) == ("too_many", True)


async def test_only_the_user_of_a_stream_can_speak_for_it(pair: tuple[Gateway, Gateway]) -> None:
    """Whatever else a session id names: a WebSocket of the user, a gateway that is gone, nothing."""
    first, second = pair
    token = first.auth.token("editor")
    async with open_stream(first.url, token, rooms=ROOM) as stream, open_socket(first.url) as socket:
        session_id = (await stream.ack())["sessionId"]
        of_socket = (await socket.connect(token))["sessionId"]
        unknown = [session_id[:-1] + "x", f"{'a' * 16}-{'b' * 16}", of_socket, "", "nonsense"]
        refused = [await say(gateway, token, one, PING) for gateway in pair for one in unknown]
        refused += [await say(gateway, first.auth.token("owner"), session_id, PING) for gateway in pair]
        await say(second, token, session_id, {"type": "ping", "id": 5})
        reply = await stream.next("reply")

    assert [(status, body["error"]["code"]) for status, body in refused] == [(404, "not_found")] * 12
    assert "sessionId" in refused[0][1]["error"]["message"]
    assert reply.json["id"] == 5


@pytest.mark.parametrize(
    ("messages", "status", "text"),
    [
        (
            [{"type": "subscribe", "id": 1, "rooms": [ROOM]}],
            400,
            "messages.0.type: 'subscribe' is not one of the types ping, presence, select, typing",
        ),
        ([PING, {"id": 1}], 400, "messages.1.type: '' is not one of the types"),
        (["ping"], 400, "messages.0"),
        ([], 400, "messages"),
        ([PING] * (MAX_MESSAGES + 1), 400, "messages"),
        ([PING | {"padding": "x" * 17_000}], 413, "and a message may have 16384"),
        ([PING | {"padding": "x" * (MAX_BYTES // 5)}] * 4 + [PING | {"padding": "x" * (MAX_BYTES // 5)}], 413, ""),
    ],
)
async def test_body_that_cannot_be_used_is_refused(
    gateway: Gateway, messages: list[object], status: int, text: str
) -> None:
    found, body = await say(gateway, gateway.auth.token("editor"), "none", *messages)

    assert (found, text in body["error"]["message"]) == (status, True)


async def test_bad_tokens_are_refused_and_counted_and_pages_of_other_origins_may_say_nothing(
    stream: NatsServer, auth: FakeAuth
) -> None:
    async with running_gateway(stream, auth, attempts_per_minute_address=2) as gateway, aiohttp.ClientSession() as http:
        statuses = [(await say(gateway, token, "none", PING))[0] for token in ("", "bad", "bad", "bad")]
        good = await say(gateway, auth.token("editor"), "none", PING)
        body = {"sessionId": "none", "messages": [PING]}
        headers = {"Origin": "https://evil.example", "Authorization": f"Bearer {auth.token('editor')}"}
        async with http.post(f"{gateway.url}/sse/messages", json=body, headers=headers) as answer:
            foreign = answer.status

    assert statuses == [401, 401, 401, 429]
    assert (good[0], foreign) == (404, 403)


async def test_user_who_posts_for_nothing_is_stopped_by_the_limit_on_messages(
    stream: NatsServer, auth: FakeAuth
) -> None:
    """Each such request may cost a question to another process."""
    async with running_gateway(stream, auth, messages_per_minute_per_user=3) as gateway:
        statuses = [(await say(gateway, auth.token("editor"), "none", PING))[0] for _ in range(4)]

    assert statuses == [404, 404, 404, 429]


async def test_stream_hears_its_client_at_whichever_worker_the_messages_arrive(
    stream: NatsServer, auth: FakeAuth, tmp_path: Path
) -> None:
    """The stream belongs to one of two workers. Both get messages, because each comes on a connection of its own."""
    async with running_workers(stream, auth, tmp_path) as workers:
        url, token = workers.process.url, auth.token("editor")
        async with open_stream(url, token, rooms=ROOM) as client:
            session_id = (await client.ack())["sessionId"]
            headers, messages = {"Authorization": f"Bearer {token}"}, list[dict[str, Any]]()
            while len(await workers.samples("beaconfire_gateway_relayed_questions_total")) == 0 or len(messages) < 3:
                messages.append(PING | {"id": len(messages)})
                body = {"sessionId": session_id, "messages": messages[-1:]}
                async with (
                    aiohttp.ClientSession(headers=headers) as http,
                    http.post(f"{url}/sse/messages", json=body) as answer,
                ):
                    assert answer.status == 202
            replies = [(await client.next("reply")).json["id"] for _ in messages]

    assert replies == [one["id"] for one in messages]


async def test_question_of_a_stranger_with_a_gateways_password_is_not_answered(
    pair: tuple[Gateway, Gateway], stream: NatsServer
) -> None:
    """Its answer would have to go to a gateway. A question without sense gets none, and breaks nothing."""
    first, second = pair
    token = first.auth.token("editor")
    async with open_stream(first.url, token, rooms=ROOM) as client, connected(stream, "gateway") as stranger:
        session_id = (await client.ack())["sessionId"]
        process = session_id.rpartition("-")[2]
        forged = {"user": "editor", "session": session_id, "messages": ['{"type": "ping", "id": "forged"}']}
        subject = f"$BEACONFIRE.gateway.{process}.ask.stream"
        await stranger.publish(subject, json.dumps(forged).encode(), reply="_INBOX.x")
        await stranger.publish(subject, b"nonsense", reply=f"$BEACONFIRE.gateway.{'c' * 16}.answer.{'d' * 32}")
        await stranger.flush()
        await say(second, token, session_id, PING)
        reply = await client.next("reply")

    assert reply.json["id"] == 1
