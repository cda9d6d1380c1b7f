"""beaconfire_kit.broker against a real nats-server with the shipped user table."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from nats.aio.client import Client

from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.envelope import MAX_EVENT_BYTES
from tests.conftest import At, broker_settings, connected
from tests.proxy import Proxy


async def test_declare_twice(nats_server: NatsServer) -> None:
    """Declaring the stream again keeps its epoch and its messages."""
    async with connected(nats_server, "setup") as nc:
        first = await broker.declare_stream(nc)
        second = await broker.declare_stream(nc)
        info = json.loads((await nc.request("$JS.API.STREAM.INFO.EVENTS", b"")).data)

    assert first == second
    assert info["state"]["first_seq"] == 1
    assert info["config"]["republish"] == {"src": ">", "dest": "live.>"}
    assert info["config"]["allow_msg_ttl"] is True
    assert info["config"]["duplicate_window"] == 15 * 60 * 1_000_000_000


async def test_replicas_without_a_cluster(nats_server: NatsServer) -> None:
    """Three replicas of a server that is alone: refused at once, with the server's reason."""
    async with connected(nats_server, "setup") as nc:
        with pytest.raises(broker.BrokerRefused, match="replicas > 1 not supported"):
            await broker.declare_stream(nc, replicas=3)


async def test_publish_is_idempotent(stream: NatsServer) -> None:
    """The same message id twice is stored once, and both times acknowledged with the same offset."""
    async with connected(stream, "publisher") as nc:
        first = await broker.publish(nc, "campaign.c1.state", b"{}", message_id="m1")
        again = await broker.publish(nc, "campaign.c1.state", b"{}", message_id="m1")
        other = await broker.publish(nc, "campaign.c1.state", b"{}", message_id="m2")

    assert (first, again, other) == (2, 2, 3)


async def test_publish_survives_a_killed_broker(stream: NatsServer) -> None:
    """A publish started while the broker is dead is acknowledged once it is back."""
    async with connected(stream, "publisher") as nc:
        stream.kill()
        stream.start()

        assert await broker.publish(nc, "campaign.c1.state", b"{}", message_id="m1") == 2


async def test_not_sent_later(stream: NatsServer) -> None:
    """F15: what a connection that is lost did not send, and what is published while there is none, is not sent by the
    next connection: whoever publishes has given it up by then, or tries again. What waits is sent then, once."""
    async with Proxy(stream.port).running() as route:
        async with connected(At(f"nats://127.0.0.1:{route.port}", stream.passwords), "publisher") as nc:
            await nc._send_command(b"PUB campaign.c1.settlement.unsent 2\r\n{}\r\n")  # in the buffer, as when frozen
            route.refusing = True
            route.cut()
            async with asyncio.timeout(10):
                while nc.is_connected:
                    await asyncio.sleep(0.01)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await broker.publish(nc, "campaign.c1.settlement.given_up", b"{}", message_id="given up")
            waiting = asyncio.create_task(broker.publish(nc, "campaign.c1.settlement.waits", b"{}", message_id="waits"))
            await asyncio.sleep(0)
            route.refusing = False
            offset = await waiting
        async with connected(stream, "operator") as operator:
            info = json.loads((await operator.request("$JS.API.STREAM.INFO.EVENTS", b"")).data)

    assert info["state"]["last_seq"] == offset == 2  # the anchor, and what waited


async def test_flush(stream: NatsServer) -> None:
    """A flush asks behind what was said before: once it returns, the server knows of the subscription before it."""
    said: list[bytes] = []

    def hear(chunk: bytes) -> bool:
        said.append(chunk)
        return False

    async with (
        Proxy(stream.port).running() as route,
        connected(At(f"nats://127.0.0.1:{route.port}", stream.passwords), "gateway") as nc,
    ):
        route.swallow = hear
        await nc.subscribe("live.>")
        await nc.flush()

    _, subscribed, then = b"".join(said).partition(b"SUB live.>")
    assert subscribed
    assert b"PING" in then


async def test_publish_refused(stream: NatsServer) -> None:
    """A message the broker will never take is refused at once, with the reason."""
    async with connected(stream, "publisher") as nc:
        with pytest.raises(broker.BrokerRefused, match="campaign"):
            await broker.publish(nc, "campaign.c1.state", b"x" * 300_000, message_id="m1")
        with pytest.raises(broker.BrokerRefused, match="message size exceeds maximum allowed"):
            await broker.publish(nc, "campaign.c1.state", b"x" * broker.MAX_MESSAGE_BYTES, message_id="m2")
        assert await broker.publish(nc, "campaign.c1.state", b"x" * MAX_EVENT_BYTES, message_id="m" * 128)


