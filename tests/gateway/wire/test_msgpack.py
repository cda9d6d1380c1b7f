"""MessagePack says what JSON says, and whatever a client sends is a message or is refused."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.wire import messages
from beaconfire_gateway.wire.framing import BinaryFrames
from beaconfire_gateway.wire.messages import InvalidMessage
from beaconfire_gateway.wire.msgpack import Msgpack
from beaconfire_gateway.wire.native import Native
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit.catalogue.binary_fields import BinaryFields
from beaconfire_kit.resync import ResyncReason
from tests.gateway.catalogues import catalogue_with, pictures
from tests.gateway.core import ROUTE
from tests.gateway.wire.any_json import JSON, PATIENT

FIELDS = BinaryFields()
FIELDS.learn(catalogue_with(pictures()))
MSGPACK, NATIVE = Msgpack(FIELDS), Native()
BODY = b'{"type":"picture.shown","version":1,"payload":{"thumbnail":"AQID"},"metadata":{}}'


@PATIENT
@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    """With an error that can be sent."""
    with pytest.raises(InvalidMessage) as refused:
        MSGPACK.decode(data)
    problem = refused.value

    assert problem.code.code in ("bad_request", "unknown_type")
    assert MSGPACK.encode(messages.Error(problem.message_id, problem))


@PATIENT
@given(st.dictionaries(st.sampled_from(["type", "id", "rooms", "token", "cursor"]), JSON))
def test_message_is_read_as_the_same_message_in_json(message: dict[str, Any]) -> None:
    message = {"type": "subscribe", **message}
    try:
        data = msgspec.msgpack.encode(message)
    except OverflowError:  # MessagePack has integers of 64 bits
        return

    assert _outcome(MSGPACK, data) == _outcome(NATIVE, json.dumps(message).encode())


def _outcome(dialect: Msgpack | Native, data: bytes) -> Any:
    try:
        return dialect.decode(data)
    except InvalidMessage as problem:
        return problem.code.code, problem.message_id


@pytest.mark.parametrize(
    "message",
    [
        messages.Position("e:1"),
        messages.GoAway(1, 2),
        messages.Resync(("campaign:c1",), ResyncReason.AHEAD, "e:1"),
        messages.Reply(1, "subscribe", rooms={"campaign:c1": messages.RoomAnswer(recovered=True)}, cursor="e:2"),
        messages.Degraded(),
    ],
    ids=lambda message: message.TYPE,
)
def test_message_has_the_fields_of_the_json_protocol(message: messages.Message) -> None:
    assert msgspec.msgpack.decode(MSGPACK.encode(message)) == json.loads(NATIVE.encode(message))


def test_event_is_transcoded_once_for_all_sessions_of_a_wire() -> None:
    wire = Wire(MSGPACK, BinaryFrames())
    entry = Entry(7, ROUTE, BODY, 0.0, epoch="e", type="picture.shown")
    frame = entry.frame(wire)

    assert entry.frame(wire) is frame
    assert frame[0] == 0x82
    assert entry.body == BODY
    assert msgspec.msgpack.decode(frame[2:])["event"]["payload"] == {"thumbnail": b"\x01\x02\x03"}
