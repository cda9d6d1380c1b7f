"""An event is one class, and a class that cannot work is refused when its module is imported."""

import pytest
from pydantic import ValidationError

from beaconfire_kit import event as event_module
from beaconfire_kit.event import Event, Id, InvalidDeclaration, MissingId, events
from beaconfire_kit.events.campaign import SettlementUpdated
from beaconfire_kit.events.user import MemberChanged
from beaconfire_kit.events.workspace import ApprovalUpdated, UserTyping

ROWS = {
    "A20": ["entity_updated", "state_invalidated", "world_time_changed", "settlement_updated", "structure_updated"],
    "B2": [
        "approval.created",
        "approval.updated",
        "approval.deleted",
        "agent.status.changed",
        "notification.new",
        "chat.message",
        "ai.run.started",
        "ai.run.progress",
        "ai.run.completed",
        "ai.run.failed",
        "activity.created",
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
        "issue.activity.created",
    ],
    "B9": ["notification.read"],
    "auth": ["member_changed", "access_revoked"],
}


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove a test's declarations after it."""
    monkeypatch.setattr(event_module, "_registry", dict(event_module._registry))


@pytest.mark.parametrize("row", ROWS)
def test_catalogue_has_every_required_event(row: str) -> None:
    assert set(ROWS[row]) <= set(events())


def test_catalogue_has_no_event_that_is_not_required() -> None:
    assert set(events()) == {type_ for row in ROWS.values() for type_ in row}


def test_subject_is_filled_from_the_events_fields() -> None:
    event = SettlementUpdated(campaign_id="c1", settlement_id="s1", operation="create", changed_fields=())
    member = MemberChanged(root_kind="workspace", root_id="w1", user_id="u1", role=None, membership_version=1)

    assert event.full_subject() == "campaign.c1.settlement.s1"
    assert member.full_subject() == "workspace.w1.member.u1"


def test_event_with_an_unknown_missing_or_wildcard_field_cannot_be_built() -> None:
    good = {"campaignId": "c1", "settlementId": "s1", "operation": "create", "changedFields": []}
    for wrong in (
        {**good, "extra": 1},
        {**good, "campaignId": "*"},
        {**good, "operation": "rename"},
        {"campaignId": "c"},
    ):
        with pytest.raises(ValidationError):
            SettlementUpdated.model_validate(wrong)


def test_event_of_another_system_keeps_its_unknown_fields_and_leaves_out_what_was_not_given() -> None:
    part = {"id": "a1", "assigneeId": None, "type": "expense", "version": 3, "subject": "Travel", "dueDate": "today"}
    event = ApprovalUpdated.model_validate({"workspaceId": "w1", **part})

    assert event.full_subject() == "workspace.w1.approval.a1"
    assert (event.type, event.version) == ("approval.updated", 1)
    assert event.model_dump(mode="json") == {"workspaceId": "w1", **part}


def test_event_without_an_id_of_its_subject_has_no_subject() -> None:
    with pytest.raises(MissingId, match=r"approval.updated: its subject needs workspaceId"):
        ApprovalUpdated(id="a1").full_subject()


def test_ephemeral_event_belongs_below_ephemeral() -> None:
    assert UserTyping(workspace_id="w1", target_kind="chat", target_id="h1", user_id="u1").full_subject() == (
        "ephemeral.workspace.w1.chat.h1.typing"
    )


def test_id_of_the_subject_with_another_default_than_none_is_refused() -> None:
    with pytest.raises(InvalidDeclaration, match="campaign_id, whose default is an id"):

        class Somewhere(Event):
            type = "somewhere"
            subject = "campaign.{campaign_id}.place"
            campaign_id: Id = "c1"


def test_subject_with_a_placeholder_that_is_no_field_is_refused() -> None:
    with pytest.raises(InvalidDeclaration, match=r"Lost.*town_id, which is not a field"):

        class Lost(Event):
            type = "lost"
            subject = "campaign.{campaign_id}.town.{town_id}"
            campaign_id: Id


def test_second_class_with_a_type_is_refused() -> None:
    with pytest.raises(InvalidDeclaration, match=r"taken by .*SettlementUpdated"):

        class Again(Event):
            type = "settlement_updated"
            subject = "campaign.{campaign_id}.again"
            campaign_id: Id


@pytest.mark.parametrize("bad", ["campaign", "tick.{campaign_id}", "campaign..{campaign_id}", "campaign.*", "{kind}.x"])
def test_malformed_subject_template_is_refused(bad: str) -> None:
    with pytest.raises(InvalidDeclaration):

        class Malformed(Event):
            type = "malformed"
            subject = bad
            campaign_id: Id


def test_event_class_without_a_subject_or_with_a_malformed_type_is_refused() -> None:
    with pytest.raises(InvalidDeclaration, match="no subject"):

        class Homeless(Event):
            type = "homeless"

    with pytest.raises(InvalidDeclaration, match="words of letters"):

        class Shouting(Event):
            type = "Shouting!"
            subject = "campaign.x"


def test_declaring_a_class_adds_its_event_and_a_shape_without_type_adds_none() -> None:
    class _Shape(Event):
        root_kind: Id
        root_id: Id

    class Renamed(_Shape):
        type = "renamed"
        subject = "{root_kind}.{root_id}.name"

    assert events()["renamed"] is Renamed
    assert _Shape not in events().values()
