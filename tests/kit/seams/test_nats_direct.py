"""nats-py still numbers subscriptions as `beaconfire_kit/seams/nats_direct.py` expects."""

import asyncio
import time
from contextlib import suppress

import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.transport import TcpTransport

from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.seams.nats_connection import abort
from beaconfire_kit.seams.nats_direct import DirectClient
from tests.conftest import broker_settings
from tests.kit.seams.signatures import source

REST_S = 0.5


def test_nats_py_still_numbers_subscriptions_before_it_waits() -> None:
    """`subscribe` takes the next number before its first await."""
    before_the_first_await = source(Client.subscribe).partition("await ")[0]

    assert "self._sid += 1 sid = self._sid" in before_the_first_await
    assert Client()._sid == 0


async def test_direct_subscription_calls_a_plain_function(stream: NatsServer) -> None:
    """A message goes to the function with its raw headers. An exception there is not fatal, and requests still work."""
    heard: list[tuple[bytes, bytes, bytes | None]] = []

    def hear(subject: bytes, _reply: bytes, body: bytes, headers: bytes | None) -> None:
        heard.append((subject, body, headers))
        raise RuntimeError("a bug of ours")

    client = DirectClient()
    await broker.connect(
        broker_settings(stream, "gateway"), "test-direct", client=client, on_closed=lambda: pytest.fail("closed")
    )
    await client.subscribe_direct("ephemeral.>", hear)
    for number in range(3):
        await client.publish("ephemeral.x", b"%d" % number, headers={"A": "b"})
    info = await client.request("$JS.API.STREAM.INFO.EVENTS", b"")
    await broker.close(client)

    assert [body for _, body, _ in heard] == [b"0", b"1", b"2"]
    assert heard[0][0] == b"ephemeral.x"
    assert heard[0][2] == b"NATS/1.0\r\nA: b\r\n\r\n"
    assert b'"EVENTS"' in info.data


async def connect_resting(server: NatsServer, heard: list[bytes]) -> DirectClient:
    """A client that hears `ephemeral.>`."""
    client = DirectClient()
    settings = broker_settings(server, "gateway")
    await broker.connect(settings, "test-rest", client=client, on_closed=lambda: pytest.fail("closed"))
    await client.subscribe_direct("ephemeral.>", lambda _subject, _reply, body, _headers: heard.append(body))
    await client.flush()
    return client


async def test_nothing_is_read_during_a_rest_and_everything_after_it(stream: NatsServer) -> None:
    heard: list[bytes] = []
    client = await connect_resting(stream, heard)
    publisher = await connect_resting(stream, [])
    began, ends = asyncio.Event(), time.monotonic() + REST_S

    def rest_s() -> float:
        began.set()
        return max(0.0, ends - time.monotonic())

    client.rest_s = rest_s
    await publisher.publish("ephemeral.x", b"0")
    await began.wait()
    assert isinstance(client._transport, TcpTransport)
    assert client._transport._io_writer is not None
    socket = client._transport._io_writer.transport
    assert isinstance(socket, asyncio.Transport)
    is_reading = socket.is_reading()
    for number in range(1, 50):
        await publisher.publish("ephemeral.x", b"%d" % number)
        await publisher.flush()  # so that each comes separately
    while len(heard) < 50:
        await asyncio.sleep(0)
    ended_at = time.monotonic()
    await broker.close(client)
    await broker.close(publisher)

    assert not is_reading
    assert ended_at >= ends
    assert heard == [b"%d" % number for number in range(50)]


async def test_connection_that_breaks_during_a_rest_is_made_again(stream: NatsServer) -> None:
    """The reader does not notice the end while it rests. Nothing hangs, and nothing fails when it goes on."""
    heard: list[bytes] = []
    client = await connect_resting(stream, heard)
    began = asyncio.Event()

    def rest_s() -> float:
        began.set()
        return REST_S

    client.rest_s = rest_s
    await client.publish("ephemeral.x", b"before")
    await began.wait()
    stream.kill()
    abort(client)
    stream.start()
    client.rest_s = lambda: 0.0
    while b"after" not in heard:
        with suppress(nats.errors.Error):
            await client.publish("ephemeral.x", b"after")
            await client.flush(1)
    await broker.close(client)
