"""Events are read tolerantly, and refused with a reason, exactly as gateways refuse them."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beaconfire_kit.catalogue.examples import example_payload
from beaconfire_kit.catalogue.from_classes import event_type_of
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.event import Event, events
from beaconfire_kit.invalid_event import InvalidEvent
from beaconfire_kit.received import read
from beaconfire_kit.roles import Role
from tests.gateway.catalogues import BUILTIN

SUBJECT = "campaign.c1.settlement.s1"
GOOD: dict[str, Any] = {
    "id": "e1",
    "type": "settlement_updated",
    "version": 1,
    "payload": {"campaignId": "c1", "settlementId": "s1", "operation": "update", "changedFields": ["level"]},
    "metadata": {"timestamp": "2026-11-21T10:00:00Z", "source": "api"},
}


def changed(**fields: Any) -> bytes:
    return json.dumps({**GOOD, **fields}).encode()


def checked_as_read(subject: str, body: bytes) -> bool:
    """Return whether the bytes are an event. Fails unless the catalogue of our own events agrees."""
    found = {verdict(read, subject, body), verdict(BUILTIN.check, subject, body)}

    assert len(found) == 1, found
    return found == {"valid"}


def verdict(check: Callable[[str, bytes], object], subject: str, body: bytes) -> str:
    try:
        check(subject, body)
    except InvalidEvent as refused:
        return refused.reason
    return "valid"


@pytest.mark.parametrize("type_", sorted(events()))
def test_every_event_of_the_catalogue_is_read_back_from_its_bytes_and_subject(type_: str) -> None:
    event: Event = events()[type_].model_validate(example_payload(event_type_of(events()[type_])))
    metadata = Metadata(source="api", user_id="u1", correlation_id="r-1", audience=(Role.OWNER,))
    envelope = Envelope(event, metadata)
    received = read(envelope.subject, envelope.encode())

    assert (received.id, received.payload) == (envelope.id, event)
    assert received.metadata.model_dump() == metadata.model_dump()
    assert "campaign_id" not in envelope.encode().decode()
    assert checked_as_read(envelope.subject, envelope.encode())


def test_event_of_another_system_is_read_with_all_its_fields_and_the_ids_of_its_subject() -> None:
    payload = {"id": None, "status": "approved", "amount": 1.5, "dueDate": None}
    message = changed(type="approval.updated", payload=payload)
    received = read("workspace.w1.approval.a1", message).payload

    assert received.full_subject() == "workspace.w1.approval.a1"
    assert received.model_dump(mode="json") == {**payload, "workspaceId": "w1", "id": "a1"}


def test_unknown_fields_of_a_newer_publisher_pass() -> None:
    body = changed(
        extra=1, payload={**GOOD["payload"], "extra": {"a": []}}, metadata={**GOOD["metadata"], "extra": None}
    )

    assert read(SUBJECT, body).id == "e1"
    assert checked_as_read(SUBJECT, body)


def test_id_user_correlation_id_and_audience_are_optional() -> None:
    body = json.dumps({name: value for name, value in GOOD.items() if name != "id"}).encode()
    received = read(SUBJECT, body)

    assert (received.id, received.metadata.user_id, received.metadata.audience) == ("", None, None)
    assert checked_as_read(SUBJECT, body)


@pytest.mark.parametrize(
    ("body", "reason", "detail"),
    [
        (b"", "not_json", ""),
        (b"{", "not_json", ""),
        (b"\xff", "not_json", ""),
        (b"[" * 10_000, "not_json", ""),
        (changed()[:-1] + b',"x":NaN}', "not_json", "Invalid JSON"),
        (changed()[:-1] + b',"x":[-Infinity]}', "not_json", "Invalid JSON"),
        (b"[]", "invalid", ""),
        (b"{}", "unknown_type", ""),
        (changed(type="nonsense"), "unknown_type", ""),
        (changed(type=["settlement_updated"]), "unknown_type", ""),
        (changed(version=2), "unknown_version", "version"),
        (changed(version="1"), "unknown_version", "version"),
        (changed(id=None), "invalid", "id"),
        (changed(id=""), "invalid", "id"),
        (changed(id="a b"), "invalid", "id"),
        (changed(id="x" * 129), "invalid", "id"),
        (changed(payload=None), "invalid", "payload"),
        (changed(payload={**GOOD["payload"], "campaignId": "*"}), "invalid", "payload.campaignId"),
        (changed(payload={**GOOD["payload"], "settlementId": "s1\n"}), "invalid", "payload.settlementId"),
        (changed(payload={"campaign_id": "c1", **GOOD["payload"], "campaignId": 7}), "invalid", "payload.campaignId"),
        (changed(metadata={"source": "api"}), "invalid", "timestamp"),
        (changed(metadata={**GOOD["metadata"], "timestamp": "2026-11-21T10:00:00"}), "invalid", "metadata.timestamp"),
        (changed(metadata={**GOOD["metadata"], "source": "A service!"}), "invalid", "metadata.source"),
        (changed(metadata={**GOOD["metadata"], "audience": ["king"]}), "invalid", "metadata.audience"),
        (changed(payload={**GOOD["payload"], "settlementId": "s2"}), "wrong_subject", "payload.settlementId"),
    ],
)
def test_each_kind_of_invalid_event_is_refused_with_its_reason_and_place(body: bytes, reason: str, detail: str) -> None:
    with pytest.raises(InvalidEvent) as refused:
        read(SUBJECT, body)

    assert refused.value.reason == reason
    assert detail in refused.value.detail
    assert not checked_as_read(SUBJECT, body)


def test_text_with_nan_passes_and_the_bare_constants_are_refused() -> None:
    assert read(SUBJECT, changed(note="NaN and Infinity")).id == "e1"
    assert checked_as_read(SUBJECT, changed(note="NaN and Infinity"))


def test_detail_of_a_refusal_contains_no_value() -> None:
    with pytest.raises(InvalidEvent) as refused:
        read(SUBJECT, changed(payload={**GOOD["payload"], "operation": "a secret"}))

    assert "a secret" not in str(refused.value)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_an_invalid_event(body: bytes) -> None:
    assert not checked_as_read(SUBJECT, body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


@given(st.sampled_from([*GOOD]), JSON)
def test_any_value_in_a_field_gives_an_event_on_its_subject_or_an_invalid_event(name: str, value: Any) -> None:
    body = json.dumps({**GOOD, name: value}).encode()
    if checked_as_read(SUBJECT, body):
        assert read(SUBJECT, body).payload.full_subject() == SUBJECT


@given(st.sampled_from(["payload", "metadata"]), st.sampled_from([*GOOD["payload"], *GOOD["metadata"]]), JSON)
def test_any_value_inside_payload_or_metadata_gives_an_event_or_an_invalid_event(
    part: str, name: str, value: Any
) -> None:
    checked_as_read(SUBJECT, changed(**{part: {**GOOD[part], name: value}}))
