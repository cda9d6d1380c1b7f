"""Answer HTTP calls on entities: everything else in a campaign. The caller names each one's type (location, …)."""

from typing import Annotated

from pydantic import AfterValidator, Field

from beaconfire_kit import errors
from beaconfire_kit.catalogue_follower import CatalogueFollower
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.events.campaign import EntityUpdated, Operation
from beaconfire_kit.models import Body
from beaconfire_kit.store import Row
from beaconfire_publisher.access import Access
from beaconfire_publisher.collection import Collection
from beaconfire_publisher.fields import Key, Name, Thing, Value, VariableChanges, Variables
from beaconfire_publisher.store import ENTITIES, Store

RESERVED = frozenset({"campaign", "workspace", "user", "kingdom", "settlement", "structure", "member"})
"""Kinds with events of their own: an entity of such a kind would appear in their rooms. Only auth may publish events of
members: the broker would refuse the event forever."""


def _check_type(kind: str) -> str:
    if kind in RESERVED:
        raise ValueError(f"{kind} is a reserved kind, as are {', '.join(sorted(RESERVED - {kind}))}")
    return kind


Type = Annotated[Key, AfterValidator(_check_type), Field(json_schema_extra={"not": {"enum": sorted(RESERVED)}})]


class EntityChanges(Body):
    """The fields of an entity that may be changed."""

    name: Name = ""
    data: VariableChanges = Field(default_factory=dict)


class NewEntity(EntityChanges):
    """An entity to create."""

    type: Type
    name: Name
    data: Variables = Field(default_factory=dict)


class Entity(Thing):
    """An entity as callers see it."""

    campaign_id: str
    type: str
    data: dict[str, Value]


class Entities(Collection):
    """The entities of a campaign."""

    word = "entity"
    plural = "entities"
    path = "/v1/campaigns/{campaign_id}/entities"
    thing_path = path + "/{type}/{id}"
    filters = ("type",)
    table = ENTITIES
    new = NewEntity
    changes = EntityChanges
    answer = Entity

    def __init__(self, access: Access, store: Store, catalogues: CatalogueFollower) -> None:
        super().__init__(access, store)
        self._catalogues = catalogues

    def check(self, row: Row, fields: tuple[str, ...]) -> None:
        """Refuse an entity whose type is a kind of root: nobody could join its room."""
        catalogue = self._catalogues.current
        if catalogue is not None and row["type"] in catalogue.roots:
            raise BeaconfireError(errors.BAD_REQUEST, f"type: {row['type']} is a kind of root in the catalogue")

    @staticmethod
    def event(row: Row, operation: Operation, fields: tuple[str, ...] = ()) -> EntityUpdated:
        return EntityUpdated(
            campaign_id=row["campaign_id"],
            entity_type=row["type"],
            entity_id=row["id"],
            operation=operation,
            changed_fields=fields,
        )
