"""beaconfire_publisher.rules: what a change makes out of date."""

import pytest

from beaconfire_kit.catalogue import Event
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
def test_of_a_settlement(event: Event, affected: tuple[str, ...]) -> None:
    """What happens to a settlement, or to a building in it, concerns what is computed of the settlement."""
    assert consequence(event) == StateInvalidated(
        scope="entity", campaign_id="c1", entity_type="settlement", entity_id="s1", affected_fields=affected
    )


def test_of_the_campaign() -> None:
    """World time concerns what is computed of everything in the campaign."""
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
def test_of_nothing(event: Event) -> None:
    """Other fields, other things and its own events have no consequence."""
    assert consequence(event) is None


def test_only_what_it_needs_is_heard() -> None:
    """The rules hear the subjects of their changes, and not that of their own event."""
    assert SUBJECTS == (
        "campaign.*.settlement.*",
        "campaign.*.settlement.*.structure.*",
        "campaign.*.world_time",
    )
