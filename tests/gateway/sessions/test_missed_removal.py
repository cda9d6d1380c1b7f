"""Changes of access that a gateway missed: their events are gone from the stream when it reconnects."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.process.app import Tuning
from beaconfire_gateway.sessions import authorization as authorization_module
from beaconfire_gateway.sessions.authorization import AskingPolicy
from beaconfire_kit import broker
from beaconfire_kit.events.user import AccessRevoked
from beaconfire_kit.roles import Role
from beaconfire_kit.stream_setup import declare_stream
from tests.client import Closed, SocketClient, open_socket
from tests.conftest import connected
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway, settlement
from tests.gateway.events import fence, member, publish_as_auth
from tests.proxy import Proxy

ROOM = "campaign:c1"


@dataclass
class Island:
    """A gateway whose way to the broker can be cut, while auth goes on; and its clients, by name."""

    gateway: Gateway
    route: Proxy
    stack: AsyncExitStack

    @property
    def auth(self) -> FakeAuth:
        return self.gateway.auth

    async def client(self, user: str, *rooms: str, **more: Any) -> SocketClient:
        client = await self.stack.enter_async_context(open_socket(self.gateway.url))
        await client.connect(self.auth.token(user), rooms or (ROOM,), **more)
        return client

    async def call(self, call: str, **body: Any) -> None:
        """Ask the broker for something that an operator may do."""
        async with connected(self.gateway.server, "setup") as setup:
            answer = await setup.request(f"$JS.API.{call}", json.dumps(body).encode())
        assert "error" not in json.loads(answer.data)


@pytest.fixture(name="island")
async def _island(stream: NatsServer, auth: FakeAuth) -> AsyncIterator[Island]:
    async with running_island(stream, auth) as island:
        yield island


@asynccontextmanager
async def running_island(stream: NatsServer, auth: FakeAuth, tuning: Tuning | None = None) -> AsyncIterator[Island]:
    async with AsyncExitStack() as stack:
        route = await stack.enter_async_context(Proxy(stream.port).running())
        gateway = await stack.enter_async_context(
            running_gateway(stream, auth, tuning, nats_url=f"nats://127.0.0.1:{route.port}")
        )
        yield Island(gateway, route, stack)


@pytest.fixture(name="old_island")
async def _old_island(stream: NatsServer, auth: FakeAuth) -> AsyncIterator[Island]:
    """A gateway to which every message is so old that it may be a tick that expired."""
    async with running_island(stream, auth, Tuning(young_s=0.0)) as island:
        yield island


@pytest.fixture(name="impatient_island")
async def _impatient_island(stream: NatsServer, auth: FakeAuth) -> AsyncIterator[Island]:
    """A gateway that soon gives up if auth does not answer."""
    async with running_island(stream, auth, Tuning(asking=AskingPolicy(doubt_s=0.5))) as island:
        yield island


async def purge(island: Island, _offset: int) -> None:
    await island.call("STREAM.PURGE.EVENTS")


async def start_over(island: Island, _offset: int) -> None:
    await island.call("STREAM.DELETE.EVENTS")
    async with connected(island.gateway.server, "setup") as setup:
        await declare_stream(setup)


async def purge_subject(island: Island, offset: int) -> None:
    """Purge the subject of an event, as an operator does to erase the messages about a member."""
    async with connected(island.gateway.server, "setup") as setup:
        answer = await setup.request("$JS.API.STREAM.MSG.GET.EVENTS", json.dumps({"seq": offset}).encode())
    await island.call("STREAM.PURGE.EVENTS", filter=json.loads(answer.data)["message"]["subject"])


async def delete_message(island: Island, offset: int) -> None:
    await island.call("STREAM.MSG.DELETE.EVENTS", seq=offset)


Lose = Callable[[Island, int], Awaitable[None]]
LOSSES = pytest.mark.parametrize("lose", [purge, purge_subject, delete_message, start_over])


def heard(client: SocketClient) -> list[str]:
    """The settlements whose events it was sent."""
    events = [frame["event"] for frame in client.frames if frame["type"] == "event"]
    return [event["payload"]["settlementId"] for event in events if event["type"] == "settlement_updated"]


@LOSSES
async def test_member_whose_removal_was_missed_hears_nothing_published_since(island: Island, lose: Lose) -> None:
    """Members who were not removed hear all of it."""
    removed, stays = await island.client("viewer"), await island.client("owner")
    with island.route.cut_off():
        island.auth.members["viewer"] = {}
        offset = await publish_as_auth(island.gateway, member("viewer", None))
        await lose(island, offset)
        for number in range(3):
            await island.gateway.publish(settlement(f"missed{number}"))
    left = await removed.next("room.left")
    await fence(island.gateway, stays)
    pong = await removed.ask("ping")

    assert (left["room"], left["reason"]) == (ROOM, "membership_removed")
    assert pong["success"] is True
    assert heard(removed) == []
    assert heard(stays)[-1] == "fence"


@pytest.mark.parametrize("lose", [purge_subject, delete_message])
async def test_member_whose_removal_was_missed_among_expired_ticks_hears_nothing_more(
    old_island: Island, lose: Lose
) -> None:
    """Clients are not sent `resync` for offsets that may have been ticks."""
    removed, stays = await old_island.client("viewer"), await old_island.client("owner")
    with old_island.route.cut_off():
        old_island.auth.members["viewer"] = {}
        await lose(old_island, await publish_as_auth(old_island.gateway, member("viewer", None)))
        for number in range(3):
            await old_island.gateway.publish(settlement(f"missed{number}"))
    left = await removed.next("room.left")
    await fence(old_island.gateway, stays)
    await removed.ask("ping")

    assert left["reason"] == "membership_removed"
    assert heard(removed) == []
    assert heard(stays) == ["missed0", "missed1", "missed2", "fence"]
    assert "resync" not in [frame["type"] for frame in stays.frames]


@LOSSES
async def test_session_whose_revocation_was_missed_is_closed_with_4401_in_any_room_or_none(
    island: Island, lose: Lose
) -> None:
    in_room, in_none = await island.client("viewer"), await island.client("editor")
    await in_none.ask("unsubscribe", rooms=[ROOM])
    stays = await island.client("owner")
    with island.route.cut_off():
        island.auth.revoked |= {"viewer", "editor"}
        for user in ("viewer", "editor"):
            revoked = AccessRevoked(
                user_id=user,
                issued_before=datetime.now(UTC) + timedelta(seconds=5),
                reason="signed_out_everywhere",
                membership_version=2,
            )
            offset = await publish_as_auth(island.gateway, revoked)
        await lose(island, offset)
        await island.gateway.publish(settlement("missed"))
    ends = [await client.closed() for client in (in_room, in_none)]
    await fence(island.gateway, stays)

    assert [end.code for end in ends] == [4401, 4401]
    assert heard(in_room) == []
    assert heard(stays)[-1] == "fence"


@LOSSES
async def test_member_whose_demotion_was_missed_is_told_and_hears_nothing_for_the_old_role(
    island: Island, lose: Lose
) -> None:
    lowered, owner = await island.client("editor"), await island.client("owner")
    with island.route.cut_off():
        island.auth.members["editor"] = {ROOM: "viewer"}
        offset = await publish_as_auth(island.gateway, member("editor", Role.VIEWER))
        await lose(island, offset)
        await island.gateway.publish(settlement("secret"), audience=(Role.OWNER, Role.EDITOR))
    changed = await lowered.next("role.changed")
    await island.gateway.publish(settlement("secret"), audience=(Role.OWNER, Role.EDITOR))
    await fence(island.gateway, lowered)
    await fence(island.gateway, owner)

    assert (changed["root"], changed["role"]) == (ROOM, "viewer")
    assert set(heard(lowered)) == {"fence"}
    assert "secret" in heard(owner)


@LOSSES
async def test_remembered_permission_is_not_used_after_a_missed_removal(island: Island, lose: Lose) -> None:
    await island.client("viewer")
    with island.route.cut_off():
        island.auth.members["viewer"] = {}
        await lose(island, await publish_as_auth(island.gateway, member("viewer", None)))
    await (await island.client("owner")).next("event", "position")
    back = await island.client("viewer")

    assert back.ack["rooms"][ROOM]["success"] is False


@LOSSES
async def test_room_joined_by_its_short_name_stays_the_same_room_after_a_gap(island: Island, lose: Lose) -> None:
    roots = {"viewer": "campaign:c1", "owner": "campaign:c1"}

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        root = roots[question["userId"]]
        rooms = {
            name: {"allowed": True, "root": root, "role": "viewer"}
            if name == "settlement:s1" or name.startswith(f"{root}/")
            else {"allowed": False}
            for name in question["rooms"]
        }
        return {"version": 1, "rooms": rooms}

    island.auth.answer = answer
    moved, stays = await island.client("viewer", "settlement:s1"), await island.client("owner", "settlement:s1")
    with island.route.cut_off():
        roots["viewer"] = "campaign:c2"
        await lose(island, await publish_as_auth(island.gateway, member("viewer", None)))
        await island.gateway.publish(settlement("s1"))
    left = await moved.next("room.left")
    offset = await island.gateway.publish(settlement("s1"))
    while (await stays.next("event"))["offset"] != offset:
        pass
    await moved.ask("ping")

    assert (left["room"], left["reason"]) == ("settlement:s1", "membership_removed")
    assert heard(moved) == []


async def test_decision_of_auth_from_before_a_gap_is_asked_again(island: Island) -> None:
    go_on = asyncio.Event()
    stays = await island.client("owner")
    asked = len(island.auth.asked)
    answers = iter([{"campaign:c1": {"allowed": True, "root": "campaign:c1", "role": "viewer"}}])
    decide = island.auth.decide
    island.auth.answer = lambda question: (
        {"version": 1, "rooms": rooms}
        if question["userId"] == "viewer" and (rooms := next(answers, None)) is not None
        else decide(question)
    )
    island.auth.before_answer = go_on.wait  # type: ignore[assignment]
    client = await island.stack.enter_async_context(open_socket(island.gateway.url))
    await client.send("connect", token=island.auth.token("viewer"), rooms=[ROOM])
    while len(island.auth.asked) == asked:
        await asyncio.sleep(0)
    island.auth.members["viewer"] = {}
    await start_over(island, 0)
    await stays.next("resync")
    go_on.set()
    ack = await client.next("connection.ack")

    assert ack["rooms"][ROOM]["success"] is False


async def test_sessions_hear_nothing_after_a_gap_until_auth_answers_and_then_everything_in_order(
    island: Island,
) -> None:
    stays = await island.client("owner")
    island.auth.answer = lambda _question: None
    asked = len(island.auth.asked)
    with island.route.cut_off():
        await purge(island, await island.gateway.publish(settlement("lost")))
    await stays.next("resync")
    offsets = [await island.gateway.publish(settlement(f"s{number}")) for number in range(3)]
    while len(island.auth.asked) < asked + 2:  # the first question has run out of time
        await asyncio.sleep(0.01)
    before = heard(stays)
    island.auth.answer = island.auth.decide
    events = [await stays.next("event") for _ in offsets]

    assert before == []
    assert [event["offset"] for event in events] == offsets


async def test_sessions_leave_their_rooms_if_auth_does_not_answer_after_a_gap(impatient_island: Island) -> None:
    """Clients learn from the reason that they should ask again, and with their cursor they miss nothing."""
    clients = [await impatient_island.client(user) for user in ("owner", "editor", "viewer")]
    impatient_island.auth.answer = lambda _question: None
    with impatient_island.route.cut_off():
        await purge(impatient_island, await impatient_island.gateway.publish(settlement("lost")))
    resyncs = [await client.next("resync") for client in clients]
    offset = await impatient_island.gateway.publish(settlement("s1"))
    left = [await client.next("room.left") for client in clients]
    impatient_island.auth.answer = impatient_island.auth.decide
    restored, answers = [], []
    for client, resync in zip(clients, resyncs, strict=True):
        await client.send("subscribe", rooms=[ROOM], cursor=resync["cursor"])
        restored.append(await client.next("restored"))
        answers.append(await client.next("reply"))

    assert [one["reason"] for one in left] == ["lease_expired"] * 3
    assert [heard(client) for client in clients] == [[]] * 3
    assert [answer["rooms"][ROOM]["recovered"] for answer in answers] == [True] * 3
    assert [one["events"][0]["offset"] for one in restored] == [offset] * 3


async def test_auth_is_asked_about_a_few_sessions_at_a_time_after_a_gap(island: Island) -> None:
    count = authorization_module.CONFIRMS_AT_ONCE + 5
    island.auth.members |= {f"user{number}": {ROOM: "viewer"} for number in range(count)}
    clients = [await island.client(f"user{number}") for number in range(count)]
    island.auth.answer = lambda _question: None
    island.auth.asked.clear()
    with island.route.cut_off():
        await purge(island, await island.gateway.publish(settlement("lost")))
    while len(island.auth.asked) < authorization_module.CONFIRMS_AT_ONCE:
        await asyncio.sleep(0.01)
    at_first = {question["userId"] for question in island.auth.asked}
    island.auth.answer = island.auth.decide
    await island.gateway.publish(settlement("s1"))
    for client in clients:
        await client.next("event")

    assert len(at_first) == authorization_module.CONFIRMS_AT_ONCE


async def test_leases_of_all_sessions_end_together_if_auth_does_not_answer(stream: NatsServer, auth: FakeAuth) -> None:
    """A room that is joined later has its own lease."""
    tuning = Tuning(asking=AskingPolicy(renew_every_s=0.1, renew_after_s=0.2, lease_s=1.0))
    async with running_gateway(stream, auth, tuning) as gateway, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(open_socket(gateway.url)) for _ in range(8)]
        for client in clients:
            await client.connect(auth.token("viewer"), [ROOM])
        auth.answer = lambda _question: None
        auth.asked.clear()
        left = [await client.next("room.left") for client in clients]
        asked = len(auth.asked)
        auth.answer = auth.decide
        again = await clients[0].ask("subscribe", rooms=[ROOM])
        events = await fence(gateway, clients[0])

    assert {one["reason"] for one in left} == {"lease_expired"}
    assert asked <= authorization_module.FAILURES
    assert again["rooms"][ROOM]["success"] is True
    assert len(events) == 1


async def test_session_keeps_more_rooms_than_one_question_to_auth_holds(stream: NatsServer, auth: FakeAuth) -> None:
    rooms = [f"{ROOM}/settlement:s{number}" for number in range(1_500)]
    limits = {"max_rooms": 2_000, "max_rooms_per_user": 2_000, "rooms_per_minute": 2_000}
    async with running_gateway(stream, auth, **limits) as gateway, open_socket(gateway.url) as client:
        await client.connect(auth.token("viewer"))
        for start in range(0, len(rooms), 100):
            await client.ask("subscribe", rooms=rooms[start : start + 100])
        async with connected(stream, "setup") as setup:
            await setup.request("$JS.API.STREAM.DELETE.EVENTS", b"")
            await declare_stream(setup)
        await client.next("resync")
        offset = await gateway.publish(settlement("s1499"))
        while (await client.next("event"))["offset"] != offset:
            pass

    assert "room.left" not in [frame["type"] for frame in client.frames]


async def test_invalid_change_of_access_makes_the_gateway_ask_auth_about_its_user(gateway: Gateway) -> None:
    async with open_socket(gateway.url) as client, open_socket(gateway.url) as other:
        await client.connect(gateway.auth.token("viewer"), [ROOM])
        await other.connect(gateway.auth.token("owner"), [ROOM])
        gateway.auth.members["viewer"] = {}
        async with connected(gateway.server, "auth") as nc:
            await broker.publish(nc, "campaign.c1.member.viewer", b'{"version":99}', message_id="m1")
            left = await client.next("room.left")
            gateway.auth.revoked.add("viewer")
            await broker.publish(nc, "user.viewer.access", b"{", message_id="m2")
            with pytest.raises(Closed) as closed:
                await client.next("nothing")
        events = await fence(gateway, other)

    assert left["reason"] == "membership_removed"
    assert closed.value.code == 4401
    assert len(events) == 1
