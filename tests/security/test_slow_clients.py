"""T13: clients that take their time. Heads never end, bodies are slow, sockets are silent, and answers are not read."""

import asyncio
import socket
from pathlib import Path
from urllib.parse import urlsplit

from beaconfire.nats_server import NatsServer
from beaconfire_kit.web import RequestTimes
from tests.client import open_socket
from tests.security.conftest import Target, hears
from tests.security.whole import running_whole
from tests.websocket import connection

EACH = 30
"""Connections of each kind to each service."""


async def _until_closed(url: str, first: bytes, drip: bytes = b"") -> bytes:
    """Send the start, then a byte a second, until the service ends the connection. Returns its answer."""
    async with connection(url) as raw:
        raw.write(first)
        said = b""
        try:
            while True:
                try:
                    async with asyncio.timeout(0.5):
                        chunk = await raw.reader.read(65_536)
                except TimeoutError:
                    raw.write(drip)
                    continue
                if not chunk:
                    return said
                said += chunk
        except (ConnectionResetError, BrokenPipeError):
            return said


async def _until_cut(url: str, path: str) -> None:
    """Ask for more than the socket takes, never read, until the service cuts the connection."""
    parts = urlsplit(url)
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        plain.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(plain, (parts.hostname, parts.port))
        try:
            while True:
                await loop.sock_sendall(plain, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 100)
        except (ConnectionResetError, BrokenPipeError):
            return


async def test_slow_heads_bodies_readers_and_silence_are_ended_in_time_while_others_are_served(
    stream: NatsServer, tmp_path: Path
) -> None:
    """T13: by every service. Deadlines of ten seconds are two here."""
    times = RequestTimes(idle_s=2.0, body_s=2.0)
    async with running_whole(stream, tmp_path, times=times) as whole:
        owner = await whole.sign_up("owner")
        campaign = await whole.campaign(owner)
        (gateway,) = whole.gateways
        kinds = []
        for url, path in (
            (whole.auth.url, "/auth/sign-in"),
            (whole.publisher.url, "/v1/campaigns"),
            (gateway.url, "/ws"),
        ):
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {owner.token}\r\n".encode()
            kinds += [(url, b"", b""), (url, head, b"X: y\r\n")]
            if path != "/ws":  # which takes no bodies
                kinds.append((url, head + b"Content-Length: 1000\r\nConnection: close\r\n\r\n{", b" "))
        async with asyncio.timeout(55), asyncio.TaskGroup() as group:
            slow = [group.create_task(_until_closed(*kind)) for kind in kinds for _ in range(EACH)]
            unread = [
                group.create_task(_until_cut(url, path))
                for url, path in ((whole.auth.url, "/.well-known/jwks.json"), (gateway.url, "/"))
            ]
            async with open_socket(gateway.url) as client:
                await client.connect(owner.token, [f"campaign:{campaign}"])
                while not all(task.done() for task in slow + unread):
                    path = f"/v1/campaigns/{campaign}/world-time"
                    assert (await whole.api(owner.token).post(path, {"advanceSeconds": 1})).status == 200
                    while (await client.next("event"))["event"]["type"] != "world_time_changed":
                        pass
                    await asyncio.sleep(0.2)

    said = {kind: {task.result()[:12] for task in slow[index * EACH :][:EACH]} for index, kind in enumerate(kinds)}
    for (_, head, _), answers in said.items():
        assert answers == ({b"HTTP/1.1 408"} if b"Content-Length" in head else {b""})


async def test_client_that_sends_without_reading_costs_its_buffer_only_and_is_closed(target: Target) -> None:
    """T13: answers are not piled up, and others hear their events.

    It ends like any client that shows no sign of life, or over its rate.
    """
    async with open_socket(target.gateway.url) as stuck, target.client(target.owner, target.room) as client:
        await stuck.connect(target.owner.token, [target.room])
        for _ in range(90):
            await stuck.socket.send_json({"type": "subscribe", "id": 1, "rooms": ["x" * 150] * 100})
        await hears(target, client)
