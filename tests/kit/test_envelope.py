"""Events are written strictly, and no larger than readers accept."""

import pytest

from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.events.campaign import SettlementUpdated
from beaconfire_kit.invalid_event import MAX_EVENT_BYTES, InvalidEvent, check_json


def test_event_of_the_largest_size_is_written_and_a_larger_one_refused_with_both_sizes() -> None:
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


def test_megabyte_of_keys_with_a_duplicate_is_read_in_linear_time() -> None:
    keys = [f'"k{number}":0' for number in range(100_000)]
    with pytest.raises(InvalidEvent, match="the key 'k99999' is there twice"):
        check_json(f"{{{','.join(keys)},{keys[-1]}}}".encode())


def test_payload_of_another_shape_cannot_be_put_into_an_envelope() -> None:
    with pytest.raises(ValueError, match="changedFields"):
        SettlementUpdated(campaign_id="c1", settlement_id="s1", operation="update")  # type: ignore[call-arg]
