"""beaconfire_kit.envelope: written strictly, read tolerantly, refused with a reason."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import SchemaValidator

from beaconfire_kit.catalogue import Event, events
from beaconfire_kit.envelope import (
    MAX_EVENT_BYTES,
    Checked,
    Envelope,
    InvalidEvent,
    Metadata,
    Received,
    _as_dict,
    check,
    check_json,
    read,
)
from beaconfire_kit.events.campaign import SettlementUpdated
from beaconfire_kit.roles import Role
from scripts.derived.examples import example_payload

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


def outcome(reading: Callable[[str, bytes], Received | Checked], subject: str, body: bytes) -> object:
    """What the publisher gave in a message, all of it as dicts; or reason and detail of the refusal."""
    try:
        found = reading(subject, body)
    except InvalidEvent as refused:
        return refused.reason, refused.detail
    if isinstance(found, Received):
        return {**given_in(found), "payload": given_in(found.payload), "metadata": given_in(found.metadata)}
    return found


def given_in(model: BaseModel) -> dict[str, Any]:
    return {name: value for name, value in vars(model).items() if name in model.model_fields_set}


def checked_as_read(subject: str, body: bytes) -> bool:
    """Whether it is an event; `check` finds in it, or says of it, what `read` does."""
    found = outcome(read, subject, body)

    assert outcome(check, subject, body) == found
    return isinstance(found, dict)


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
    assert checked_as_read(envelope.subject, envelope.encode())


def test_unknown_fields_pass() -> None:
    """A newer publisher's extra fields, anywhere, do not need a new gateway."""
    body = changed(
        extra=1, payload={**GOOD["payload"], "extra": {"a": []}}, metadata={**GOOD["metadata"], "extra": None}
    )

    assert read(SUBJECT, body).id == "e1"
    assert checked_as_read(SUBJECT, body)


def test_without_optional_fields() -> None:
    """Id, user, correlation id and audience may be left out."""
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
    assert not checked_as_read(SUBJECT, body)


def test_words_about_nan_pass() -> None:
    """A text may say NaN or Infinity; only the bare constants are no JSON."""
    assert read(SUBJECT, changed(note="NaN and Infinity")).id == "e1"
    assert checked_as_read(SUBJECT, changed(note="NaN and Infinity"))


def test_detail_tells_no_value() -> None:
    """The reason for a refusal says where and what, never what stood there."""
    with pytest.raises(InvalidEvent) as refused:
        read(SUBJECT, changed(payload={**GOOD["payload"], "operation": "a secret"}))

    assert "a secret" not in str(refused.value)


@given(st.binary(max_size=300))
def test_any_bytes(body: bytes) -> None:
    """Arbitrary bytes are never an event and never anything but InvalidEvent."""
    assert not checked_as_read(SUBJECT, body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


@given(st.sampled_from([*GOOD]), JSON)
def test_any_field(name: str, value: Any) -> None:
    """Whatever stands in a field, the message is an event on its subject or InvalidEvent."""
    body = json.dumps({**GOOD, name: value}).encode()
    if checked_as_read(SUBJECT, body):
        assert read(SUBJECT, body).payload.address() == SUBJECT


@given(st.sampled_from(["payload", "metadata"]), st.sampled_from([*GOOD["payload"], *GOOD["metadata"]]), JSON)
def test_any_inner_field(part: str, name: str, value: Any) -> None:
    """The same for what stands inside payload and metadata."""
    checked_as_read(SUBJECT, changed(**{part: {**GOOD[part], name: value}}))


def test_too_large() -> None:
    """An event of just the size that the broker takes is written; with one byte more it is refused, and says both."""

    def named(length: int) -> Envelope:
        event = SettlementUpdated(
            campaign_id="c1", settlement_id="s1", operation="update", changed_fields=("x" * length,)
        )
        return Envelope(event, Metadata(source="api"))

    room = MAX_EVENT_BYTES - len(named(0).encode())

    assert len(named(room).encode()) == MAX_EVENT_BYTES
    with pytest.raises(InvalidEvent, match="at most 65536 bytes, this one 65537") as refused:
        named(room + 1).encode()
    assert refused.value.reason == "too_large"


def test_a_key_twice_among_very_many_holds_up_nobody() -> None:
    """A megabyte of keys is read once, and not once for each key, which would take hours."""
    keys = [f'"k{number}":0' for number in range(100_000)]
    with pytest.raises(InvalidEvent, match="the key 'k99999' is there twice"):
        check_json(f"{{{','.join(keys)},{keys[-1]}}}".encode())


def test_strict_writing() -> None:
    """A payload of another shape cannot be put into an envelope by mistake."""
    with pytest.raises(ValueError, match="changedFields"):
        SettlementUpdated(campaign_id="c1", settlement_id="s1", operation="update")  # type: ignore[call-arg]


class Ordered(BaseModel):
    """A shape with a rule that no field has by itself."""

    low: int = Field(alias="lowest")
    high: int = 9

    @model_validator(mode="after")
    def _is_ordered(self) -> "Ordered":
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


def test_checked_by_the_whole_model() -> None:
    """What a model checks as a whole is checked where no models are wanted, too."""
    checker = SchemaValidator(_as_dict(Ordered.__pydantic_core_schema__))

    assert checker.validate_json('{"lowest": 1}') == {"low": 1, "high": 9}
    with pytest.raises(ValidationError, match="low is above high"):
        checker.validate_json('{"lowest": 10}')


@pytest.mark.parametrize("type_", sorted(events()))
def test_checked_without_models(type_: str) -> None:
    """No instance is made of any payload of the catalogue: fails where pydantic describes models in another way."""
    assert _as_dict(events()[type_].__pydantic_core_schema__)["type"] == "typed-dict"