async def test_stream_state(stream: NatsServer) -> None:
    """The gateway's user may learn the epoch, and where the stream begins and ends."""
    async with connected(stream, "setup") as setup, connected(stream, "gateway") as nc:
        epoch = await broker.declare_stream(setup)
        end = await broker.tick(nc, timeout_s=5)
        state = await broker.stream_state(nc)

    assert (state.epoch, state.first, state.last) == (epoch, 1, end)


async def test_tick_without_permission_is_refused(stream: NatsServer) -> None:
    """A user who may not publish ticks learns it at once, not by a timeout."""
    async with connected(stream, "setup") as nc:
        with pytest.raises(broker.MayNotPublish, match="tick"):
            await broker.tick(nc, timeout_s=30)


async def test_tick_without_a_stream_is_not_acknowledged(nats_server: NatsServer) -> None:
    """Without a stream, a tick is not acknowledged, and the reason says so."""
    async with connected(nats_server, "gateway") as nc:
        with pytest.raises(broker.NotAcknowledged, match="no stream answers"):
            await broker.tick(nc, timeout_s=5)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_closing_without_the_broker(nats_server: NatsServer, run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
    """A connection with something left to send is closed without an error while the broker is away."""

    async def lose_the_broker_and_close() -> None:
        lost = asyncio.Event()
        settings = broker_settings(nats_server, "publisher")
        nc = await broker.connect(settings, "test", on_closed=lambda: None, on_disconnected=lost.set)
        nats_server.kill()
        await lost.wait()
        await nc.publish("campaign.c1.settlement.s1", b"{}")

        await broker.close(nc)

    run(lose_the_broker_and_close())


async def test_giving_up_while_connecting(nats_server: NatsServer) -> None:
    """A connection that is cancelled before the broker has said a word leaves no socket open."""
    nats_server.freeze()
    client = Client()
    settings = broker_settings(nats_server, "publisher")
    connecting = asyncio.create_task(broker.connect(settings, "test", client=client, on_closed=lambda: None))
    while (writer := getattr(client._transport, "_io_writer", None)) is None:
        await asyncio.sleep(0)

    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting

    assert writer.is_closing()
    nats_server.thaw()


@pytest.fixture(name="other_server")
def _other_server(tmp_path: Path, nats_server: NatsServer) -> Iterator[NatsServer]:
    """A second broker that knows the same passwords."""
    server = NatsServer(tmp_path / "other", passwords=nats_server.passwords)
    server.start()
    yield server
    server.thaw()
    server.kill()


async def test_a_hung_server_is_left(
    nats_server: NatsServer, other_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that hangs is left for another one, with more to send to it than it takes; and closing does not hang."""
    chosen = broker.options
    monkeypatch.setattr(broker, "options", lambda *of: {**chosen(*of), "ping_interval": 1})
    servers = {server.port: server for server in (nats_server, other_server)}
    settings = broker_settings(At(f"{nats_server.url},{other_server.url}", nats_server.passwords), "publisher")
    back: asyncio.Queue[int] = asyncio.Queue()

    async def reconnected() -> None:
        back.put_nowait(_port(nc))

    nc = await broker.connect(settings, "test", on_closed=lambda: pytest.fail("closed"), on_reconnected=reconnected)
    try:
        hung, other = (servers.pop(_port(nc)), *servers.values())
        hung.freeze()
        await _fill(nc)
        async with asyncio.timeout(20):
            on = await back.get()
        other.freeze()
        await _fill(nc)
    finally:
        async with asyncio.timeout(20):
            await broker.close(nc)

    assert on == other.port


def _port(nc: Client) -> int:
    """Of the server that it is connected to."""
    assert nc.connected_url is not None
    return int(nc.connected_url.port or 0)


async def _fill(nc: Client) -> None:
    """Publish to a server that hangs until the socket takes no more."""
    writer = nc._transport._io_writer  # type: ignore[union-attr]
    while writer.transport.get_write_buffer_size() == 0:
        await nc.publish("campaign.c1.state", b"x" * 200_000)
        await asyncio.sleep(0.01)
