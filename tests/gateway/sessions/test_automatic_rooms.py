"""Rooms that a session joins at connect although its client did not ask for them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.process.settings import Settings
from beaconfire_gateway.sessions.automatic_rooms import AutomaticRooms
from beaconfire_gateway.sessions.gateway import Gateway as Core
from beaconfire_gateway.sessions.session import State
from beaconfire_gateway.transports.websocket import WebSocket
from beaconfire_gateway.wire.messages import Connect
from beaconfire_kit.events.user import MemberChanged
from beaconfire_kit.events.workspace import ChatMessage
from beaconfire_kit.settings import read_settings
from beaconfire_kit.tokens import Claims
from tests.client import Closed, SocketClient, open_socket
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway
from tests.gateway.core import open_connection
from tests.gateway.events import publish_as_auth

SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
ALL_WORKSPACES = {"beaconfire.v1": ["user:{sub}", "workspace:*"]}


@pytest.fixture(name="auth")
async def _auth(stream: NatsServer) -> AsyncIterator[FakeAuth]:
    """Auth, with `ann` as a member of two workspaces and a campaign."""
    auth = FakeAuth()
    auth.members = {"ann": {"workspace:w1": "editor", "workspace:w2": "viewer", "campaign:c1": "owner"}}
    async with auth.running(stream):
        yield auth


@asynccontextmanager
async def joining(
    server: NatsServer, auth: FakeAuth, rooms: dict[str, list[str]], **settings: Any
) -> AsyncIterator[tuple[Gateway, SocketClient]]:
    """A gateway with these automatic rooms, and a connection to it."""
    async with (
        running_gateway(server, auth, automatic_rooms=rooms, **settings) as gateway,
        open_socket(gateway.url) as one,
    ):
        yield gateway, one


def message(workspace: str) -> ChatMessage:
    return ChatMessage.model_validate({"workspaceId": workspace, "chatId": "h1", "id": "m1"})


async def test_session_joins_the_rooms_of_its_user_and_hears_them(stream: NatsServer, auth: FakeAuth) -> None:
    async with joining(stream, auth, ALL_WORKSPACES) as (gateway, client):
        ack = await client.connect(auth.token("ann"))
        await gateway.publish(message("w3"))
        await gateway.publish(message("w2"))
        event = await client.next("event")

    assert ack["rooms"] == {room: {"success": True} for room in ("user:ann", "workspace:w1", "workspace:w2")}
    assert event["rooms"][0] == "workspace:w2"


async def test_other_dialects_join_nothing_automatically(stream: NatsServer, auth: FakeAuth) -> None:
    async with joining(stream, auth, {"plain": ["user:{sub}", "workspace:*"]}) as (_, client):
        ack = await client.connect(auth.token("ann"), ["workspace:w1"])

    assert ack["rooms"] == {"workspace:w1": {"success": True}}


async def test_access_decides_about_automatic_rooms_as_about_others(stream: NatsServer, auth: FakeAuth) -> None:
    async with joining(stream, auth, {"beaconfire.v1": ["workspace:w1", "workspace:w9"]}) as (gateway, client):
        ack = await client.connect(auth.token("ann"))
        await gateway.publish(message("w9"))
        await gateway.publish(message("w1"))
        event = await client.next("event")

    assert ack["rooms"]["workspace:w1"] == {"success": True}
    assert ack["rooms"]["workspace:w9"]["error"]["code"] == "forbidden"
    assert event["rooms"][0] == "workspace:w1"


async def test_member_who_is_removed_leaves_an_automatic_room(stream: NatsServer, auth: FakeAuth) -> None:
    async with joining(stream, auth, ALL_WORKSPACES) as (gateway, client):
        await client.connect(auth.token("ann"))
        change = {"rootKind": "workspace", "rootId": "w1", "userId": "ann", "role": None, "membershipVersion": 2}
        await publish_as_auth(gateway, MemberChanged.model_validate(change))
        left = await client.next("room.left")

    assert (left["room"], left["reason"]) == ("workspace:w1", "membership_removed")


async def test_automatic_room_resumes_from_the_cursor_with_the_others(stream: NatsServer, auth: FakeAuth) -> None:
    async with joining(stream, auth, ALL_WORKSPACES) as (gateway, client):
        ack = await client.connect(auth.token("ann"))
        await client.socket.close()
        missed = await gateway.publish(message("w1"))
        async with open_socket(gateway.url) as again:
            await again.connect(auth.token("ann"), cursor=ack["cursor"])
            event = await again.next("event")

    assert event["offset"] == missed


async def test_client_can_leave_an_automatic_room(stream: NatsServer, auth: FakeAuth) -> None:
    async with joining(stream, auth, ALL_WORKSPACES) as (gateway, client):
        await client.connect(auth.token("ann"))
        await client.ask("unsubscribe", rooms=["workspace:w1"])
        await gateway.publish(message("w1"))
        await gateway.publish(message("w2"))
        event = await client.next("event")

    assert event["rooms"][0] == "workspace:w2"


async def test_types_of_a_room_that_the_client_asks_for_count_although_it_is_automatic(
    stream: NatsServer, auth: FakeAuth
) -> None:
    async with joining(stream, auth, ALL_WORKSPACES) as (gateway, client):
        await client.connect(auth.token("ann"), ["workspace:w1"], types={"workspace:w1": ["issue.created"]})
        await gateway.publish(message("w1"))
        await gateway.publish(message("w2"))
        event = await client.next("event")

    assert event["rooms"][0] == "workspace:w2"


async def test_rooms_over_the_limit_are_refused_in_the_ack_and_requested_ones_come_first(
    stream: NatsServer, auth: FakeAuth
) -> None:
    async with joining(stream, auth, ALL_WORKSPACES, max_rooms=2) as (_, client):
        ack = await client.connect(auth.token("ann"), ["campaign:c1"])

    joined = [room for room, answer in ack["rooms"].items() if answer["success"]]
    refused = {room: answer["error"]["code"] for room, answer in ack["rooms"].items() if not answer["success"]}
    assert joined == ["campaign:c1", "user:ann"]
    assert refused == {"workspace:w1": "too_many", "workspace:w2": "too_many"}


async def test_automatic_rooms_count_against_the_rooms_of_a_minute(stream: NatsServer, auth: FakeAuth) -> None:
    async with joining(stream, auth, ALL_WORKSPACES, rooms_per_minute_per_user=5) as (gateway, client):
        await client.connect(auth.token("ann"))
        async with open_socket(gateway.url) as second:
            refusal = await second.connect(auth.token("ann"))
            end = await second.closed()

    assert refusal["code"] == "too_many"
    assert end.code == 4429


async def test_auth_is_asked_again_for_the_roots_of_a_user_only_after_a_change(
    stream: NatsServer, auth: FakeAuth
) -> None:
    change = {"rootKind": "workspace", "rootId": "w2", "userId": "ann", "role": None, "membershipVersion": 2}
    async with joining(stream, auth, {"beaconfire.v1": ["workspace:*"]}) as (gateway, client):
        await client.connect(token := auth.token("ann"))
        async with open_socket(gateway.url) as again:
            same = await again.connect(token)
        asked = [question for question in auth.asked if "rootsOf" in question]
        del auth.members["ann"]["workspace:w2"]
        auth.version = 2
        await publish_as_auth(gateway, MemberChanged.model_validate(change))
        await client.next("room.left")
        async with open_socket(gateway.url) as later:
            fewer = await later.connect(token)

    assert len(asked) == 1
    assert list(same["rooms"]) == ["workspace:w1", "workspace:w2"]
    assert list(fewer["rooms"]) == ["workspace:w1"]


async def test_revoked_user_joins_nothing(stream: NatsServer, auth: FakeAuth) -> None:
    auth.revoked.add("ann")
    async with joining(stream, auth, ALL_WORKSPACES) as (_, client):
        with pytest.raises(Closed) as refused:
            await client.connect(auth.token("ann"))

    assert refused.value.code == 4401


async def test_root_that_the_answer_of_auth_does_not_have_yet_is_joined(stream: NatsServer, auth: FakeAuth) -> None:
    """The gateway has heard that the user became a member, but auth's first answer is older than that."""
    change = {"rootKind": "workspace", "rootId": "w3", "userId": "ann", "role": "editor", "membershipVersion": 7}
    async with joining(stream, auth, {"beaconfire.v1": ["workspace:*"]}) as (gateway, client):
        auth.members["bob"] = {"workspace:w3": "owner"}
        async with open_socket(gateway.url) as bob:
            await bob.connect(auth.token("bob"))
            await publish_as_auth(gateway, MemberChanged.model_validate(change))
            await bob.next("event")  # so the gateway knows that ann is a member
        honest = auth.answer

        def late(question: dict[str, Any]) -> dict[str, Any] | None:
            answer = honest(question)
            auth.members["ann"]["workspace:w3"], auth.version = "editor", 7  # as of the next question
            return answer

        auth.answer = late
        ack = await client.connect(auth.token("ann"))

    assert "workspace:w3" in ack["rooms"]


