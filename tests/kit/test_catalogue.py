"""beaconfire_kit.catalogue: an event is one class, and one that cannot work is refused while its module is imported."""

from typing import Literal

import pytest
from pydantic import ValidationError

from beaconfire_kit import catalogue
from beaconfire_kit.catalogue import Event, Id, InvalidDeclaration, events
from beaconfire_kit.events.campaign import SettlementUpdated
from beaconfire_kit.events.user import MemberChanged

ROWS = {
    "A20": ["entity_updated", "state_invalidated", "world_time_changed", "settlement_updated", "structure_updated"],
    "B2": [
        "approval.created",
        "approval.updated",
        "approval.deleted",
        "agent.status.changed",
        "notification.new",
        "chat.message",
    ],
    "C3": [
        "issue.created",
        "issue.updated",
        "issue.deleted",
        "issue.archived",
        "comment.created",
        "comment.updated",
        "comment.deleted",
        "project.updated",
        "cycle.updated",
        "user.typing",
    ],
    "auth": ["member_changed", "access_revoked"],
}


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test declares is gone after it."""
    monkeypatch.setattr(catalogue, "_registry", events())


@pytest.mark.parametrize("row", ROWS)
def test_every_event_is_declared(row: str) -> None:
    """The catalogue has every event the requirements name."""
    assert set(ROWS[row]) <= set(events())


def test_nothing_else_is_declared() -> None:
    """An event nobody asked for is a mistake, or a row that is missing above."""
    assert set(events()) == {type_ for row in ROWS.values() for type_ in row}


def test_address() -> None:
    """The subject is filled from the fields."""
    event = SettlementUpdated(campaign_id="c1", settlement_id="s1", operation="create", changed_fields=())
    member = MemberChanged(root_kind="workspace", root_id="w1", user_id="u1", role=None, membership_version=1)

    assert event.address() == "campaign.c1.settlement.s1"
    assert member.address() == "workspace.w1.member.u1"


def test_written_strictly() -> None:
    """A service cannot build an event with an unknown field, a wildcard for an id, or a field missing."""
    good = {"campaignId": "c1", "settlementId": "s1", "operation": "create", "changedFields": []}
    for wrong in (
        {**good, "extra": 1},
        {**good, "campaignId": "*"},
        {**good, "operation": "rename"},
        {"campaignId": "c"},
    ):
        with pytest.raises(ValidationError):
            SettlementUpdated.model_validate(wrong)


def test_placeholder_without_a_field() -> None:
    """A subject that names what is no field is refused with the class's name."""
    with pytest.raises(InvalidDeclaration, match=r"Lost.*town_id, which is no field"):

        class Lost(Event):
            type = "lost"
            subject = "campaign.{campaign_id}.town.{town_id}"
            campaign_id: Id


def test_type_taken() -> None:
    """A type belongs to one class."""
    with pytest.raises(InvalidDeclaration, match=r"taken by .*SettlementUpdated"):

        class Again(Event):
            type = "settlement_updated"
            subject = "campaign.{campaign_id}.again"
            campaign_id: Id


@pytest.mark.parametrize(
    "bad", ["campaign", "settlement.{campaign_id}", "campaign..{campaign_id}", "campaign.*", "{campaign_id}.x"]
)
def test_malformed_subject(bad: str) -> None:
    """A subject outside the grammar is refused."""
    with pytest.raises(InvalidDeclaration):

        class Malformed(Event):
            type = "malformed"
            subject = bad
            campaign_id: Id


def test_no_subject_or_a_strange_type() -> None:
    """A type needs a subject, and lower-case words."""
    with pytest.raises(InvalidDeclaration, match="no subject"):

        class Homeless(Event):
            type = "homeless"

    with pytest.raises(InvalidDeclaration, match="lower_case"):

        class Shouting(Event):
            type = "Shouting!"
            subject = "campaign.x"


def test_a_new_event_is_one_class() -> None:
    """Declaring a class adds the event; a shared shape without a type is none."""

    class _Shape(Event):
        root_kind: Literal["campaign", "workspace"]
        root_id: Id

    class Renamed(_Shape):
        type = "renamed"
        subject = "{root_kind}.{root_id}.name"

    assert events()["renamed"] is Renamed
    assert _Shape not in events().values()
