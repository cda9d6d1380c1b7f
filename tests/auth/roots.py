"""Push a root of another product, and publish its events."""

import asyncio
import json

from nats.aio.client import Client

from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.catalogue_store import CatalogueStore
from beaconfire_kit.stream_setup import add_stream_subjects
from tests.conftest import connected
from tests.kit.fragments import with_root


async def push(server: NatsServer, root: str = "depot") -> None:
    """Push the fragment in the order that a new root needs: permissions, stream, marker."""
    await asyncio.to_thread(server.permit, roots=[root])
    async with connected(server, "setup") as setup, connected(server, "catalogue") as nc:
        await add_stream_subjects(setup, [f"{root}.>"])
        await CatalogueStore(nc).push([with_root("logistics", root, "parcel.moved")], by="test")


async def move(nc: Client, root: str, root_id: str, note: str, type_: str = "parcel.moved") -> int:
    """Publish an event of a note in a root. Its offset."""
    metadata = {"timestamp": "2026-11-21T10:00:00Z", "source": "depot"}
    event_id = f"m-{root_id}-{note}"
    body = {"id": event_id, "type": type_, "version": 1, "payload": {}}
    encoded = json.dumps({**body, "metadata": metadata}).encode()
    return await broker.publish(nc, f"{root}.{root_id}.note.{note}", encoded, message_id=event_id)
