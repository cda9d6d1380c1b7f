"""Messages and events as server-sent events: what a parser of the specification reads is what was written."""

import json

from hypothesis import given
from hypothesis import strategies as st

from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.route import Route
from beaconfire_gateway.wire.event_stream import COMMENT, ServerSentEvents, close_event
from beaconfire_gateway.wire.messages import GoAway, Position, RoomLeft
from beaconfire_gateway.wire.native import Native
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit.subjects import Pair, RoomKey
from tests.event_streams import Parser, ServerSentEvent

WIRE = Wire(Native(), ServerSentEvents())
ROUTE = Route("campaign.c1.state", (RoomKey(Pair("campaign", "c1"), Pair("campaign", "c1")),))
BODY = {"id": "e1", "text": "a\nb\r\nc", "list": [1, {"deep": []}]}


def read(*pieces: bytes) -> list[ServerSentEvent]:
    return list(Parser().feed(b"".join(pieces)))


def event(body: bytes, offset: int = 7) -> bytes:
    return b"".join(WIRE.encode_event(Entry(offset, ROUTE, body, 0.0, epoch="e" if offset else "", type="x")))


def test_events_are_unnamed_and_have_their_cursor_as_id() -> None:
    [one] = read(event(b'{"id":"e1"}'))

    assert (one.name, one.id) == ("message", "e:7")
    assert one.json == {"type": "event", "offset": 7, "rooms": ["campaign:c1"], "event": {"id": "e1"}}


def test_ephemeral_event_leaves_the_id_where_it_is() -> None:
    stored, ephemeral = read(event(b"{}"), event(b"{}", offset=0))

    assert stored.id == ephemeral.id == "e:7"


def test_messages_are_named_by_their_type_and_those_with_a_cursor_set_the_id() -> None:
    messages = (Position("e:9"), RoomLeft("campaign:c1", "removed"), GoAway(1, 2))
    events = read(*(WIRE.encode(one) for one in messages), COMMENT, close_event(4401, "the token ran out", 1_000))

    assert [one.name for one in events] == ["position", "room.left", "goaway", "close"]
    assert {one.id for one in events} == {"e:9"}
    assert [one.json["type"] for one in events] == [one.name for one in events]


@given(st.lists(st.sampled_from(["\n", "\r\n", "\r", "\n\n", " ", "\t"]), min_size=2))
def test_white_space_of_a_publishers_json_does_not_end_an_event(spaces: list[str]) -> None:
    white = "".join(spaces)
    body = json.dumps(BODY).replace("{", "{" + white).replace("}", white + "}")
    [one] = read(event(body.encode()))

    assert one.json["event"] == BODY