def outside(tmp_path: Path, **more: Any) -> dict[str, Any]:
    path = tmp_path / "secret"
    path.write_text(SECRET)
    return {"name": "shop", "issuer": "shop", "audience": "beaconfire", "secretFiles": [str(path)], **more}


async def test_claim_of_an_outside_issuers_token_names_a_room_that_access_still_decides_about(
    stream: NatsServer, auth: FakeAuth, tmp_path: Path
) -> None:
    issuer = outside(tmp_path, automaticRooms=["workspace:{claims.workspaceIds}"], requireTyp=False)
    auth.members["shop-alice"] = {"workspace:w1": "viewer"}
    token = jwt.encode({**_claims(auth), "workspaceIds": ["w1", "w2", "w1/user:bob"]}, SECRET, algorithm="HS256")
    async with joining(stream, auth, {}, outside_issuers=(issuer,)) as (gateway, client):
        ack = await client.connect(token)
        async with open_socket(gateway.url) as other:
            own = await other.connect(auth.token("ann"))

    assert ack["rooms"]["workspace:w1"] == {"success": True}
    assert ack["rooms"]["workspace:w2"]["error"]["code"] == "forbidden"
    assert len(ack["rooms"]) == 2
    assert own["rooms"] == {}


def _claims(auth: FakeAuth) -> dict[str, Any]:
    own = jwt.decode(auth.token("alice"), options={"verify_signature": False})
    return {"iss": "shop", "aud": "beaconfire", "sub": "alice", "iat": own["iat"], "exp": own["exp"]}


