"""The end of a token while a newer one waits behind an earlier request of its session."""

import asyncio
import json
import time
from typing import Any

import pytest

from beaconfire_gateway.sessions.gateway import Gateway as Core
from beaconfire_gateway.sessions.session import State
from beaconfire_gateway.transports.websocket import WebSocket
from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.tokens import Claims
from tests.gateway.core import ENDS, Empty, Open, heard_by, open_connection
from tests.websocket import client_frame


class Tokens(Open):
    """A token is a user and how many seconds it still lasts."""

    async def verify(self, token: str) -> Claims:
        user, left_s = token.split("/")
        if user == "forged":
            raise BeaconfireError(errors.TOKEN_INVALID, "not a token")
        return Claims(user, "", int(time.time()) - 900, int(time.time()) + int(left_s), "")


class Away(Empty):
    """The history while the broker is away."""

    def __init__(self) -> None:
        self.is_back = asyncio.Event()

    async def end(self) -> int:
        await self.is_back.wait()
        return 5


async def test_refresh_that_waits_behind_a_subscribe_counts_and_is_answered_in_its_turn(core: Core) -> None:
    history = Away()
    connection = await waiting(core, history, {"type": "refresh", "id": 3, "token": "u0/900"})
    core.timers.turn(1)  # the old token has ended
    async with asyncio.timeout(10):
        while connection.state is not State.CLOSED and left_s(connection) < 0:
            await asyncio.sleep(0)
    core.timers.turn(3)
    history.is_back.set()
    core.reach(5)
    heard = b""
    async with asyncio.timeout(10):
        while connection.state is not State.CLOSED and b'"id":3' not in heard:
            await asyncio.sleep(0)
            heard += heard_by(ENDS[-1])

    assert connection.state is State.LIVE
    assert -1 < heard.find(b'"id":2') < heard.find(b'"id":3')


async def test_refresh_that_waits_while_the_session_catches_up_counts(core: Core) -> None:
    connection = await waiting(core, Away(), {"type": "refresh", "id": 3, "token": "u0/900"})
    connection.hold()
    core.timers.turn(1)
    async with asyncio.timeout(10):
        while connection.state is not State.CLOSED and left_s(connection) < 0:
            await asyncio.sleep(0)

    assert connection.state is State.CATCHING_UP


@pytest.mark.parametrize(
    "message",
    [
        {"type": "ping", "id": 3},
        {"type": "refresh", "id": 3, "token": "forged/900"},
        {"type": "refresh", "id": 3, "token": "another/900"},
    ],
    ids=["none", "forged", "another user's"],
)
async def test_session_ends_with_its_token_if_no_good_one_waits(core: Core, message: dict[str, Any]) -> None:
    connection = await waiting(core, Away(), message)
    core.timers.turn(1)
    async with asyncio.timeout(10):
        while connection.state is not State.CLOSED:
            await asyncio.sleep(0)

    assert b"the token ran out" in heard_by(ENDS[-1])


async def waiting(core: Core, history: Away, message: dict[str, Any]) -> WebSocket:
    """A session whose token has just ended. Its `subscribe` waits for the stream, and a message waits behind that."""
    core.access, core.history = Tokens(), history
    core.begin("epoch", 0)
    connection = open_connection(core)
    send(connection, {"type": "connect", "id": 1, "token": "u0/-2"})
    while connection.state is State.CONNECTING:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    send(connection, {"type": "subscribe", "id": 2, "rooms": ["campaign:c1"], "cursor": "epoch:5"})
    send(connection, message)
    return connection


def send(connection: WebSocket, message: dict[str, Any]) -> None:
    connection.data_received(client_frame(json.dumps(message).encode()))


def left_s(connection: WebSocket) -> float:
    """How long the session's token still lasts."""
    assert connection.claims is not None
    return connection.claims.expires_at - time.time()
