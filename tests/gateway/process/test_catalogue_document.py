"""A gateway serves an AsyncAPI document of the catalogue that counts, to operators only."""

import asyncio
from typing import Any

import aiohttp
import jsonschema

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.process.catalogue_document import PATH
from beaconfire_kit.catalogue_store import CatalogueStore
from tests.conftest import connected
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway
from tests.kit.catalogue.specification import SPECIFICATION
from tests.kit.fragments import note


async def document_of(gateway: Gateway) -> dict[str, Any]:
    async with aiohttp.ClientSession() as http, http.get(f"{gateway.ops_url}{PATH}") as answer:
        assert answer.status == 200
        document: dict[str, Any] = await answer.json()
        return document


async def test_document_is_valid_and_follows_the_catalogue(stream: NatsServer, auth: FakeAuth) -> None:
    async with running_gateway(stream, auth) as gateway:
        before = await document_of(gateway)
        async with connected(stream, "setup") as nc:
            pushed = await CatalogueStore(nc).push([note("notes", "note.written")], by="test")
        async with asyncio.timeout(10):
            while (after := await document_of(gateway))["info"]["version"] != str(pushed.revision):
                await asyncio.sleep(0.02)

    jsonschema.validate(after, SPECIFICATION)

    assert "settlement_updated.v1" in before["components"]["messages"]
    assert "note.written.v1" not in before["components"]["messages"]
    assert "note.written.v1" in after["components"]["messages"]


async def test_document_is_not_on_the_public_port(stream: NatsServer, auth: FakeAuth) -> None:
    async with (
        running_gateway(stream, auth) as gateway,
        aiohttp.ClientSession() as http,
        http.get(f"{gateway.url}{PATH}") as answer,
    ):
        assert answer.status == 404
