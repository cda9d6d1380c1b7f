"""Answer HTTP calls on kingdoms. A settlement may belong to one, and outlives it."""

from beaconfire_kit.events.campaign import EntityUpdated, Operation
from beaconfire_kit.models import Body
from beaconfire_kit.store import Row, Writing
from beaconfire_publisher.collection import Collection
from beaconfire_publisher.fields import Description, Name, Thing
from beaconfire_publisher.settlements import Settlements
from beaconfire_publisher.store import KINGDOMS, SETTLEMENTS


class KingdomChanges(Body):
    """The fields of a kingdom that may be changed."""

    name: Name = ""
    description: Description = ""


class NewKingdom(KingdomChanges):
    """A kingdom to create."""

    name: Name


class Kingdom(Thing):
    """A kingdom as callers see it."""

    campaign_id: str
    description: str


class Kingdoms(Collection):
    """The kingdoms of a campaign."""

    word = "kingdom"
    plural = "kingdoms"
    path = "/v1/campaigns/{campaign_id}/kingdoms"
    thing_path = path + "/{id}"
    table = KINGDOMS
    new = NewKingdom
    changes = KingdomChanges
    answer = Kingdom

    @staticmethod
    def event(row: Row, operation: Operation, fields: tuple[str, ...] = ()) -> EntityUpdated:
        return EntityUpdated(
            campaign_id=row["campaign_id"],
            entity_type="kingdom",
            entity_id=row["id"],
            operation=operation,
            changed_fields=fields,
        )

    async def empty(self, tx: Writing, row: Row) -> None:
        """Take the settlements out of the kingdom. They are not deleted."""
        for found in await tx.find_all(SETTLEMENTS, {"kingdom_id": row["id"]}):
            settlement, fields = await tx.change(SETTLEMENTS, found, {"kingdom_id": None})
            tx.publish(Settlements.event(settlement, "update", fields))
