"""shared.envelope: written strictly, read tolerantly, refused with a reason."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.catalogue import Event, events
from shared.envelope import Envelope, InvalidEvent, Metadata, read
from shared.events.campaign import SettlementUpdated
from shared.roles import Role
from tools.derived.examples import example_payload

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


@pytest.mark.parametrize("type_", sorted(events()))
def test_round_trip(type_: str) -> None:
    """Every event of the catalogue reads back from its own bytes, on its own subject."""
    event: Event = events()[type_].model_validate(example_payload(events()[type_]))
    metadata = Metadata(source="api", user_id="u1", correlation_id="r-1", audience=(Role.OWNER,))
    envelope = Envelope(event, metadata)
    received = read(envelope.subject, envelope.encode())

    assert (received.id, received.payload) == (envelope.id, event)
    assert received.metadata.model_dump() == metadata.model_dump()
    assert "campaign_id" not in envelope.encode().decode()


def test_unknown_fields_pass() -> None:
    """A newer publisher's extra fields, anywhere, do not need a new gateway."""
    body = changed(
        extra=1, payload={**GOOD["payload"], "extra": {"a": []}}, metadata={**GOOD["metadata"], "extra": None}
    )

    assert read(SUBJECT, body).id == "e1"


def test_without_optional_fields() -> None:
    """Id, user, correlation id and audience may be left out."""
    received = read(SUBJECT, json.dumps({name: value for name, value in GOOD.items() if name != "id"}).encode())

    assert (received.id, received.metadata.user_id, received.metadata.audience) == ("", None, None)


@pytest.mark.parametrize(
    ("body", "reason", "detail"),
    [
        (b"", "not_json", ""),
        (b"{", "not_json", ""),
        (b"\xff", "not_json", ""),
        (b"[" * 10_000, "not_json", ""),
        (changed()[:-1] + b',"x":NaN}', "not_json", "NaN"),
        (changed()[:-1] + b',"x":[-Infinity]}', "not_json", "Infinity"),
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
        (changed(metadata={"source": "api"}), "invalid", "metadata.timestamp"),
        (changed(metadata={**GOOD["metadata"], "timestamp": "2026-11-21T10:00:00"}), "invalid", "metadata.timestamp"),
        (changed(metadata={**GOOD["metadata"], "source": "A service!"}), "invalid", "metadata.source"),
        (changed(metadata={**GOOD["metadata"], "audience": ["king"]}), "invalid", "metadata.audience"),
        (changed(payload={**GOOD["payload"], "settlementId": "s2"}), "wrong_subject", "campaign.c1.settlement.s2"),
    ],
)
def test_refused(body: bytes, reason: str, detail: str) -> None:
    """Each kind of invalid message has its reason, and the detail names the place."""
    with pytest.raises(InvalidEvent) as refused:
        read(SUBJECT, body)

    assert refused.value.reason == reason
    assert detail in refused.value.detail


def test_words_about_nan_pass() -> None:
    """A text may say NaN or Infinity; only the bare constants are no JSON."""
    assert read(SUBJECT, changed(note="NaN and Infinity")).id == "e1"


def test_detail_tells_no_value() -> None:
    """The reason for a refusal says where and what, never what stood there."""
    with pytest.raises(InvalidEvent) as refused:
        read(SUBJECT, changed(payload={**GOOD["payload"], "operation": "a secret"}))

    assert "a secret" not in str(refused.value)


@given(st.binary(max_size=300))
def test_any_bytes(body: bytes) -> None:
    """Arbitrary bytes are never an event and never anything but InvalidEvent."""
    with pytest.raises(InvalidEvent):
        read(SUBJECT, body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


@given(st.sampled_from([*GOOD]), JSON)
def test_any_field(name: str, value: Any) -> None:
    """Whatever stands in a field, the message is an event on its subject or InvalidEvent."""
    body = json.dumps({**GOOD, name: value}).encode()
    try:
        received = read(SUBJECT, body)
    except InvalidEvent:
        return
    assert received.payload.address() == SUBJECT


def test_strict_writing() -> None:
    """A payload of another shape cannot be put into an envelope by mistake."""
    with pytest.raises(ValueError, match="changedFields"):
        SettlementUpdated(campaign_id="c1", settlement_id="s1", operation="update")  # type: ignore[call-arg]