REFUSED = [
    ('["user:{sub}"]', "valid dictionary"),
    ("user:{sub}", "not a JSON object"),
    ('{"native": ["user:{sub}"]}', "is not a dialect"),
    ('{"plain": ["user:{name}"]}', "means nothing"),
    ('{"plain": ["auth:*"]}', "no root has the kind"),
]


@pytest.mark.parametrize(("text", "why"), REFUSED)
def test_setting_that_can_never_match_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, why: str
) -> None:
    monkeypatch.setenv("BEACONFIRE_ENVIRONMENT", "development")
    monkeypatch.setenv("BEACONFIRE_AUTOMATIC_ROOMS", text)
    with pytest.raises(SystemExit):
        read_settings(Settings)

    said = capsys.readouterr().err
    assert said.startswith("BEACONFIRE_AUTOMATIC_ROOMS")
    assert why in said


def test_realtime_namespace_joins_user_and_workspaces_unless_the_setting_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BEACONFIRE_ENVIRONMENT", "development")
    by_default = read_settings(Settings).automatic_rooms
    monkeypatch.setenv("BEACONFIRE_AUTOMATIC_ROOMS", json.dumps({"plain": ["user:{sub}"]}))
    chosen = read_settings(Settings).automatic_rooms

    assert by_default == {"socketio:/realtime": ("user:{sub}", "workspace:*")}
    assert chosen == {"plain": ("user:{sub}",)}


class Known(WebSocket):
    """A session that its gateway recognises: it was in this room before."""

    async def recognise(self, claims: Claims, request: Connect) -> Connect:
        return replace(request, rooms=["campaign:before"])


async def test_recognised_session_keeps_the_rooms_that_it_had_and_joins_no_others(core: Core) -> None:
    core.automatic_rooms = AutomaticRooms({"beaconfire.v1": ["campaign:automatic"]}, {})
    new, known = open_connection(core), open_connection(core, made=Known)
    for one in (new, known):
        core.handle(one, Connect(1, token="ann"))
        while one.state is State.CONNECTING:
            await asyncio.sleep(0)

    assert list(new.rooms) == ["campaign:automatic"]
    assert list(known.rooms) == ["campaign:before"]
