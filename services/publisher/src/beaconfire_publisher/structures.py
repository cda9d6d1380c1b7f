"""Answer HTTP calls on structures: the buildings of a settlement."""

from typing import Any

from pydantic import Field

from beaconfire_kit.events.campaign import Operation, StructureUpdated
from beaconfire_kit.models import Body
from beaconfire_kit.store import Reading, Row
from beaconfire_publisher.collection import Collection
from beaconfire_publisher.fields import Kind, Level, Name, Thing, Value, VariableChanges, Variables
from beaconfire_publisher.store import SETTLEMENTS, STRUCTURES
from beaconfire_publisher.variable_schemas import VariableSchemaChanges, VariableSchemas, check_variables


class StructureChanges(Body):
    """The fields of a structure that may be changed."""

    name: Name = ""
    type: Kind = "building"
    level: Level = 0
    variables: VariableChanges = Field(default_factory=dict)
    variable_schemas: VariableSchemaChanges = Field(default_factory=dict)


class NewStructure(StructureChanges):
    """A structure to create."""

    name: Name
    variables: Variables = Field(default_factory=dict)
    variable_schemas: VariableSchemas = Field(default_factory=dict)


class Structure(Thing):
    """A structure as callers see it."""

    campaign_id: str
    settlement_id: str
    type: str
    level: int
    variables: dict[str, Value]
    variable_schemas: dict[str, dict[str, Any]]


class Structures(Collection):
    """The structures of a settlement."""

    word = "structure"
    plural = "structures"
    path = "/v1/campaigns/{campaign_id}/settlements/{settlement_id}/structures"
    thing_path = path + "/{id}"
    table = STRUCTURES
    new = NewStructure
    changes = StructureChanges
    answer = Structure

    @staticmethod
    def event(row: Row, operation: Operation, fields: tuple[str, ...] = ()) -> StructureUpdated:
        return StructureUpdated(
            campaign_id=row["campaign_id"],
            settlement_id=row["settlement_id"],
            structure_id=row["id"],
            operation=operation,
            changed_fields=fields,
        )

    def check(self, row: Row, fields: tuple[str, ...]) -> None:
        check_variables(row["variables"], row["variable_schemas"], fields)

    async def check_parent(self, tx: Reading, path: Row) -> None:
        await tx.find(SETTLEMENTS, {"campaign_id": path["campaign_id"], "id": path["settlement_id"]})
