"""The bytes of the plain protocol."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.route import Route
from beaconfire_gateway.wire import messages
from beaconfire_gateway.wire.messages import InvalidMessage
from beaconfire_gateway.wire.plain import Plain
from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.resync import ResyncReason
from tests.gateway.wire.any_json import JSON, PATIENT

PLAIN = Plain(resumes=False)
RESUMING = Plain(resumes=True)
ROUTE = Route("workspace.w1.team.t1", ())
METADATA = '"metadata":{"timestamp":"2026-11-21T10:00:00Z","userId":"u1","source":"api"}'


def decode(message: Any) -> messages.Request:
    return PLAIN.decode(json.dumps(message).encode())


def entry(body: str, *, offset: int = 42) -> Entry:
    return Entry(offset, ROUTE, body.encode(), 0.0, epoch="e", type=json.loads(body)["type"])


def encoded(one: Entry) -> str:
    return b"".join(PLAIN.event(one)).decode()


@pytest.mark.parametrize(
    "message",
    [
        {"type": "subscribe", "payload": {"rooms": ["team:t1", "issue:i1"]}},
        {"type": "subscribe", "payload": ["team:t1", "issue:i1"]},
        {"type": "subscribe", "rooms": ["team:t1", "issue:i1"]},
        {"type": "subscribe", "payload": {"rooms": ["team:t1", "issue:i1"]}, "timestamp": "now", "userId": "u9"},
    ],
)
def test_list_of_rooms_may_be_in_the_payload_be_the_payload_or_be_beside_it(message: dict[str, Any]) -> None:
    request = decode(message)

    assert isinstance(request, messages.Subscribe)
    assert (request.id, list(request.rooms), request.cursor) == ("", ["team:t1", "issue:i1"], None)


@pytest.mark.parametrize("payload", [{"room": "team:t1"}, {"rooms": "team:t1"}, "team:t1"])
def test_single_room_stands_for_a_list_of_one(payload: Any) -> None:
    request = decode({"type": "unsubscribe", "payload": payload, "id": "x1"})

    assert isinstance(request, messages.Unsubscribe)
    assert (request.id, list(request.rooms)) == ("x1", ["team:t1"])


def test_subscribe_may_name_types_and_a_cursor() -> None:
    request = decode({"type": "subscribe", "payload": {"rooms": ["team:t1"], "types": ["a"], "cursor": "e:4"}, "id": 7})

    assert request == messages.Subscribe(7, ("team:t1",), ("a",), "e:4")


def test_subscribe_without_rooms_is_refused_with_the_shape_that_is_expected() -> None:
    """A client that names its rooms in another way must not be answered with success."""
    with pytest.raises(InvalidMessage) as refused:
        decode({"type": "subscribe", "payload": {"channels": ["team:t1"]}, "id": 3})

    assert refused.value.message_id == 3
    assert '{"type": "subscribe", "payload": {"rooms": ["team:t1"]}}' in refused.value.message


def test_refresh_and_ping_are_read() -> None:
    refresh = decode({"type": "refresh", "payload": {"token": "t"}})
    ping = decode({"type": "ping", "payload": None})

    assert (refresh, ping) == (messages.Refresh("", "t"), messages.Ping(""))


@PATIENT
@given(st.binary(max_size=200) | st.recursive(JSON, st.lists).map(json.dumps).map(str.encode))
def test_anything_that_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        PLAIN.decode(data)


@PATIENT
@given(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["subscribe", "unsubscribe", "refresh", "ping", "user.typing", "connect", "x"])
            | JSON
        },
        optional={"payload": JSON, "id": JSON, "rooms": JSON, "room": JSON, "types": JSON, "cursor": JSON},
    )
)
def test_any_object_is_a_message_or_is_refused_with_an_error_that_can_be_sent(message: dict[str, Any]) -> None:
    try:
        decode(message)
    except InvalidMessage as problem:
        answer = json.loads(PLAIN.encode(messages.Error(problem.message_id, problem)), parse_constant=pytest.fail)
        assert answer["type"] == "error"
        assert answer["payload"]["code"] in ("bad_request", "unknown_type")


def test_deeply_nested_message_is_refused() -> None:
    with pytest.raises(InvalidMessage):
        PLAIN.decode(b'{"type":"subscribe","payload":' + b"[" * 8_000 + b"]" * 8_000 + b"}")


def test_event_has_its_payload_as_it_was_published_and_what_the_four_fields_say() -> None:
    payload = '{ "id" : 1.0, "big": 123456789012345678901234567890, "text": "a\\u0041}" }'
    body = f'{{"id":"e1", "type":"issue.updated","version":1,"payload": {payload} ,{METADATA}}}'

    assert encoded(entry(body)) == (
        f'{{"type":"issue.updated","payload":{payload},"timestamp":"2026-11-21T10:00:00Z","userId":"u1"'
        ',"id":"e1","offset":42,"cursor":"e:42"}'
    )


def test_event_of_no_user_has_null_as_its_user() -> None:
    body = '{"id":"e1","type":"t","version":1,"metadata":{"source":"api","timestamp":"T"},"payload":{}}'

    assert json.loads(encoded(entry(body)))["userId"] is None


def test_ephemeral_event_has_neither_offset_nor_cursor() -> None:
    body = f'{{"type":"user.typing","version":1,"payload":{{}},{METADATA}}}'

    assert json.loads(encoded(entry(body, offset=0))).keys() == {"type", "payload", "timestamp", "userId"}


def test_event_with_keys_in_any_order_and_unknown_ones_is_read() -> None:
    body = f'{{"payload":{{"a":[{{"payload":1}}]}},"extra":["}}"],{METADATA},"version":1,"type":"t","id":"e1"}}'

    assert json.loads(encoded(entry(body)))["payload"] == {"a": [{"payload": 1}]}


@pytest.mark.parametrize(
    ("message", "type_", "payload"),
    [
        (messages.Reply("", "subscribe", rooms={"team:t1": messages.RoomAnswer()}), "subscribe.ack", "rooms"),
        (messages.Reply("", "unsubscribe", rooms={"team:t1": messages.RoomAnswer()}), "unsubscribe.ack", "rooms"),
        (messages.Reply("", "refresh"), "refresh.ack", "success"),
        (messages.Reply("", "ping"), "pong", "success"),
        (messages.Refusal("", BeaconfireError(errors.TOO_MANY, "wait", retry_after_ms=5)), "error", "retryAfterMs"),
        (messages.RoomLeft("team:t1", "removed"), "room.left", "reason"),
        (messages.Degraded(), "degraded", "reason"),
    ],
)
def test_answers_have_the_four_fields_and_no_others(message: messages.Message, type_: str, payload: str) -> None:
    sent = json.loads(PLAIN.encode(message))

    assert sent.keys() == {"type", "payload", "timestamp", "userId"}
    assert (sent["type"], sent["userId"]) == (type_, None)
    assert payload in sent["payload"]


def test_answer_repeats_the_id_of_a_message_that_has_one() -> None:
    assert json.loads(PLAIN.encode(messages.Reply("x1", "ping")))["id"] == "x1"
    assert json.loads(PLAIN.encode(messages.Reply(0, "ping")))["id"] == 0


def test_only_clients_that_resume_are_sent_positions() -> None:
    """A client of the existing system would not know the message."""
    position = messages.Position("e:42")

    assert PLAIN.encode(position) == b""
    assert json.loads(RESUMING.encode(position))["cursor"] == "e:42"


def test_messages_that_move_the_cursor_have_it_beside_the_four_fields() -> None:
    resync = messages.Resync(("team:t1",), ResyncReason.AHEAD, "e:42")

    assert json.loads(PLAIN.encode(resync))["cursor"] == "e:42"


def test_there_is_no_goaway() -> None:
    assert PLAIN.encode(messages.GoAway(0, 1000)) == b""
