"""Services that answer requests know the newest catalogue, also if it was pushed a moment ago."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_kit.catalogue import profile
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue_follower import READ_TIMEOUT_S, CatalogueFollower
from beaconfire_kit.catalogue_store import CatalogueStore, reading
from beaconfire_kit.stream_setup import declare_stream
from tests.broker_changes import call_api
from tests.conftest import connected
from tests.kit.fragments import note

PATIENCE_S = 20.0


@asynccontextmanager
async def following(
    server: NatsServer, user: str, *, read_timeout_s: float = READ_TIMEOUT_S
) -> AsyncIterator[CatalogueFollower]:
    async with connected(server, user) as nc:
        follower = CatalogueFollower(read_timeout_s=read_timeout_s)
        task = asyncio.create_task(follower.run(nc))
        try:
            yield follower
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(follower: CatalogueFollower, type_: str) -> Catalogue:
    """Wait until the follower knows a type."""
    async with asyncio.timeout(PATIENCE_S):
        while follower.current is None or type_ not in follower.current.types:
            await asyncio.sleep(0.01)
    return follower.current


@pytest.mark.parametrize("user", ["auth", "publisher"])
async def test_a_push_is_followed(stream: NatsServer, user: str) -> None:
    """A service hears the marker and loads the revision, with the permissions it has."""
    async with following(stream, user) as follower, connected(stream, "catalogue") as nc:
        before = await until(follower, "settlement_updated")

        pushed = await CatalogueStore(nc).push([note("logistics", "parcel.noted")], by="test")

        after = await until(follower, "parcel.noted")
        assert (before.revision, after.revision) == (pushed.revision - 1, pushed.revision)


async def test_a_refresh_knows_what_was_pushed_before_it(stream: NatsServer) -> None:
    """Nothing that was pushed before `refresh` is called is unknown after it, even at a service that hears nothing."""
    async with following(stream, "publisher") as follower, connected(stream, "catalogue") as nc:
        await until(follower, "settlement_updated")
        for number in range(3):
            types = [f"parcel.noted_{known}" for known in range(number + 1)]
            await CatalogueStore(nc).push([note("logistics", *types)], by="test")

            catalogue = await follower.refresh()

            assert catalogue is not None
            assert f"parcel.noted_{number}" in catalogue.types


async def test_refreshes_at_the_same_time_share_a_read(stream: NatsServer) -> None:
    """A hundred callers cause two reads at most: the one that runs, and one that begins after their calls."""
    async with following(stream, "publisher") as follower:
        await until(follower, "settlement_updated")
        reads: list[object] = []
        load = follower._load_newest

        async def counted() -> None:
            reads.append(None)
            await load()

        follower._load_newest = counted  # type: ignore[method-assign]

        await asyncio.gather(*(follower.refresh() for _ in range(100)))

        assert len(reads) <= 2


async def test_without_the_broker_the_last_known_catalogue_counts(stream: NatsServer) -> None:
    """The broker is away: a refresh ends in time and returns what is known."""
    async with following(stream, "publisher", read_timeout_s=0.3) as follower:
        before = await until(follower, "settlement_updated")
        stream.kill()

        assert follower.is_fresh
        assert await follower.refresh() is before
        assert not follower.is_fresh
        assert follower.why_not_ready() is None
        stream.start()


async def test_a_service_without_a_catalogue_says_what_is_missing(nats_server: NatsServer) -> None:
    """The bucket is not there yet: readiness names the command that creates it."""
    async with following(nats_server, "auth") as follower:
        async with asyncio.timeout(PATIENCE_S):
            while "beaconfire setup" not in (follower.why_not_ready() or ""):
                await asyncio.sleep(0.01)


async def test_a_read_counts_for_later_callers_only_once_it_has_ended(stream: NatsServer) -> None:
    """A caller that takes a read of the last second also waits for the one that runs: a push may be what began it."""
    async with following(stream, "publisher") as follower, connected(stream, "catalogue") as nc:
        await until(follower, "settlement_updated")
        load, begun, go = follower._load_newest, asyncio.Event(), asyncio.Event()

        async def held() -> None:
            begun.set()
            await go.wait()
            await load()

        follower._load_newest = held  # type: ignore[method-assign]
        first = asyncio.create_task(follower.refresh())
        await begun.wait()
        await CatalogueStore(nc).push([note("logistics", "parcel.noted")], by="test")
        follower._ended = 0.0  # no earlier read is young enough
        second = asyncio.create_task(follower.refresh(max_age_s=PATIENCE_S))
        await asyncio.sleep(0)
        go.set()
        async with asyncio.timeout(PATIENCE_S):
            await first
            catalogue = await second

    assert catalogue is not None
    assert "parcel.noted" in catalogue.types


async def test_revisions_that_begin_anew_are_followed(stream: NatsServer) -> None:
    """The broker's storage was wiped, and set up again: revision 1 counts, although a service has known a later one."""
    async with following(stream, "publisher") as follower:
        async with connected(stream, "catalogue") as nc:
            await CatalogueStore(nc).push([note("logistics", "parcel.noted")], by="test")
        await until(follower, "parcel.noted")
        for name in ("EVENTS", "KV_CATALOGUE"):
            await call_api(stream, f"STREAM.DELETE.{name}")
        async with connected(stream, "setup") as nc:
            await declare_stream(nc)

        catalogue = await follower.refresh()

        assert catalogue is not None
        assert (catalogue.revision, "parcel.noted" in catalogue.types) == (1, False)


async def test_a_great_document_is_read_while_the_service_answers(
    stream: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes some tenths of a second. In the loop, all requests would wait."""
    threads: list[bool] = []

    def noted(document: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return profile.read_accepted(document)

    async with connected(stream, "catalogue") as nc:
        await CatalogueStore(nc).push([note("logistics", "parcel.great")], by="test")
        reading._fragments.clear()
        monkeypatch.setattr(reading, "read_accepted", noted)
        await CatalogueStore(nc).load(await CatalogueStore(nc).head())

    assert len(threads) == 4
    assert not any(threads)
