"""Publish events from which auth learns the roots of rooms."""

from typing import Any

from nats.aio.client import Client

from beaconfire_kit import broker
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.events.campaign import SettlementUpdated, StructureUpdated


async def teach(nc: Client, campaign: str, thing: str, structure: str = "", *, operation: Any = "update") -> int:
    """Publish an event of a settlement, or of a structure in it. Its offset."""
    ids = {"campaign_id": campaign, "settlement_id": thing, "operation": operation, "changed_fields": ("level",)}
    event = StructureUpdated(**ids, structure_id=structure) if structure else SettlementUpdated(**ids)
    envelope = Envelope(event, Metadata(source="api"))
    return await broker.publish(nc, envelope.subject, envelope.encode(), message_id=envelope.id)
