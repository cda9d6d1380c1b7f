"""The how-to about conflation: its fragment is pushed, and a client gets what its table says."""

import asyncio
import json
from typing import Any

import yaml

from beaconfire.nats_server import NatsServer
from beaconfire_kit.catalogue_store import CatalogueStore
from tests.client import open_socket
from tests.conftest import connected
from tests.docs.tree import blocks
from tests.fakes import FakeAuth
from tests.gateway.conftest import _auth, running_gateway
from tests.gateway.events import BODY

__all__ = ["_auth"]

PAGE = "docs/howto/conflate_fast_events.md"
REPORTS = 30


async def test_first_report_comes_at_once_and_the_last_without_an_offset(stream: NatsServer, auth: FakeAuth) -> None:
    [fragment] = [yaml.safe_load(block.text) for block in blocks(PAGE) if block.title == "couriers.yaml"]
    async with connected(stream, "catalogue") as nc:
        await CatalogueStore(nc).push([fragment], by="test")
    async with running_gateway(stream, auth) as gateway, open_socket(gateway.url) as client:
        await client.connect(auth.token("viewer"), ["campaign:c1"])
        publish = gateway.publisher.jetstream().publish
        bodies = [json.dumps(report(number)).encode() for number in range(1, REPORTS + 1)]
        await asyncio.gather(*(publish("campaign.c1.courier.k1", body) for body in bodies))
        first = await client.next("event")
        last = first
        while last["event"]["payload"]["latitude"] != REPORTS:
            last = await client.next("event")

    assert first["event"]["payload"]["latitude"] == 1
    assert "offset" in first
    assert "offset" not in last
    assert last["cursor"].partition(":")[2] == str(first["offset"] + REPORTS - 1)


def report(number: int) -> dict[str, Any]:
    payload = {"courierId": "k1", "latitude": number, "longitude": 0}
    return {**BODY, "type": "courier.located", "payload": payload}
