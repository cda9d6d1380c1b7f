"""Declare the stream and the catalogue from the command line: once per deployment, before the services start."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from beaconfire_kit import broker
from beaconfire_kit.catalogue_store import CatalogueStore, Pushed, StreamLacksSubjects
from beaconfire_kit.settings import Settings
from beaconfire_kit.stream_setup import add_stream_subjects, declare_stream


class StreamNotDeclared(Exception):
    """The broker was not reached, or did not declare the stream in time. The text names the broker."""


async def declare(
    settings: Settings,
    *,
    replicas: int | None,
    timeout_s: float,
    builtin: bool = True,
    roots: Iterable[str] = (),
    documents: Sequence[Mapping[str, Any]] = (),
    by: str = "setup",
) -> tuple[str, Pushed | None]:
    """Declare the stream and the catalogue's bucket, and wait up to `timeout_s` for the broker.

    The stream takes the events of further `roots`. The built-in fragments are pushed, and then the `documents`. Returns
    the stream's epoch, and what came of that push. Raises StreamNotDeclared, BrokerRefused, InvalidFragment,
    CatalogueError.
    """
    try:
        async with asyncio.timeout(timeout_s):
            nc = await broker.connect(settings, "setup", on_closed=lambda: None)
            try:
                epoch = await declare_stream(nc, replicas=replicas, builtin=builtin, timeout_s=timeout_s)
                await add_stream_subjects(nc, [f"{kind}.>" for kind in roots])
                if not documents:
                    return epoch, None
                store = CatalogueStore(nc)
                try:
                    return epoch, await store.push(documents, by=by)
                except StreamLacksSubjects as error:
                    await add_stream_subjects(nc, error.subjects)
                    return epoch, await store.push(documents, by=by)
            finally:
                await broker.close(nc)
    except TimeoutError:
        raise StreamNotDeclared(
            f"{settings.nats_url} did not declare the stream within {timeout_s:.0f} s. Does it run with JetStream? "
            f"May the user {settings.nats_user or '(none)'} do that? Do as many servers run as there are replicas?"
        ) from None
