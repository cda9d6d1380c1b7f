"""What tests of sending share: types that can be sent, and a sender for each way."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from beaconfire.nats_server import NatsServer
from beaconfire_kit.catalogue_store import CatalogueStore
from beaconfire_kit.sending import HttpSender, NatsSender, Sender
from tests.conftest import connected
from tests.kit.fragments import document

WAYS = ("http", "nats")


def _channel(address: str, name: str, *, ephemeral: bool = True) -> Mapping[str, Any]:
    payload = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "maxLength": 100}}}
    message = {"name": name, "payload": payload, "x-beaconfire": {"ephemeral": ephemeral}}
    return {"address": address, "messages": {name: message}}


NOTICES = document(
    "notices",
    workspace=_channel("workspace.{workspaceId}.{kind}.{itemId}.notice", "workspace.notice"),
    whole=_channel("workspace.{workspaceId}.announcement", "announcement"),
    user=_channel("user.{userId}.notice", "notice"),
    stored=_channel("workspace.{workspaceId}.decision", "decision", ephemeral=False),
)
"""Ephemeral types for every room of a workspace, for workspaces alone, and for users; and a type that is stored."""


async def push_notices(server: NatsServer) -> None:
    """Push the types above."""
    async with connected(server, "catalogue") as nc:
        await CatalogueStore(nc).push([NOTICES], by="test")


@asynccontextmanager
async def sending(way: str, server: NatsServer, publisher_url: str, token: str) -> AsyncIterator[Sender]:
    """A sender over HTTP, or over the broker as a service with a broker user."""
    if way == "http":
        async with aiohttp.ClientSession() as http:
            yield HttpSender(http, publisher_url, token=token)
    else:
        async with connected(server, "publisher") as nc:
            yield NatsSender(nc, token=token)
