"""examples/redis-streams: entries of the bus become messages by rules."""

import json
from typing import Any

import pytest

from bus_entries import Rule, WrongEntry, WrongRules, message_of, read_rules, rule_for, type_of
from tests.architecture.sources import ROOT

RULES = read_rules((ROOT / "examples" / "redis-streams" / "subjects.toml").read_text())
RULE = Rule("approval.*", "workspace.{tenantId}.approval.{data.id|data.approvalId}")
ENTRY = {
    "id": "e1",
    "type": "approval.created",
    "source": "Approval Service",
    "timestamp": "2026-11-21T10:00:00.250Z",
    "correlationId": "req-9",
    "tenantId": "w1",
    "userId": "u1",
    "version": "1.0",
    "data": '{"id": "a1",  "amount": 1.50}',
}


def entry(**changes: str | bytes | None) -> dict[bytes, bytes]:
    """The entry with other values; None leaves a field out."""
    whole: dict[str, str | bytes | None] = {**ENTRY, **changes}
    return {
        name.encode(): value if isinstance(value, bytes) else value.encode()
        for name, value in whole.items()
        if value is not None
    }


def event_of(**changes: str | bytes | None) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(message_of(entry(**changes), RULE).body)
    return event


def test_entry_becomes_an_event_with_its_id_and_its_data_as_written() -> None:
    message = message_of(entry(), RULE)

    assert (message.id, message.subject) == ("e1", "workspace.w1.approval.a1")
    assert b'"payload":{"id": "a1",  "amount": 1.50},' in message.body
    assert json.loads(message.body) | {"payload": None} == {
        "id": "e1",
        "type": "approval.created",
        "version": 1,
        "payload": None,
        "metadata": {
            "timestamp": "2026-11-21T10:00:00.250000Z",
            "source": "approval-service",
            "correlationId": "req-9",
            "userId": "u1",
        },
    }


@pytest.mark.parametrize(
    ("type_", "data", "subject"),
    [
        ("approval.updated", '{"approvalId": 17}', "workspace.w1.approval.17"),
        ("agent.status.changed", '{"agentId": "g1"}', "workspace.w1.agent.g1"),
        ("ai.run.started", '{"runId": "r1"}', "workspace.w1.run.r1"),
        ("notification.new", '{"id": "n1", "userId": "u2"}', "user.u2.notification.n1"),
        ("notification.new", "{}", "user.u1.notification.e1"),
    ],
)
def test_shipped_rules_map_each_pattern_to_a_subject(type_: str, data: str, subject: str) -> None:
    rule = rule_for(type_, RULES)

    assert rule is not None
    assert message_of(entry(type=type_, data=data), rule).subject == subject


def test_type_without_a_rule_is_not_for_clients() -> None:
    assert rule_for("billing.invoice.paid", RULES) is None
    assert rule_for("approval", RULES) is None


@pytest.mark.parametrize("given", ["1795255200250", "2026-11-21T10:00:00.250", "2026-11-21T11:00:00.250+01:00"])
def test_time_of_any_common_form_becomes_utc(given: str) -> None:
    timestamp = event_of(timestamp=given)["metadata"]["timestamp"]

    assert timestamp in ("2026-11-21T10:00:00.250000Z", "2026-11-21T11:00:00.250000+01:00")


@pytest.mark.parametrize("absent", [None, "", "null", "None"])
def test_absent_field_is_left_out_of_the_metadata(absent: str | None) -> None:
    metadata = event_of(correlationId=absent, userId=absent)["metadata"]

    assert set(metadata) == {"timestamp", "source"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": None}, "the field id must be 1 to 128 ASCII characters"),
        ({"id": "with space"}, "the field id must be 1 to 128 ASCII characters"),
        ({"tenantId": None}, "there is no tenantId: the subject workspace."),
        ({"tenantId": "w1.>"}, "tenantId is no id: "),
        ({"data": '{"id": "a.b"}'}, "data.id is no id: "),
        ({"data": '{"id": true}'}, "data.id is no id: "),
        ({"data": "{}"}, "there is no data.id or data.approvalId: "),
        ({"data": "{"}, "the field data is not JSON"),
        ({"data": "[" * 100_000}, "the field data is not JSON"),
        ({"data": '{"id": "a1", "n": NaN}'}, "the field data contains NaN"),
        ({"data": "[]"}, "the field data is no JSON object"),
        ({"data": b"\xff"}, "the field data is not UTF-8"),
        ({"data": '{"id": "a1", "text": "' + "x" * 2_000_000 + '"}'}, ""),
        ({"version": "0"}, "the field version must be a number from 1"),
        ({"timestamp": "yesterday"}, "the field timestamp: "),
        ({"correlationId": "ü"}, "the field correlationId: "),
        ({"userId": "ann@example.com"}, "the field userId: "),
    ],
)
def test_wrong_entry_is_refused_with_the_field_and_the_reason(
    changes: dict[str, str | bytes | None], reason: str
) -> None:
    with pytest.raises(WrongEntry) as refused:
        message_of(entry(**changes), RULE)

    assert str(refused.value).startswith(reason)


def test_entry_without_a_type_is_refused() -> None:
    with pytest.raises(WrongEntry, match="type is missing"):
        type_of(entry(type=None))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("subjects", "no TOML: "),
        ("", "no rules: "),
        ('[subjects]\n"a.*" = 1', 'the subject of "a.*" is no text'),
        ('[subjects]\n"a.*" = "workspace.{tenant}.a.{data.id}"', '"a.*": {tenant} is no field'),
        ('[subjects]\n"a.*" = "workspace"', 'the subject of "a.*": '),
        ('[subjects]\n"a.*" = "workspace.{tenantId.a"', 'the subject of "a.*": '),
    ],
)
def test_wrong_rules_are_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(WrongRules) as refused:
        read_rules(text)

    assert str(refused.value).startswith(reason)
