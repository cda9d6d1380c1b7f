"""Declare the streams and the buckets, with the built-in fragments: once per deployment, as user `setup`.

nc = await broker.connect(settings, "setup", on_closed=…)
epoch = await declare_stream(nc, replicas=3)
"""

import asyncio
import uuid
from collections.abc import Iterable

from nats.aio.client import Client

from beaconfire_kit import broker
from beaconfire_kit.broker import ANCHOR, DEADLETTERS, STREAM, BrokerRefused
from beaconfire_kit.catalogue.builtin import fragments
from beaconfire_kit.catalogue_store import CatalogueStore
from beaconfire_kit.gateway_buckets import BUCKETS


async def declare_stream(
    nc: Client, *, replicas: int | None = None, builtin: bool = True, timeout_s: float = 30.0
) -> str:
    """Create the streams, or update those that exist to this configuration. Returns the epoch, which an update keeps.

    Without `replicas`, a stream keeps its number, and a new one has 1. A new stream of events gets an anchor, so its
    first offset shows what retention removed and not which ticks expired. The buckets of the gateways get as many
    replicas as the stream of events has. The catalogue's bucket is prepared too, and the built-in fragments are pushed
    unless `builtin` is false. Raises TimeoutError if JetStream does not answer in time, BrokerRefused if it refuses.
    """
    async with asyncio.timeout(timeout_s):
        there = await broker.config_of(nc, DEADLETTERS)
        copies = replicas or there.get("num_replicas", 1)
        change = "UPDATE" if there else "CREATE"
        await broker.call_api(nc, f"STREAM.{change}.{DEADLETTERS}", broker.deadletters_config(replicas=copies))
        epoch = await _declare_events(nc, replicas)
        await _declare_gateway_buckets(nc)
        store = CatalogueStore(nc)
        await store.prepare(replicas=replicas)
        await add_catalogue_subjects(nc)
        if builtin:
            await store.push_builtin(fragments(), by="setup")
        return epoch


async def _declare_events(nc: Client, replicas: int | None) -> str:
    there = await broker.config_of(nc, STREAM)
    copies = replicas or there.get("num_replicas", 1)
    if not there:
        epoch = uuid.uuid4().hex[:12]
        await broker.call_api(nc, f"STREAM.CREATE.{STREAM}", broker.stream_config(replicas=copies, epoch=epoch))
        await broker.publish(nc, ANCHOR, b"", message_id=f"anchor-{epoch}")
        return epoch
    epoch = broker.epoch_of(there) or uuid.uuid4().hex[:12]
    config = broker.stream_config(replicas=copies, epoch=epoch)
    config["subjects"] = _union(config["subjects"], there["subjects"])  # of roots of the catalogue
    for limit in ("max_bytes", "max_age"):  # an operator may have given the stream more room
        config[limit] = max(config[limit], there.get(limit, 0))
    await broker.call_api(nc, f"STREAM.UPDATE.{STREAM}", config)
    return epoch


async def _declare_gateway_buckets(nc: Client) -> None:
    copies = (await broker.config_of(nc, STREAM)).get("num_replicas", 1)
    for bucket in BUCKETS.values():
        await bucket.declare(nc, replicas=copies)


async def add_stream_subjects(nc: Client, subjects: Iterable[str]) -> list[str]:
    """Let the stream store further subjects, those of new roots, before a push declares them. Returns those it lacked.

    Never removes one: the history may have events on it. Raises BrokerRefused.
    """
    config = await broker.config_of(nc, STREAM)
    if not config:
        raise BrokerRefused(f"there is no stream {STREAM}: `beaconfire setup` declares it")
    lacking = [subject for subject in subjects if subject not in config["subjects"]]
    if lacking:
        config["subjects"] = _union(config["subjects"], lacking)
        await broker.call_api(nc, f"STREAM.UPDATE.{STREAM}", config)
    return lacking


async def add_catalogue_subjects(nc: Client) -> list[str]:
    """Let the stream store the events of every root in the catalogue that counts now. Returns the subjects it lacked.

    The stream may have been made again. Or a pusher that was frozen while it added a root has written the subjects
    without those that others have added meanwhile.
    """
    store = CatalogueStore(nc)
    catalogue = await store.load(await store.head())
    return await add_stream_subjects(nc, catalogue.stream_subjects)


def _union(subjects: Iterable[str], more: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([*subjects, *more]))
