"""Answer HTTP calls on settlements: the villages, towns and forts of a campaign."""

from pydantic import Field

from beaconfire_kit.events.campaign import Operation, SettlementUpdated
from beaconfire_kit.models import Body
from beaconfire_publisher.collection import Collection
from beaconfire_publisher.fields import (
    Description,
    Kind,
    Level,
    Name,
    Population,
    Thing,
    Value,
    VariableChanges,
    Variables,
)
from beaconfire_publisher.store import SETTLEMENTS, STRUCTURES, Row, Writing
from beaconfire_publisher.structures import Structures


class SettlementChanges(Body):
    """The fields of a settlement that may be changed."""

    name: Name = ""
    kind: Kind = "village"
    level: Level = 0
    population: Population = 0
    description: Description = ""
    variables: VariableChanges = Field(default_factory=dict)


class NewSettlement(SettlementChanges):
    """A settlement to create."""

    name: Name
    variables: Variables = Field(default_factory=dict)


class Settlement(Thing):
    """A settlement as callers see it."""

    campaign_id: str
    kind: str
    level: int
    population: int
    description: str
    variables: dict[str, Value]


class Settlements(Collection):
    """The settlements of a campaign."""

    word = "settlement"
    plural = "settlements"
    path = "/v1/campaigns/{campaign_id}/settlements"
    thing_path = path + "/{id}"
    table = SETTLEMENTS
    new = NewSettlement
    changes = SettlementChanges
    answer = Settlement

    @staticmethod
    def event(row: Row, operation: Operation, fields: tuple[str, ...] = ()) -> SettlementUpdated:
        return SettlementUpdated(
            campaign_id=row["campaign_id"], settlement_id=row["id"], operation=operation, changed_fields=fields
        )

    async def publish_contents_deleted(self, tx: Writing, row: Row) -> None:
        for structure in await tx.find_all(STRUCTURES, {"settlement_id": row["id"]}):
            tx.publish(Structures.event(structure, "delete"))
