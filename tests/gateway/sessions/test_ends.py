"""However a connection ends, nothing of it stays (A6)."""

import asyncio
import gc
import json
import socket
import struct
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.wire.websocket_frames import Opcode, encode
from beaconfire_kit.events.user import AccessRevoked
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway, settlement
from tests.gateway.events import publish_as_auth
from tests.websocket import RawSocket, client_frame, raw_socket

EACH = 40
ROOMS = ["campaign:c1", "campaign:c1/settlement:s1"]


async def stats(gateway: Gateway) -> dict[str, Any]:
    """Return the gateway's own count of what it holds, without the figures that only rise."""
    return {name: value for name, value in (await gateway.stats()).items() if name not in ("limits", "refusedByLimit")}


async def everything(gateway: Gateway) -> dict[str, Any]:
    """Return the gateway's own count of what it holds, and the objects that this process really holds."""
    figures = await stats(gateway)
    gc.collect()
    return {
        **figures,
        "sessions in memory": sum(isinstance(one, Session) for one in gc.get_objects()),
        "tasks": len(asyncio.all_tasks()),
    }


async def still_there(gateway: Gateway, before: dict[str, Any]) -> dict[str, Any]:
    """Return the counts that are higher than before."""
    now = await everything(gateway)
    return {name: value for name, value in now.items() if (value > before[name] if isinstance(value, int) else value)}


async def test_nothing_stays_in_the_gateway_after_connections_end_in_five_ways(
    stream: NatsServer, auth: FakeAuth
) -> None:
    """A close frame, a reset, a broken frame, a revoked token and silence. One connection never sends `connect`."""
    users = ("closing", "crashing", "broken", "revoked", "silent")
    auth.members |= {user: {"campaign:c1": "viewer"} for user in users}
    during = []
    async with (
        running_gateway(stream, auth, max_sessions_per_user=EACH) as gateway,
        AsyncExitStack() as stack,
    ):
        async with raw_socket(gateway.url) as first:  # the first question to auth leaves nats-py a task for the answers
            await introduce(auth, "closing", [first])
        await gateway.publish(settlement())  # and so does the first event
        before = await everything(gateway)
        await stack.enter_async_context(raw_socket(gateway.url))
        for user in users:
            sockets = [await stack.enter_async_context(raw_socket(gateway.url)) for _ in range(EACH)]
            await introduce(auth, user, sockets)
            during.append((await stats(gateway))["clientsPerRoom"])
            await gateway.publish(settlement())
            await END[user](gateway, sockets)
        deadline = asyncio.get_running_loop().time() + 25
        while left := await still_there(gateway, before):
            assert asyncio.get_running_loop().time() < deadline, left
            await asyncio.sleep(0.2)

    assert all(rooms[room] >= EACH for rooms in during for room in ROOMS)


async def close(_gateway: Gateway, sockets: Sequence[RawSocket]) -> None:
    for raw in sockets:
        raw.write(client_frame((1000).to_bytes(2, "big"), Opcode.CLOSE))
        await raw.end()


async def crash(_gateway: Gateway, sockets: Sequence[RawSocket]) -> None:
    """Send RST, as the kernel of a crashed client does."""
    for raw in sockets:
        raw.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.writer.transport.abort()


async def break_off(_gateway: Gateway, sockets: Sequence[RawSocket]) -> None:
    for raw in sockets:
        raw.write(encode(b"unmasked"))
        await raw.end()


async def revoke(gateway: Gateway, sockets: Sequence[RawSocket]) -> None:
    later = datetime.now(UTC) + timedelta(seconds=10)
    revoked = AccessRevoked(
        user_id="revoked", issued_before=later, reason="signed_out_everywhere", membership_version=9
    )
    await publish_as_auth(gateway, revoked)
    for raw in sockets:
        assert await raw.close_code() == 4401


async def fall_silent(_gateway: Gateway, sockets: Sequence[RawSocket]) -> None:
    """No pong is sent, as by a client whose network is gone. The gateway's timer is turned ahead: a minute passes."""
    session = next(one for one in gc.get_objects() if isinstance(one, Session) and one.user_id == "silent")
    timers = session.gateway.timers
    for _ in range(60):
        timers.turn(timers.now + 1)
    for raw in sockets:
        await raw.end()


END = {"closing": close, "crashing": crash, "broken": break_off, "revoked": revoke, "silent": fall_silent}


async def introduce(auth: FakeAuth, user: str, sockets: Sequence[RawSocket]) -> None:
    """Send `connect` on each socket as the user, and wait for the acks."""
    for raw in sockets:
        hello = {"type": "connect", "id": 1, "token": auth.token(user), "rooms": ROOMS}
        raw.write(client_frame(json.dumps(hello).encode()))
    for raw in sockets:
        assert json.loads((await raw.frame())[1])["type"] == "connection.ack"
