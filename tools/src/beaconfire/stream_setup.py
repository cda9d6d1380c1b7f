"""Declaring the stream from the command line: once a deployment, before the services."""

import asyncio

from beaconfire_kit import broker
from beaconfire_kit.settings import Settings


class StreamNotDeclared(Exception):
    """The broker could not be reached, or did not do it in time. The text says where it was looked for."""


async def declare(settings: Settings, *, replicas: int | None, timeout_s: float) -> str:
    """Declare the stream, waiting up to `timeout_s` for the broker. Returns its epoch.

    Raises StreamNotDeclared, BrokerRefused.
    """
    try:
        async with asyncio.timeout(timeout_s):
            nc = await broker.connect(settings, "setup", on_closed=lambda: None)
            try:
                return await broker.declare_stream(nc, replicas=replicas, timeout_s=timeout_s)
            finally:
                await broker.close(nc)
    except TimeoutError:
        raise StreamNotDeclared(
            f"{settings.nats_url} did not declare the stream within {timeout_s:.0f} s: does it run with JetStream, "
            f"may {settings.nats_user or 'anybody'} do that, and are as many servers up as there are to be replicas?"
        ) from None
