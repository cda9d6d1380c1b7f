"""The catalogue takes the messages of the workspace and of the tracker in the shapes that they have there."""

import pytest

from beaconfire_kit.event import events
from beaconfire_kit.invalid_event import InvalidEvent
from tests.foreign_messages import STORED, TYPING, Message
from tests.gateway.catalogues import BUILTIN


def body(type_: str, payload: str) -> bytes:
    metadata = '{"timestamp": "2026-11-21T10:00:00Z", "source": "theirs"}'
    return f'{{"id": "e1", "type": "{type_}", "version": 1, "payload": {payload}, "metadata": {metadata}}}'.encode()


OURS_ALONE = {"notification.read"}
"""Types that the existing systems do not have."""


def test_there_is_a_message_for_every_type_and_at_least_forty() -> None:
    modules = {"beaconfire_kit.events.workspace", "beaconfire_kit.events.tracker", "beaconfire_kit.events.notification"}
    theirs = {type_ for type_, cls in events().items() if cls.__module__ in modules} - OURS_ALONE

    assert {message.type for message in (*STORED, *TYPING)} == theirs
    assert len(STORED) >= 40
    assert len(set(map(str, STORED))) == len(STORED)


@pytest.mark.parametrize("message", [*STORED, *TYPING], ids=str)
def test_message_of_the_workspace_or_the_tracker_is_valid_on_its_subject(message: Message) -> None:
    assert BUILTIN.check(message.subject, body(message.type, message.payload)).type == message.type


@pytest.mark.parametrize(
    ("type_", "subject", "payload", "reason"),
    [
        ("approval.updated", "workspace.w1.approval.a1", '{"id": "a2"}', "wrong_subject"),
        ("approval.created", "workspace.w1.approval.a1", '{"workspaceId": "w2", "id": "a1"}', "wrong_subject"),
        ("approval.deleted", "workspace.w1.approvals.a1", "{}", "wrong_subject"),
        ("approval.deleted", "workspace.w1", "{}", "wrong_subject"),
        ("approval.updated", "workspace.w1.approval.a1", '{"id": 7}', "wrong_subject"),
        ("approval.updated", "workspace.w1.approval.7", '{"id": 7.5}', "invalid"),
        ("approval.updated", "workspace.w1.approval.1", '{"id": true}', "invalid"),
        ("approval.updated", "workspace.w1.approval.a1", '{"id": ["a1"]}', "invalid"),
        ("approval.updated", "workspace.w1.approval.a1", '{"status": "approved", "status": "rejected"}', "not_json"),
        ("approval.created", "workspace.w1.approval.a1", '[{"id": "a1"}]', "invalid"),
        ("approval.created", "workspace.w1.approval.a1", '{"id": "a1", "title": 7}', "invalid"),
        ("approval.updated", "workspace.w1.approval.a1", '{"id": "a1", "status": ["approved"]}', "invalid"),
        ("approval.deleted", "workspace.w1.approval.a1", '{"id": {"value": "a1"}}', "invalid"),
        ("agent.status.changed", "workspace.w1.agent.g1", '{"agentId": "g1"}', "invalid"),
        ("agent.status.changed", "workspace.w1.agent.g1", '{"agentId": "g1", "status": null}', "invalid"),
        ("agent.status.changed", "workspace.w1.agent.g1", '{"agentId": "g2", "status": "idle"}', "wrong_subject"),
        ("chat.message", "workspace.w1.chat.h1", '{"chatId": "h2", "text": "Hi"}', "wrong_subject"),
        ("chat.message", "workspace.w1.chat.h1", '{"chatId": "h1", "text": {"en": "Hi"}}', "invalid"),
        ("notification.new", "user.u1.notification.n1", '{"id": "n2"}', "wrong_subject"),
        ("notification.new", "user.u1.notification.n1", '"Approve?"', "invalid"),
        ("issue.updated", "workspace.w1.team.m1.issue.i1", '{"id": "i1", "changes": ["status"]}', "invalid"),
        ("issue.updated", "workspace.w1.team.m1.issue.i1", '{"id": "i1", "teamId": "m2"}', "wrong_subject"),
        ("comment.created", "workspace.w1.team.m1.issue.i1.comment.k1", '{"issueId": "i2"}', "wrong_subject"),
        ("notification.new", "user.u1.notification.n1", '{"userId": "u2"}', "wrong_subject"),
    ],
)
def test_message_whose_ids_are_not_those_of_its_subject_or_of_another_shape_is_refused(
    type_: str, subject: str, payload: str, reason: str
) -> None:
    with pytest.raises(InvalidEvent) as refused:
        BUILTIN.check(subject, body(type_, payload))

    assert refused.value.reason == reason
