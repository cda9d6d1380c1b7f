"""Fills the stream beyond the ring, resumes from it, and reads the dead letters."""

import asyncio
from typing import Any

from nats.js.api import AckPolicy, ConsumerConfig

from beaconfire_kit import broker
from tests.client import SocketClient, open_socket
from tests.conftest import connected
from tests.gateway.conftest import Gateway, settlement

BIG = ("x" * 1000,) * 60


async def push_out(gateway: Gateway, count: int = 20) -> list[int]:
    """Publish big events until the ring has dropped everything before them; returns their offsets."""
    return [await gateway.publish(settlement(f"big{number}", "c1", *BIG)) for number in range(count)]


async def cursor_now(gateway: Gateway) -> str:
    """The cursor that a client gets that connects now."""
    async with open_socket(gateway.url) as client:
        return str((await client.connect(gateway.auth.token("viewer")))["cursor"])


async def restore(
    client: SocketClient, cursor: str, *rooms: str, **fields: object
) -> tuple[list[int], dict[str, object]]:
    """Subscribe with a cursor; returns the offsets that were restored before the reply, and the reply's rooms."""
    message = await client.send("subscribe", rooms=list(rooms), cursor=cursor, **fields)
    heard: list[int] = []
    while True:
        frame = await client.next("restored", "reply")
        assert frame["id"] == message
        if frame["type"] == "reply":
            return heard, frame["rooms"]
        heard += [event["offset"] for event in frame["events"]]


async def dead_letters(gateway: Gateway, count: int) -> list[Any]:
    """Read the broker's dead letters as an operator; waits until there are `count`."""
    async with connected(gateway.server, "operator") as nc, asyncio.timeout(15):
        js = nc.jetstream()
        config = ConsumerConfig(name="test", ack_policy=AckPolicy.NONE, filter_subject="deadletter.>")
        created = await js.add_consumer(broker.DEADLETTERS, config=config)
        reader = await js.pull_subscribe_bind(created.name, stream=broker.DEADLETTERS)
        letters = [(await reader.fetch(1, timeout=10))[0] for _ in range(count)]
        assert letters[-1].metadata.num_pending == 0
        return letters
