"""Events of a campaign: its settlements, their structures, all other entities, and world time."""

from typing import Literal

from pydantic import AwareDatetime, Field

from beaconfire_kit.event import Event, Id

Operation = Literal["create", "update", "delete"]


class EntityUpdated(Event):
    """An entity other than a settlement or structure, or the campaign itself, was created, changed or deleted."""

    type = "entity_updated"
    subject = "campaign.{campaign_id}.{entity_type}.{entity_id}"

    entity_type: Id
    entity_id: Id
    campaign_id: Id
    operation: Operation = "update"
    changed_fields: tuple[str, ...]


class StateInvalidated(Event):
    """Computed values of the whole campaign or of one entity are out of date. The rules engine publishes this."""

    type = "state_invalidated"
    subject = "campaign.{campaign_id}.state"

    scope: Literal["campaign", "entity"]
    campaign_id: Id
    entity_type: Id | None = None
    entity_id: Id | None = None
    affected_fields: tuple[str, ...]


class WorldTimeChanged(Event):
    """The campaign's clock was advanced."""

    type = "world_time_changed"
    subject = "campaign.{campaign_id}.world_time"

    campaign_id: Id
    previous_time: AwareDatetime
    new_time: AwareDatetime
    elapsed_seconds: int = Field(ge=0)


class SettlementUpdated(Event):
    """A settlement was created, changed or deleted."""

    type = "settlement_updated"
    subject = "campaign.{campaign_id}.settlement.{settlement_id}"

    campaign_id: Id
    settlement_id: Id
    operation: Operation
    changed_fields: tuple[str, ...]


class StructureUpdated(Event):
    """A structure of a settlement was created, changed or deleted."""

    type = "structure_updated"
    subject = "campaign.{campaign_id}.settlement.{settlement_id}.structure.{structure_id}"

    campaign_id: Id
    settlement_id: Id
    structure_id: Id
    operation: Operation
    changed_fields: tuple[str, ...]
