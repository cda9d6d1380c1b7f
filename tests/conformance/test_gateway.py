"""A real gateway meets the fixtures: it answers the scripts, and closes with the codes of the table."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from beaconfire.nats_server import NatsServer
from tests.client import SocketClient, answering, open_socket
from tests.conformance.fixtures import misses, read, scripts
from tests.cursors import cursor_of
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway, settlement

EPOCH, FIRST = "e1", 41
"""The cursor at which a script begins is `e1:41`."""
PASSED_OVER = frozenset({"position"})
"""What may come at any time."""
COMPARED = frozenset({"type", "offset", "rooms", "cursor", "success", "recovered", "reason", "events", "code", "error"})
"""The fields of which the values are the same at every gateway."""


class Play:
    """Plays the client of a script. Its offsets, cursors, sessions and tokens stand for those of the gateway."""

    def __init__(self, gateway: Gateway, epoch: str, first: int) -> None:
        self._gateway = gateway
        self._epoch = epoch
        self._shift = first - FIRST
        self._sessions: dict[str, str] = {}
        self._last_id = 0

    async def run(self, steps: list[dict[str, Any]]) -> None:
        rest = list(steps)
        while rest:
            async with open_socket(self._gateway.url) as socket:
                await self._converse(socket, rest)

    async def _converse(self, socket: SocketClient, rest: list[dict[str, Any]]) -> None:
        """Take the steps of one connection."""
        while rest:
            step = rest.pop(0)
            if "breaks" in step:
                return
            if "publish" in step:
                await self._gateway.publish(settlement("s1", "c1", f"n{step['publish']}"))
            elif "client" in step:
                await self._send(socket, step["client"])
            elif "gateway" in step:
                await self._expect(socket, step["gateway"])

    async def _send(self, socket: SocketClient, message: dict[str, Any]) -> None:
        fields = {key: self._ours(key, value) for key, value in message.items() if key != "type"}
        self._last_id = await socket.send(message["type"], **fields)

    async def _expect(self, socket: SocketClient, wanted: dict[str, Any]) -> None:
        while (frame := await self._next(socket))["type"] in PASSED_OVER:
            pass
        if frame["type"] in ("connection.ack", "reply", "restored"):
            assert frame["id"] == self._last_id
        if frame["type"] == "connection.ack":
            self._sessions[wanted["sessionId"]] = frame["sessionId"]
        assert misses(essence(frame), essence(self._ours("", wanted))) == []

    async def _next(self, socket: SocketClient) -> dict[str, Any]:
        return await socket.next("connection.ack", "reply", "event", "restored", "position", "resync", "error")

    def _ours(self, key: str, value: Any) -> Any:
        """Return a value of the script as this gateway knows it."""
        if isinstance(value, dict):
            return {name: self._ours(name, one) for name, one in value.items()}
        if isinstance(value, list):
            return [self._ours("", one) for one in value]
        if key == "offset":
            return value + self._shift
        if key == "cursor" and value.startswith(f"{EPOCH}:"):
            return f"{self._epoch}:{int(value.partition(':')[2]) + self._shift}"
        if key == "token":
            return self._gateway.auth.token("viewer")
        return self._sessions.get(value, value) if key == "replaces" else value


def essence(value: Any) -> Any:
    """Return what two gateways would say alike: without texts, times, ids and limits."""
    if isinstance(value, list):
        return [essence(one) for one in value]
    if not isinstance(value, dict):
        return value
    by_room = {key: essence(one) for key, one in value.items() if ":" in key}
    return by_room or {key: essence(one) for key, one in value.items() if key in COMPARED}


@pytest.mark.parametrize("name", scripts("gateway"))
async def test_gateway_follows_the_script(gateway: Gateway, name: str) -> None:
    async with open_socket(gateway.url) as socket:
        start = cursor_of((await socket.connect(gateway.auth.token("viewer")))["cursor"])
    await Play(gateway, start.epoch, start.offset).run(read(f"scripts/{name}")["steps"])


async def test_gateway_takes_every_message_of_a_client_that_the_protocol_shows(gateway: Gateway) -> None:
    """None of the examples is malformed or unknown."""
    for message in read("messages")["client"]:
        async with open_socket(gateway.url) as socket:
            if message["type"] == "connect":
                answer = await socket.ask("connect", **{**fields(message), "token": gateway.auth.token("viewer")})
            else:
                await socket.connect(gateway.auth.token("viewer"))
                answer = await socket.ask(message["type"], **fields(message))

        assert answer["type"] in ("connection.ack", "reply"), (message, answer)


def fields(message: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key not in ("type", "id")}


async def silent(socket: SocketClient, auth: FakeAuth) -> None:
    """Connect with a room that auth does not answer about."""
    auth.answer = lambda _question: None
    await socket.send("connect", token=auth.token("viewer"), rooms=["campaign:c1"])


Provoke = Callable[[SocketClient, FakeAuth], Awaitable[object]]
PROVOCATIONS: dict[int, tuple[dict[str, Any], Provoke]] = {
    1003: ({}, lambda socket, _: socket.socket.send_bytes(b"{}")),
    4400: ({}, lambda socket, _: socket.send("ping")),
    4401: ({}, lambda socket, _: socket.send("connect", token="nonsense")),
    4408: ({"connect_timeout_s": 1}, lambda *_: asyncio.sleep(0)),
    4413: ({}, lambda socket, _: socket.send("ping", filler="x" * 20_000)),
    4429: ({"max_sessions_per_address": 1}, lambda socket, auth: socket.send("connect", token=auth.token("viewer"))),
    4503: ({}, silent),
}
"""By close code: settings of a gateway, and what makes it close."""


@pytest.mark.parametrize("close", PROVOCATIONS)
async def test_gateway_closes_with_the_codes_of_the_table(stream: NatsServer, auth: FakeAuth, close: int) -> None:
    settings, provoke = PROVOCATIONS[close]
    async with (
        running_gateway(stream, auth, **settings) as gateway,
        open_socket(gateway.url) as first,
        open_socket(gateway.url) as other,
    ):
        if close == 4429:
            await first.connect(auth.token("viewer"))
        async with answering(first):
            await provoke(other, auth)
            closed = await other.closed()

    assert closed.code == close
    assert close in [row["close"] for row in read("closes")]
