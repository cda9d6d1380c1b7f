"""Where an event goes: each room is heard by a socket that is in this room alone."""

from contextlib import AsyncExitStack

import pytest

from beaconfire_kit.event import Event
from beaconfire_kit.events.campaign import (
    EntityUpdated,
    SettlementUpdated,
    StateInvalidated,
    StructureUpdated,
    WorldTimeChanged,
)
from tests.client import open_socket
from tests.gateway.conftest import Gateway

CAMPAIGN = "campaign:c1"
LOCATION = "campaign:c1/location:x1"
SETTLEMENT = "campaign:c1/settlement:x1"
STRUCTURE = "campaign:c1/structure:x1"
ROOMS = [CAMPAIGN, LOCATION, SETTLEMENT, STRUCTURE]

LOCATION_UPDATED = EntityUpdated(campaign_id="c1", entity_type="location", entity_id="x1", changed_fields=("name",))
CAMPAIGN_UPDATED = EntityUpdated(campaign_id="c1", entity_type="campaign", entity_id="c1", changed_fields=("name",))
CAMPAIGN_INVALIDATED = StateInvalidated(campaign_id="c1", scope="campaign", affected_fields=("income",))
LOCATION_INVALIDATED = StateInvalidated(
    campaign_id="c1", scope="entity", entity_type="location", entity_id="x1", affected_fields=("income",)
)
WORLD_TIME_CHANGED = WorldTimeChanged(
    campaign_id="c1",
    previous_time="2026-11-21T10:00:00Z",  # type: ignore[arg-type]
    new_time="2026-11-21T11:00:00Z",  # type: ignore[arg-type]
    elapsed_seconds=3600,
)
SETTLEMENT_UPDATED = SettlementUpdated(
    campaign_id="c1", settlement_id="x1", operation="update", changed_fields=("level",)
)
STRUCTURE_UPDATED = StructureUpdated(
    campaign_id="c1", settlement_id="x1", structure_id="x1", operation="update", changed_fields=("level",)
)


@pytest.mark.parametrize(
    ("event", "rooms"),
    [
        pytest.param(LOCATION_UPDATED, [CAMPAIGN, LOCATION], id="a location"),
        pytest.param(CAMPAIGN_UPDATED, [CAMPAIGN], id="the campaign as an entity"),
        pytest.param(CAMPAIGN_INVALIDATED, [CAMPAIGN], id="state of the campaign"),
        pytest.param(LOCATION_INVALIDATED, [CAMPAIGN], id="state of a location"),
        pytest.param(WORLD_TIME_CHANGED, [CAMPAIGN], id="world time"),
        pytest.param(SETTLEMENT_UPDATED, [CAMPAIGN, SETTLEMENT], id="a settlement"),
        pytest.param(STRUCTURE_UPDATED, [CAMPAIGN, SETTLEMENT, STRUCTURE], id="a structure"),
    ],
)
async def test_event_of_a_campaign_is_heard_in_its_rooms_and_in_no_other(
    gateway: Gateway, event: Event, rooms: list[str]
) -> None:
    async with AsyncExitStack() as stack:
        clients = {room: await stack.enter_async_context(open_socket(gateway.url)) for room in ROOMS}
        for room, client in clients.items():
            await client.connect(gateway.auth.token("viewer"), [room])
        offset = await gateway.publish(event)
        for later in (LOCATION_UPDATED, STRUCTURE_UPDATED):  # each room hears one of these at least
            await gateway.publish(later)
        first = {room: await client.next("event") for room, client in clients.items()}

    heard = {room: frame for room, frame in first.items() if frame["offset"] == offset}
    assert list(heard) == rooms
    assert [frame["rooms"] for frame in heard.values()] == [rooms] * len(rooms)
