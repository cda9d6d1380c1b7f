"""Which computed values a change makes out of date."""

import pytest

from beaconfire_kit.event import Event
from beaconfire_kit.events.campaign import (
    EntityUpdated,
    Operation,
    SettlementUpdated,
    StateInvalidated,
    StructureUpdated,
    WorldTimeChanged,
)
from beaconfire_publisher.rules import SUBJECTS, consequence

LONG_AGO = "1000-01-01T08:00:00Z"


def settlement(*fields: str, operation: Operation = "update") -> SettlementUpdated:
    return SettlementUpdated(campaign_id="c1", settlement_id="s1", operation=operation, changed_fields=fields)


def structure(*fields: str, operation: Operation = "update") -> StructureUpdated:
    return StructureUpdated(
        campaign_id="c1", settlement_id="s1", structure_id="t1", operation=operation, changed_fields=fields
    )


def passed(seconds: int) -> WorldTimeChanged:
    times = {"previousTime": LONG_AGO, "newTime": LONG_AGO}
    return WorldTimeChanged.model_validate({"campaignId": "c1", **times, "elapsedSeconds": seconds})


@pytest.mark.parametrize(
    ("event", "affected"),
    [
        (settlement("level"), ("income", "defence")),
        (settlement("population"), ("income", "upkeep")),
        (settlement("variables.food"), ("income", "upkeep", "defence")),
        (settlement("name", "population", "level"), ("income", "defence", "upkeep")),
        (settlement("name", "level", operation="create"), ("income", "defence")),
        (structure("level"), ("income", "upkeep", "defence")),
        (structure("variables.stones"), ("income", "upkeep", "defence")),
        (structure("name", operation="create"), ("income", "upkeep", "defence")),
        (structure(operation="delete"), ("income", "upkeep", "defence")),
    ],
    ids=str,
)
def test_change_of_a_settlement_or_its_structure_invalidates_the_settlement(
    event: Event, affected: tuple[str, ...]
) -> None:
    assert consequence(event) == StateInvalidated(
        scope="entity", campaign_id="c1", entity_type="settlement", entity_id="s1", affected_fields=affected
    )


def test_world_time_invalidates_the_whole_campaign() -> None:
    told = StateInvalidated(scope="campaign", campaign_id="c1", affected_fields=("income", "upkeep"))

    assert consequence(passed(60)) == told


@pytest.mark.parametrize(
    "event",
    [
        settlement("name", "description"),
        settlement(operation="delete"),
        structure("name"),
        EntityUpdated(campaign_id="c1", entity_type="location", entity_id="l1", changed_fields=("level",)),
        StateInvalidated(scope="campaign", campaign_id="c1", affected_fields=("level",)),
    ],
    ids=str,
)
def test_other_changes_and_the_rules_own_events_invalidate_nothing(event: Event) -> None:
    assert consequence(event) is None


def test_rules_subscribe_only_to_subjects_with_consequences() -> None:
    assert SUBJECTS == (
        "campaign.*.settlement.*",
        "campaign.*.settlement.*.structure.*",
        "campaign.*.world_time",
    )
