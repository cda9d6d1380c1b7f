"""Events for any set of rooms: how they travel, and what makes one invalid."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beaconfire_kit.catalogue import builtin
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.profile import read_fragment
from beaconfire_kit.invalid_event import InvalidEvent
from beaconfire_kit.sent_events import SentEvent, session_room, subject_of_room
from beaconfire_kit.subjects import InvalidRoom, Pair, RoomKey
from tests.sending import NOTICES

CATALOGUE = Catalogue.of(1, {**builtin.fragments(), "notices": read_fragment(NOTICES)})
METADATA = {"timestamp": "2026-11-21T10:00:00Z", "source": "api"}
HALVES: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
JSON: st.SearchStrategy[Any] = st.recursive(
    HALVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def event(type_: Any = "announcement", **changes: Any) -> bytes:
    said = {"id": "e1", "type": type_, "version": 1, "payload": {"text": "Hi"}, "metadata": METADATA, **changes}
    return json.dumps(said).encode()


def rooms(*to: str, body: bytes | None = None) -> list[str]:
    return [str(room) for room in SentEvent(to, body or event()).check(CATALOGUE).rooms]


def test_event_arrives_at_the_gateway_byte_for_byte() -> None:
    sent = SentEvent(("workspace:w1", session_room("u1", "s1")), b'{ "payload": 1.50 }\n\n')

    assert SentEvent.decode(sent.encode()) == sent


def test_each_room_counts_once() -> None:
    assert rooms("workspace:w1", "workspace:w2", "workspace:w1", "workspace:w1/workspace:w1") == [
        "workspace:w1",
        "workspace:w2",
    ]


def test_kind_that_is_a_parameter_of_the_subjects_stands_for_every_inner_room() -> None:
    body = event("workspace.notice")

    assert rooms("workspace:w1", "workspace:w1/team:m1", "workspace:w2/chat:h1", body=body) == [
        "workspace:w1",
        "workspace:w1/team:m1",
        "workspace:w2/chat:h1",
    ]


def test_session_is_a_room_of_its_user() -> None:
    assert rooms("user:u1", session_room("u1", "s1"), body=event("notice")) == ["user:u1", "user:u1/session:s1"]


def test_payload_with_the_roots_id_may_be_sent_there() -> None:
    for id_ in ("7", 7):
        body = event(payload={"text": "Hi", "workspaceId": id_})

        assert rooms("workspace:7", body=body) == ["workspace:7"]
        with pytest.raises(InvalidRoom, match="names another workspace"):
            rooms("workspace:8", body=body)


def test_subject_of_a_room_is_what_a_token_must_allow() -> None:
    root = Pair("workspace", "w1")

    assert subject_of_room(RoomKey(root, root)) == "workspace.w1"
    assert subject_of_room(RoomKey(root, Pair("team", "m1"))) == "workspace.w1.team.m1"


def test_system_event_cannot_be_sent() -> None:
    """Gateways act on these two, so only auth publishes them."""
    payload = {"rootKind": "workspace", "rootId": "w1", "userId": "u1", "role": "owner", "membershipVersion": 9}
    with pytest.raises(InvalidEvent, match="is stored"):
        rooms("workspace:w1/member:u1", body=event("member_changed", payload=payload))


@given(st.binary(max_size=60))
def test_bytes_that_no_publisher_sent_are_invalid_and_raise_nothing_else(message: bytes) -> None:
    with pytest.raises((InvalidEvent, InvalidRoom)):
        SentEvent.decode(message).check(CATALOGUE)


@given(
    JSON, st.sampled_from(["id", "type", "version", "payload", "metadata"]), st.lists(st.text(max_size=9), max_size=3)
)
def test_event_with_any_wrong_part_is_invalid_or_valid_and_raises_nothing_else(
    value: Any, part: str, to: list[str]
) -> None:
    said = {"id": "e1", "type": "announcement", "version": 1, "payload": {"text": "Hi"}, "metadata": METADATA}
    try:
        SentEvent(("workspace:w1", *to), json.dumps({**said, part: value}).encode()).check(CATALOGUE)
    except (InvalidEvent, InvalidRoom) as error:
        assert str(error)  # noqa: PT017
