"""A durable consumer and a message that it cannot handle."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from faststream.nats import NatsMessage

from beaconfire.doctor import Deployment, diagnose
from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker, consumer
from beaconfire_kit.consumer import DurableConsumer
from tests.conftest import broker_settings, connected

NAME = "rules-engine"
PATIENCE_S = 30.0


class Handler:
    """Handles messages; `error` is raised for those whose body is `bad`."""

    def __init__(self, error: Exception) -> None:
        self.error: Exception | None = error
        self.tries = 0
        self.handled: asyncio.Queue[bytes] = asyncio.Queue()

    async def handle(self, message: NatsMessage) -> None:
        if message.raw_message.data == b"bad" and self.error is not None:
            self.tries += 1
            raise self.error
        self.handled.put_nowait(message.raw_message.data)

    async def next(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            return await self.handled.get()


@asynccontextmanager
async def consuming(server: NatsServer, handler: Handler, **times: float) -> AsyncIterator[DurableConsumer]:
    settings = broker_settings(server, NAME)
    one = DurableConsumer(
        settings,
        NAME,
        subjects=["campaign.*.state"],
        handle=handler.handle,
        on_closed=lambda: pytest.fail("the consumer lost its broker for good"),
        **times,
    )
    async with connected(server, NAME) as nc:
        task = asyncio.create_task(one.run(nc))
        try:
            yield one
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def say(server: NatsServer, *bodies: bytes) -> list[int]:
    """Publish bodies; their offsets."""
    async with connected(server, "publisher") as nc:
        return [await broker.publish(nc, "campaign.c1.state", body, message_id=body.decode()) for body in bodies]


@pytest.mark.parametrize(
    "error", [ValueError("x"), UnicodeError("x"), OverflowError("x"), RecursionError("x"), ZeroDivisionError("x")]
)
async def test_message_whose_content_the_handler_refuses_is_set_aside_after_three_attempts(
    stream: NatsServer, error: Exception
) -> None:
    handler = Handler(error)
    async with consuming(stream, handler):
        await say(stream, b"bad", b"good")

        assert await handler.next() == b"good"
    assert handler.tries == consumer.TRIES


async def test_consumer_stuck_at_a_message_is_not_ready_and_doctor_names_the_message(stream: NatsServer) -> None:
    """Once the handler can take it, everything is handled in order."""
    handler = Handler(RuntimeError("a bug"))
    async with consuming(stream, handler, stuck_s=1.5) as one:
        bad, _ = await say(stream, b"bad", b"good")
        async with asyncio.timeout(PATIENCE_S):
            while "no progress" not in (said := one.why_not_ready() or ""):
                await asyncio.sleep(0.05)
            deployment = Deployment(broker_settings(stream, "operator"), stuck_s=1.5)
            while (check := {one.name: one for one in await diagnose(deployment)}[NAME]).verdict != "wrong":
                pass
        handler.error = None
        handled = [await handler.next(), await handler.next()]
        async with asyncio.timeout(PATIENCE_S):
            while one.why_not_ready() is not None:
                await asyncio.sleep(0.05)

    assert NAME in said
    assert f"message {bad}" in said
    assert f"message {bad} of EVENTS" in check.found
    assert handled == [b"bad", b"good"]
