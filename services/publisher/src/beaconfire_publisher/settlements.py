"""Answer HTTP calls on settlements: the villages, towns and forts of a campaign."""

from typing import Any

from pydantic import Field

from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.event import Id
from beaconfire_kit.events.campaign import Operation, SettlementUpdated
from beaconfire_kit.models import Body
from beaconfire_kit.store import Row, Writing
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
from beaconfire_publisher.store import KINGDOMS, SETTLEMENTS, STRUCTURES
from beaconfire_publisher.structures import Structures
from beaconfire_publisher.variable_schemas import VariableSchemaChanges, VariableSchemas, check_variables


class SettlementChanges(Body):
    """The fields of a settlement that may be changed."""

    name: Name = ""
    kind: Kind = "village"
    level: Level = 0
    population: Population = 0
    description: Description = ""
    kingdom_id: Id | None = None
    variables: VariableChanges = Field(default_factory=dict)
    variable_schemas: VariableSchemaChanges = Field(default_factory=dict)


class NewSettlement(SettlementChanges):
    """A settlement to create."""

    name: Name
    variables: Variables = Field(default_factory=dict)
    variable_schemas: VariableSchemas = Field(default_factory=dict)


class Settlement(Thing):
    """A settlement as callers see it."""

    campaign_id: str
    kingdom_id: str | None
    kind: str
    level: int
    population: int
    description: str
    variables: dict[str, Value]
    variable_schemas: dict[str, dict[str, Any]]


class Settlements(Collection):
    """The settlements of a campaign. Each may be in one of its kingdoms."""

    word = "settlement"
    plural = "settlements"
    path = "/v1/campaigns/{campaign_id}/settlements"
    thing_path = path + "/{id}"
    filters = ("kingdom_id",)
    table = SETTLEMENTS
    new = NewSettlement
    changes = SettlementChanges
    answer = Settlement

    @staticmethod
    def event(row: Row, operation: Operation, fields: tuple[str, ...] = ()) -> SettlementUpdated:
        return SettlementUpdated(
            campaign_id=row["campaign_id"], settlement_id=row["id"], operation=operation, changed_fields=fields
        )

    async def lock_others(self, tx: Writing, path: Row, wanted: Row) -> None:
        """Find the kingdom, so that it cannot be deleted in the meantime."""
        if (kingdom_id := wanted.get("kingdom_id")) is None:
            return
        try:
            await tx.find(KINGDOMS, {"campaign_id": path["campaign_id"], "id": kingdom_id})
        except BeaconfireError:
            raise BeaconfireError(errors.BAD_REQUEST, "kingdomId: this campaign has no such kingdom") from None

    def check(self, row: Row, fields: tuple[str, ...]) -> None:
        check_variables(row["variables"], row["variable_schemas"], fields)

    async def empty(self, tx: Writing, row: Row) -> None:
        for structure in await tx.find_all(STRUCTURES, {"settlement_id": row["id"]}):
            tx.publish(Structures.event(structure, "delete"))
