"""A connection over HTTP looks like a socket, whatever is answered."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beaconfire_client.core.event_stream import EventStreamReader, StreamEvent
from beaconfire_client.core.http_link import HttpLink, LinkEnded

ROOM = "campaign:c1"
CONNECT = {"type": "connect", "id": 1, "token": "t1", "rooms": [ROOM], "client": {"name": "n"}, "lastClose": 1006}


def ack(rooms: dict[str, Any], **more: Any) -> dict[str, Any]:
    common = {"sessionId": "s1", "userId": "u1", "cursor": "e1:5", "heartbeatS": 2, "degraded": False}
    return {"type": "connection.ack", "id": 0, **common, "rooms": rooms, **more}


def polling(**connect: Any) -> HttpLink:
    """A link whose first poll was acknowledged."""
    link = HttpLink("poll")
    link.send({**CONNECT, **connect})
    link.next_request()
    link.polled({"messages": [ack({ROOM: {"success": True}})], "cursor": "e1:5"})
    return link


def test_each_poll_begins_at_the_cursor_of_the_answer_before_and_replaces_its_session() -> None:
    link = HttpLink("poll")
    link.send(CONNECT)
    first = link.next_request()
    frames, end = link.polled({"messages": [ack({ROOM: {"success": True}})], "cursor": "e1:7"})
    second = link.next_request()

    assert (first.path, first.body["rooms"], first.body["lastClose"]) == ("poll", [ROOM], 1006)
    assert [frame["type"] for frame in frames] == ["connection.ack", "position"]
    assert end is None
    assert (second.body["cursor"], second.body["replaces"], second.body["waitS"]) == ("e1:7", "s1", 2)
    assert "lastClose" not in second.body


def test_message_is_sent_in_a_poll_of_its_own_and_again_until_it_is_answered() -> None:
    link = polling()
    interrupts = link.send({"type": "subscribe", "id": 2, "rooms": ["campaign:c2"]})
    first = link.next_request()
    link.polled({"messages": [ack({ROOM: {"success": True}})], "cursor": "e1:5"})
    again = link.next_request()
    reply = {"type": "reply", "id": 2, "success": True, "rooms": {"campaign:c2": {"success": True}}}
    frames, _ = link.polled({"messages": [ack({ROOM: {"success": True}}), reply], "cursor": "e1:6"})
    after = link.next_request()

    assert interrupts
    assert [one["id"] for one in first.body["messages"]] == [one["id"] for one in again.body["messages"]] == [2]
    assert (first.body["waitS"], first.body["rooms"]) == (0, [ROOM])
    assert frames[0] == reply
    assert (after.body["rooms"], "messages" in after.body) == ([ROOM, "campaign:c2"], False)


def test_message_that_is_never_answered_ends_the_connection() -> None:
    link = polling()
    link.send({"type": "subscribe", "id": 2, "rooms": ["campaign:c2"]})
    for _ in range(3):
        link.next_request()

    with pytest.raises(LinkEnded, match="No reply"):
        link.next_request()


@pytest.mark.parametrize(("code", "reason"), [("unavailable", "lease_expired"), ("forbidden", "membership_removed")])
def test_room_that_a_later_poll_refuses_was_left(code: str, reason: str) -> None:
    link = polling()
    refused = {"success": False, "error": {"code": code, "message": ""}}
    link.next_request()
    frames, _ = link.polled({"messages": [ack({ROOM: refused})], "cursor": "e1:5"})

    assert frames[0] == {"type": "room.left", "room": ROOM, "reason": reason}
    assert link.next_request().body["rooms"] == []


def test_trouble_of_the_broker_is_told_once() -> None:
    link = polling()
    told = []
    for degraded in (True, True, False):
        link.next_request()
        frames, _ = link.polled({"messages": [ack({}, degraded=degraded)], "cursor": "e1:5"})
        told += [frame["type"] for frame in frames if frame["type"] != "position"]

    assert told == ["degraded", "live"]


def test_newer_token_and_status_are_in_the_next_request() -> None:
    link = polling()
    link.send({"type": "refresh", "id": 2, "token": "t2"})
    link.send({"type": "presence", "id": 3, "status": "away"})

    assert link.token == "t2"
    assert [(reply["id"], reply["success"]) for reply in link.ready()] == [(2, True), (3, True)]
    assert link.next_request().body["status"] == "away"


def test_typing_goes_beside_an_open_stream_and_a_lost_session_ends_that() -> None:
    link = HttpLink("sse")
    link.send(CONNECT)
    link.next_request()
    typing = {"type": "typing", "id": 2, "room": ROOM, "typing": True}
    before = link.beside(typing)
    link.heard(StreamEvent("connection.ack", '{"type":"connection.ack","sessionId":"s1","heartbeatS":2,'
                           '"degraded":false,"cursor":"e1:5","rooms":{}}', "e1:5"))  # fmt: skip
    beside = link.beside(typing)
    link.went_wrong(typing)

    assert before is None
    assert beside is not None
    assert (beside.path, beside.body) == ("sse/messages", {"sessionId": "s1", "messages": [typing]})
    assert link.beside(typing) is None
    assert [reply["success"] for reply in link.ready()] == [False]


def test_stream_ends_with_the_close_code_of_its_last_event() -> None:
    link = HttpLink("sse")
    link.send(CONNECT)
    with pytest.raises(LinkEnded) as ended:
        link.heard(StreamEvent("close", '{"code":4401,"reason":"the token ran out"}', ""))

    assert (ended.value.code, ended.value.reason) == (4401, "the token ran out")


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [(401, {"code": "token_invalid", "message": ""}, 4401), (404, {"code": "not_found"}, 1006), (502, None, 1006)],
)
def test_refusal_of_a_proxy_is_only_about_this_way(status: int, error: Any, code: int) -> None:
    assert HttpLink("sse").refused(status, error).code == code


EVENTS = st.lists(st.tuples(st.sampled_from(["message", "position"]), st.text("ab:{} ", min_size=1), st.text("e:19")))


@given(events=EVENTS, line_end=st.sampled_from(["\n", "\r\n", "\r"]), cuts=st.lists(st.integers(0, 300)))
def test_stream_is_read_the_same_however_it_is_cut(
    events: list[tuple[str, str, str]], line_end: str, cuts: list[int]
) -> None:
    lines = [f"event: {name}\nid: {id_}\ndata: {data}\n: a comment\n\n" for name, data, id_ in events]
    text = "".join(lines).replace("\n", line_end) + ":" + line_end
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    reader = EventStreamReader()
    read = [event for start, end in pairwise(places) for event in reader.read(text[start:end])]

    assert read == [StreamEvent(name, data, id_) for name, data, id_ in events]
