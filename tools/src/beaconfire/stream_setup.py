"""Declare the stream from the command line: once per deployment, before the services start."""

import asyncio

from beaconfire_kit import broker
from beaconfire_kit.settings import Settings
from beaconfire_kit.stream_setup import declare_stream


class StreamNotDeclared(Exception):
    """The broker was not reached, or did not declare the stream in time. The text names the broker."""


async def declare(settings: Settings, *, replicas: int | None, timeout_s: float) -> str:
    """Declare the stream, and wait up to `timeout_s` for the broker. Return the stream's epoch.

    Raises StreamNotDeclared, BrokerRefused.
    """
    try:
        async with asyncio.timeout(timeout_s):
            nc = await broker.connect(settings, "setup", on_closed=lambda: None)
            try:
                return await declare_stream(nc, replicas=replicas, timeout_s=timeout_s)
            finally:
                await broker.close(nc)
    except TimeoutError:
        raise StreamNotDeclared(
            f"{settings.nats_url} did not declare the stream within {timeout_s:.0f} s. Does it run with JetStream? "
            f"May the user {settings.nats_user or '(none)'} do that? Do as many servers run as there are replicas?"
        ) from None
