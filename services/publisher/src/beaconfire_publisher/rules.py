"""Decide which change makes which computed values stale: a table, and the function that reads it.

The values are not computed here. A client or service that shows them hears `state_invalidated`, which names them, and
computes or loads them again.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from beaconfire_kit.event import Event
from beaconfire_kit.events.campaign import SettlementUpdated, StateInvalidated, StructureUpdated, WorldTimeChanged

Change = SettlementUpdated | StructureUpdated | WorldTimeChanged
"""The events with rules. No other event has a consequence, not even `state_invalidated`, so rules cannot loop."""

CREATED, DELETED = "(created)", "(deleted)"
"""Used like fields: the thing was created, or deleted."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A `change` of any of `fields` makes `affected` out of date, for its settlement, or else for the whole campaign.

    A field includes its parts: `variables` includes `variables.food`. Without fields, every such event counts.
    """

    change: type[Change]
    fields: tuple[str, ...]
    affected: tuple[str, ...]


RULES = (
    Rule(SettlementUpdated, ("level",), ("income", "defence")),
    Rule(SettlementUpdated, ("population",), ("income", "upkeep")),
    Rule(SettlementUpdated, ("variables",), ("income", "upkeep", "defence")),
    # `kind` is what releases before called `type`.
    Rule(StructureUpdated, (CREATED, DELETED, "type", "kind", "level", "variables"), ("income", "upkeep", "defence")),
    Rule(WorldTimeChanged, (), ("income", "upkeep")),
)

SUBJECTS = tuple(dict.fromkeys(re.sub(r"\{\w+\}", "*", rule.change.subject) for rule in RULES))
"""Patterns of the NATS subjects that the rules need."""


def consequence(event: Event, rules: Iterable[Rule] = RULES) -> StateInvalidated | None:
    """Return what a change makes stale, by all rules together, or None."""
    if not isinstance(event, Change):
        return None
    matching = [rule for rule in rules if isinstance(event, rule.change) and _matches(rule, event)]
    affected = tuple(dict.fromkeys(field for rule in matching for field in rule.affected))
    if not affected:
        return None
    settlement_id = getattr(event, "settlement_id", None)
    return StateInvalidated(
        scope="entity" if settlement_id else "campaign",
        campaign_id=event.campaign_id,
        entity_type="settlement" if settlement_id else None,
        entity_id=settlement_id,
        affected_fields=affected,
    )


def _matches(rule: Rule, event: Change) -> bool:
    return not rule.fields or not _changed(event).isdisjoint(rule.fields)


def _changed(event: Change) -> set[str]:
    if isinstance(event, WorldTimeChanged):
        return {"worldTime"}
    happened = {"create": CREATED, "delete": DELETED}.get(event.operation)
    return {field.partition(".")[0] for field in event.changed_fields} | ({happened} if happened else set())
