"""Clients that lost the network return while the gateway still holds their dead connections."""

import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest

from beaconfire.nats_server import NatsServer
from tests.client import Closed, SocketClient, answering, open_socket
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway, settlement
from tests.gateway.events import fence
from tests.websocket import client_frame, raw_socket

ROOMS = [f"campaign:c1/settlement:s{number}" for number in range(4)]
TABS = 15


async def leave_behind(
    stack: AsyncExitStack, gateway: Gateway, user: str, rooms: Sequence[str] = (), **more: Any
) -> str:
    """A connected client whose network goes away: it answers nothing any more, and its socket is never closed. Returns
    its session's id."""
    raw = await stack.enter_async_context(raw_socket(gateway.url))
    hello = {"type": "connect", "id": 1, "token": gateway.auth.token(user), "rooms": list(rooms), **more}
    raw.write(client_frame(json.dumps(hello).encode()))
    _, payload = await raw.frame()
    return str(json.loads(payload)["sessionId"])


async def come(
    stack: AsyncExitStack, gateway: Gateway, user: str, rooms: Sequence[str] = (), **more: Any
) -> SocketClient:
    client = await stack.enter_async_context(open_socket(gateway.url))
    await client.connect(gateway.auth.token(user), rooms, **more)
    return client


@pytest.mark.parametrize("transport", ["handover", "aiohttp"])
async def test_all_tabs_of_a_user_return_by_naming_the_dead_sessions_they_replace(
    stream: NatsServer, auth: FakeAuth, transport: str
) -> None:
    async with (
        running_gateway(stream, auth, max_sessions_per_user=TABS, transport=transport) as gateway,
        AsyncExitStack() as stack,
    ):
        left = [await leave_behind(stack, gateway, "viewer", ROOMS) for _ in range(TABS)]
        back = [await come(stack, gateway, "viewer", ROOMS, replaces=one) for one in left]
        stats = await gateway.stats()
        offset = await gateway.publish(settlement("s1"))
        heard = [(await client.next("event"))["offset"] for client in back]

    assert (stats["clients"], stats["clientsPerAddress"]) == (TABS, {"127.0.0.1": TABS})
    assert heard == [offset] * TABS


@pytest.mark.parametrize("transport", ["handover", "aiohttp"])
async def test_returning_tabs_that_name_no_session_wait_until_dead_connections_are_found(
    stream: NatsServer, auth: FakeAuth, transport: str
) -> None:
    async with (
        running_gateway(stream, auth, max_sessions_per_user=TABS + 5, transport=transport) as gateway,
        AsyncExitStack() as stack,
    ):
        for _ in range(TABS):
            await leave_behind(stack, gateway, "viewer", ROOMS)
        back: list[SocketClient] = []
        async with AsyncExitStack() as living:
            for _ in range(TABS):
                back.append(await come(stack, gateway, "viewer", ROOMS))
                await living.enter_async_context(answering(back[-1]))
        stats = await gateway.stats()
        offset = await gateway.publish(settlement("s1"))
        heard = [(await client.next("event"))["offset"] for client in back]

    assert stats["clients"] == TABS + 5
    assert heard == [offset] * TABS


@pytest.mark.parametrize("names", [True, False], ids=["named", "unnamed"])
async def test_dead_connections_of_an_office_do_not_use_up_its_addresss_limit(
    stream: NatsServer, auth: FakeAuth, names: bool
) -> None:
    people = [f"user{number}" for number in range(TABS)]
    auth.members |= {person: {"campaign:c1": "viewer"} for person in people}
    async with (
        running_gateway(stream, auth, max_sessions_per_address=TABS) as gateway,
        AsyncExitStack() as stack,
    ):
        left = {person: await leave_behind(stack, gateway, person, ROOMS) for person in people}
        async with AsyncExitStack() as living:
            for person in people:
                more = {"replaces": left[person]} if names else {}
                client = await come(stack, gateway, person, ROOMS, **more)
                await living.enter_async_context(answering(client))
        stats = await gateway.stats()

    assert stats["clientsPerAddress"] == {"127.0.0.1": TABS}


async def test_all_clients_of_an_address_can_return_in_the_same_moment(stream: NatsServer, auth: FakeAuth) -> None:
    async with running_gateway(stream, auth, max_sessions_per_user=TABS) as gateway, AsyncExitStack() as stack:
        for _ in range(TABS):
            await leave_behind(stack, gateway, "viewer")
        back = [await stack.enter_async_context(open_socket(gateway.url)) for _ in range(TABS)]
        for client in back:
            await client.send("connect", token=auth.token("viewer"))
        acks = [await client.next("connection.ack") for client in back]
        stats = await gateway.stats()

    assert len(acks) == stats["clients"] == TABS


