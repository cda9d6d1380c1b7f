"""shared.broker against a real nats-server with the shipped user table."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from nats.aio.client import Client

from shared import broker
from tests.conftest import broker_settings, connected
from tools.nats_server import NatsServer


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


async def test_publish_refused(stream: NatsServer) -> None:
    """A message the broker will never take is refused at once, with the reason."""
    async with connected(stream, "publisher") as nc:
        with pytest.raises(broker.BrokerRefused, match="campaign"):
            await broker.publish(nc, "campaign.c1.state", b"x" * 300_000, message_id="m1")


async def test_wait_for_stream(stream: NatsServer) -> None:
    """The gateway's user may learn the epoch."""
    async with connected(stream, "setup") as setup, connected(stream, "gateway") as nc:
        assert await broker.wait_for_stream(nc) == await broker.declare_stream(setup)


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
