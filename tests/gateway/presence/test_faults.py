"""Presence through faults: gateway processes that are killed, frozen, stopped or cut off from the broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from beaconfire.nats_server import NatsServer
from tests.client import SocketClient, answering, open_socket
from tests.fakes import FakeAuth
from tests.gateway.conftest import running_gateway
from tests.gateway.presence.watchers import ROOM, Seen, watching
from tests.gateway.processes import gateway_process
from tests.proxy import Proxy

ALL = {"viewer": ("online", 1), "editor": ("online", 1), "owner": ("online", 1)}


@asynccontextmanager
async def joined(url: str, auth: FakeAuth, *users: str) -> AsyncIterator[list[SocketClient]]:
    """A client of each user in the room, which does not watch."""
    async with AsyncExitStack() as stack:
        clients = []
        for user in users:
            client = await stack.enter_async_context(open_socket(url))
            await client.connect(auth.token(user), [ROOM])
            clients.append(client)
        yield clients


def ever_left(client: SocketClient) -> set[str]:
    """Everybody whom the client was told as gone."""
    return {user for frame in client.frames for user in frame.get("left", ())}


async def test_users_of_a_killed_gateway_disappear_except_those_who_have_connected_again(
    stream: NatsServer, auth: FakeAuth, tmp_path: Path
) -> None:
    """Nobody flickers who came back."""
    async with (
        running_gateway(stream, auth) as lasting,
        watching(lasting) as (client, seen),
        gateway_process(tmp_path, stream, auth) as killed,
        joined(killed.url, auth, "editor", "owner"),
    ):
        await seen.until(client, ALL)
        killed.kill()
        async with joined(lasting.url, auth, "owner"):
            await until_gone(client, seen, "editor")

            assert seen.users.keys() == {"viewer", "owner"}
            assert ever_left(client) == {"editor"}


async def test_users_of_a_frozen_gateway_disappear_and_come_back_when_it_goes_on(
    stream: NatsServer, auth: FakeAuth, tmp_path: Path
) -> None:
    async with (
        running_gateway(stream, auth) as lasting,
        watching(lasting) as (client, seen),
        gateway_process(tmp_path, stream, auth) as frozen,
        joined(frozen.url, auth, "editor", "owner") as clients,
    ):
        await seen.until(client, ALL)
        frozen.process.freeze()
        await until_gone(client, seen, "editor", "owner")
        frozen.process.thaw()
        async with answering(*clients):
            await seen.until(client, ALL)


async def test_gateway_that_was_cut_off_from_the_broker_misses_nobody_afterwards(
    stream: NatsServer, auth: FakeAuth
) -> None:
    """Both sides have lost each other's users, and have all of them again."""
    async with (
        Proxy(stream.port).running() as route,
        running_gateway(stream, auth) as lasting,
        running_gateway(stream, auth, nats_url=f"nats://127.0.0.1:{route.port}") as cut,
        watching(lasting) as (client, seen),
        watching(cut, "editor") as (other, seen_by_other),
        joined(cut.url, auth, "owner"),
    ):
        await seen.until(client, ALL)
        await seen_by_other.until(other, ALL)
        with route.cut_off():
            await until_gone(client, seen, "editor", "owner")
            await until_gone(other, seen_by_other, "viewer")
        await seen.until(client, ALL)
        await seen_by_other.until(other, ALL)


async def test_users_do_not_flicker_while_their_gateway_is_replaced(
    stream: NatsServer, auth: FakeAuth, tmp_path: Path
) -> None:
    """It stops in order, and its clients connect to another one."""
    async with (
        running_gateway(stream, auth) as lasting,
        watching(lasting) as (client, seen),
        gateway_process(tmp_path, stream, auth, BEACONFIRE_STOP_TIMEOUT_S="1") as stopped,
        joined(stopped.url, auth, "editor", "owner"),
    ):
        await seen.until(client, ALL)
        stopped.process.terminate()
        async with joined(lasting.url, auth, "editor", "owner") as clients:
            assert await asyncio.to_thread(stopped.process.wait, 20)
            await clients[0].ask("presence", status="busy")
            await seen.until(client, {**ALL, "editor": ("busy", 1)})

            assert ever_left(client) == set()


async def until_gone(client: SocketClient, seen: Seen, *users: str) -> None:
    """Read until none of these users is there."""
    while not seen.users.keys().isdisjoint(users):
        seen.apply(await client.next("presence"))
