"""Clients that read nothing, and the gateway's connections to them."""

import asyncio
import json
import socket

from beaconfire_kit.envelope import Envelope, Metadata
from tests.gateway.conftest import Gateway, settlement
from tests.websocket import client_frame, handshake


class Stuck:
    """A client that reads nothing after it has connected, with the smallest possible kernel buffer."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
        self._socket.setblocking(False)

    async def connect(self, gateway: Gateway, user: str) -> None:
        await self.open(gateway.url)
        hello = {"type": "connect", "id": 1, "token": gateway.auth.token(user), "rooms": ["campaign:c1"]}
        await self.send(handshake(gateway.url) + client_frame(json.dumps(hello).encode()))
        said = b""
        while b"connection.ack" not in said:
            said += await asyncio.get_running_loop().sock_recv(self._socket, 4_096)

    async def open(self, url: str) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        await asyncio.get_running_loop().sock_connect(self._socket, (host, int(port)))

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    def close(self) -> None:
        self._socket.close()


async def flood(gateway: Gateway, count: int, fields: int) -> int:
    """Publish without waiting for acknowledgements, so that events arrive in large pieces; returns the last offset."""
    for number in range(count):
        one = Envelope(settlement(f"s{number % 7}", "c1", *["x" * 1000] * fields), Metadata(source="flood"))
        await gateway.publisher.publish(one.subject, one.encode())
    return await gateway.publish(settlement("last"))


async def slow_sessions(gateway: Gateway) -> str:
    """The metric of how often a session's socket was full in this process."""
    name = "beaconfire_gateway_slow_sessions_total"
    return next(line for line in (await gateway.metrics()).splitlines() if line.startswith(name))