async def test_rooms_of_dead_connections_do_not_count_against_a_users_limit(stream: NatsServer, auth: FakeAuth) -> None:
    async with running_gateway(stream, auth, max_rooms_per_user=8) as gateway, AsyncExitStack() as stack:
        for _ in range(2):
            await leave_behind(stack, gateway, "viewer", ROOMS)
        client = await come(stack, gateway, "viewer", ROOMS)

    assert all(room["success"] for room in client.ack["rooms"].values())


async def test_living_connections_of_a_user_are_never_closed_to_make_room(stream: NatsServer, auth: FakeAuth) -> None:
    async with running_gateway(stream, auth, max_sessions_per_user=3) as gateway, AsyncExitStack() as stack:
        first = await come(stack, gateway, "viewer", ["campaign:c1"])
        await leave_behind(stack, gateway, "viewer")
        second = await come(stack, gateway, "viewer", ["campaign:c1"])
        async with answering(first, second):
            third = await come(stack, gateway, "viewer", ["campaign:c1"])
            async with answering(third):
                ends = []
                for _ in range(2):
                    with pytest.raises(Closed) as refused:
                        await come(stack, gateway, "viewer")
                    ends.append((refused.value.code, refused.value.reason))
        heard = [len(await fence(gateway, client)) for client in (first, second, third)]

    assert ends == [(4429, "a user may have 3 connections")] * 2
    assert heard == [1, 2, 3]


async def test_replaced_session_hears_nothing_more_and_is_closed_with_1000(gateway: Gateway) -> None:
    """The new session gets everything since its cursor."""
    async with AsyncExitStack() as stack:
        old = await come(stack, gateway, "viewer", ["campaign:c1"])
        missed = await gateway.publish(settlement())
        await old.next("event")
        new = await come(
            stack, gateway, "viewer", ["campaign:c1"], replaces=old.ack["sessionId"], cursor=old.ack["cursor"]
        )
        later = await gateway.publish(settlement())
        heard = [event["offset"] for event in await new.events(2)]
        end = await old.closed()

    assert heard == [missed, later]
    assert (end.code, end.reason) == (1000, "another connection took over")
    assert [frame["offset"] for frame in old.frames if frame["type"] == "event"] == [missed]


async def test_replaces_of_another_users_session_has_no_effect_and_no_exemption(
    stream: NatsServer, auth: FakeAuth
) -> None:
    limits = {"max_sessions_per_user": 1, "max_sessions_per_address": 3, "max_rooms_per_user": 4}
    async with running_gateway(stream, auth, **limits) as gateway, AsyncExitStack() as stack:
        victim = await come(stack, gateway, "owner", ["campaign:c1", *ROOMS[:3]])
        mine = await come(stack, gateway, "viewer", ["campaign:c1"])
        foreign = victim.ack["sessionId"]
        async with answering(victim, mine):
            with pytest.raises(Closed) as refused:
                await come(stack, gateway, "viewer", replaces=foreign)
            other = await come(stack, gateway, "editor", ROOMS, replaces=foreign)
            async with answering(other):
                with pytest.raises(Closed) as no_address:
                    await come(stack, gateway, "stranger", replaces=foreign)
        stats = await gateway.stats()
        events = await fence(gateway, victim)
        answer = await victim.ask("ping")

    assert refused.value.code == no_address.value.code == 4429
    assert stats["clients"] == 3
    assert len(events) == 1
    assert answer["success"] is True


@pytest.mark.parametrize(
    "name", ["", "nonsense", "0" * 16, "0" * 18, "01" + "f" * 16, "zz" + "0" * 16, "é" * 18, "x" * 64]
)
async def test_replaces_of_an_unknown_session_does_not_prevent_a_connection(gateway: Gateway, name: str) -> None:
    async with AsyncExitStack() as stack:
        client = await come(stack, gateway, "viewer", ["campaign:c1"], replaces=name)
        events = await fence(gateway, client)

    assert len(events) == 1


async def test_second_connection_that_replaces_the_same_session_has_no_exemption(
    stream: NatsServer, auth: FakeAuth
) -> None:
    async with running_gateway(stream, auth, max_sessions_per_user=2) as gateway, AsyncExitStack() as stack:
        first = await come(stack, gateway, "viewer")
        second = await come(stack, gateway, "viewer")
        async with answering(second):
            third = await come(stack, gateway, "viewer", replaces=first.ack["sessionId"])
            async with answering(third):
                with pytest.raises(Closed) as refused:
                    await come(stack, gateway, "viewer", replaces=first.ack["sessionId"])

    assert refused.value.code == 4429


async def test_client_that_replaces_a_session_of_another_gateway_is_accepted(
    stream: NatsServer, auth: FakeAuth
) -> None:
    async with (
        running_gateway(stream, auth) as one,
        running_gateway(stream, auth) as other,
        AsyncExitStack() as stack,
    ):
        left = await leave_behind(stack, one, "viewer", ["campaign:c1"])
        client = await come(stack, other, "viewer", ["campaign:c1"], replaces=left)
        events = await fence(other, client)

    assert len(events) == 1
