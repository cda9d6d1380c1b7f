"""The kit's broker functions against a real nats-server with the shipped user table."""

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
from beaconfire_kit.invalid_event import MAX_EVENT_BYTES
from beaconfire_kit.stream_setup import declare_stream
from tests.conftest import At, broker_settings, connected
from tests.proxy import Proxy


async def test_declaring_the_stream_again_keeps_its_epoch_and_messages(nats_server: NatsServer) -> None:
    async with connected(nats_server, "setup") as nc:
        first = await declare_stream(nc)
        second = await declare_stream(nc)
        info = json.loads((await nc.request("$JS.API.STREAM.INFO.EVENTS", b"")).data)

    assert first == second
    assert info["state"]["first_seq"] == 1
    assert info["config"]["republish"] == {"src": ">", "dest": "live.>"}
    assert info["config"]["allow_msg_ttl"] is True
    assert info["config"]["duplicate_window"] == 15 * 60 * 1_000_000_000


async def test_three_replicas_on_a_single_server_are_refused_with_the_servers_reason(nats_server: NatsServer) -> None:
    async with connected(nats_server, "setup") as nc:
        with pytest.raises(broker.BrokerRefused, match="replicas > 1 not supported"):
            await declare_stream(nc, replicas=3)


async def test_same_message_id_is_stored_once_and_acknowledged_with_one_offset(stream: NatsServer) -> None:
    async with connected(stream, "publisher") as nc:
        first = await broker.publish(nc, "campaign.c1.state", b"{}", message_id="m1")
        again = await broker.publish(nc, "campaign.c1.state", b"{}", message_id="m1")
        other = await broker.publish(nc, "campaign.c1.state", b"{}", message_id="m2")

    assert (again, other) == (first, first + 1)


async def test_publish_started_while_the_broker_is_dead_is_acknowledged_later(stream: NatsServer) -> None:
    async with connected(stream, "publisher") as nc:
        before = await broker.publish(nc, "campaign.c1.state", b"{}", message_id="m0")
        stream.kill()
        stream.start()

        assert await broker.publish(nc, "campaign.c1.state", b"{}", message_id="m1") == before + 1


async def test_unsent_messages_of_a_lost_connection_are_not_sent_by_the_next(stream: NatsServer) -> None:
    """F15: publishers have given them up by then, or retry. A retry is sent once."""
    async with Proxy(stream.port).running() as route:
        async with connected(At(f"nats://127.0.0.1:{route.port}", stream.passwords), "publisher") as nc:
            before = await broker.publish(nc, "campaign.c1.settlement.before", b"{}", message_id="before")
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

    assert info["state"]["last_seq"] == offset == before + 1  # only what waited


async def test_flush_returns_after_the_server_knows_earlier_subscriptions(stream: NatsServer) -> None:
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


async def test_message_that_the_broker_never_takes_is_refused_at_once_with_the_reason(stream: NatsServer) -> None:
    async with connected(stream, "publisher") as nc:
        with pytest.raises(broker.BrokerRefused, match="campaign"):
            await broker.publish(nc, "campaign.c1.state", b"x" * 300_000, message_id="m1")
        with pytest.raises(broker.BrokerRefused, match="message size exceeds maximum allowed"):
            await broker.publish(nc, "campaign.c1.state", b"x" * broker.MAX_MESSAGE_BYTES, message_id="m2")
        assert await broker.publish(nc, "campaign.c1.state", b"x" * MAX_EVENT_BYTES, message_id="m" * 128)


async def test_gateways_user_may_read_the_streams_epoch_beginning_and_end(stream: NatsServer) -> None:
    async with connected(stream, "setup") as setup, connected(stream, "gateway") as nc:
        epoch = await declare_stream(setup)
        end = await broker.tick(nc, timeout_s=5)
        state = await broker.stream_state(nc)

    assert (state.epoch, state.first, state.last) == (epoch, 1, end)


async def test_tick_without_permission_is_refused_at_once(stream: NatsServer) -> None:
    """The refusal does not take a timeout."""
    async with connected(stream, "setup") as nc:
        with pytest.raises(broker.MayNotPublish, match="tick"):
            await broker.tick(nc, timeout_s=30)


async def test_tick_without_a_stream_is_not_acknowledged_with_the_reason(nats_server: NatsServer) -> None:
    async with connected(nats_server, "gateway") as nc:
        with pytest.raises(broker.NotAcknowledged, match="no stream answers"):
            await broker.tick(nc, timeout_s=5)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_connection_with_unsent_messages_closes_without_an_error_while_the_broker_is_away(
    nats_server: NatsServer, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    async def lose_the_broker_and_close() -> None:
        lost = asyncio.Event()
        settings = broker_settings(nats_server, "publisher")
        nc = await broker.connect(settings, "test", on_closed=lambda: None, on_disconnected=lost.set)
        nats_server.kill()
        await lost.wait()
        await nc.publish("campaign.c1.settlement.s1", b"{}")

        await broker.close(nc)

    run(lose_the_broker_and_close())


async def test_cancelled_connection_attempt_leaves_no_socket_open(nats_server: NatsServer) -> None:
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


async def test_hung_server_is_left_for_another_despite_unsent_bytes(
    nats_server: NatsServer, other_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing does not hang either."""
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
