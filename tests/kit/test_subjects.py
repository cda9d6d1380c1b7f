"""Pairs, rooms and subjects, and everything that is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beaconfire_kit.subjects import (
    InvalidRoom,
    InvalidSubject,
    Pair,
    RoomKey,
    is_id,
    is_membership,
    parse_room,
    parse_root,
    parse_subject,
)

ROOT_KINDS = ("campaign", "workspace", "user")
IDS = st.text("abcXYZ019_-", min_size=1, max_size=64)


@pytest.mark.parametrize(
    ("subject", "rooms"),
    [
        ("campaign.c1", ["campaign:c1"]),
        ("campaign.c1.settlement.s1", ["campaign:c1", "campaign:c1/settlement:s1"]),
        (
            "campaign.c1.settlement.s1.structure.t1",
            ["campaign:c1", "campaign:c1/settlement:s1", "campaign:c1/structure:t1"],
        ),
        ("campaign.c1.campaign.c1", ["campaign:c1"]),
        ("campaign.c1.world_time", ["campaign:c1"]),
        (
            "workspace.w1.team.m1.issue.i1.comment.k1",
            ["workspace:w1", "workspace:w1/team:m1", "workspace:w1/issue:i1", "workspace:w1/comment:k1"],
        ),
        ("user.u1.access", ["user:u1"]),
    ],
)
def test_rooms_of_a_subject_are_its_pairs_outermost_first_without_the_aspect(subject: str, rooms: list[str]) -> None:
    assert [str(room) for room in parse_subject(subject).rooms] == rooms


@given(
    st.sampled_from(["campaign", "workspace", "user"]), IDS, st.lists(st.tuples(IDS, IDS), max_size=7), st.none() | IDS
)
def test_parsed_subjects_and_rooms_are_printed_as_they_were(
    root: str, root_id: str, below: list[tuple[str, str]], aspect: str | None
) -> None:
    text = ".".join([root, root_id, *(token for pair in below for token in pair), *([aspect] if aspect else [])])

    assert str(parse_subject(text)) == text


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "campaign",
        "campaign.",
        ".campaign.c1",
        "campaign..settlement",
        "campaign.*",
        "campaign.>",
        "campaign.c1.settlement.*",
        "campaign.c 1",
        "campaign.c1\n",
        "campaign.c1\x00",
        "campaign.ü",
        "campaign.%2A",
        "campaign." + "x" * 65,
        "tick",
        "tick.t1",
        "live.campaign.c1",
        "catalogue.c1",
        "_INBOX_gateway.x1",
        "$JS.API",
        ".".join(["campaign", "c1"] * 9),
    ],
)
def test_malformed_subjects_are_refused(subject: str) -> None:
    with pytest.raises(InvalidSubject):
        parse_subject(subject)


@given(st.text(max_size=200))
def test_any_text_is_a_subject_of_ids_or_is_refused(text: str) -> None:
    try:
        subject = parse_subject(text)
    except InvalidSubject:
        return
    assert all(is_id(pair.kind) and is_id(pair.id) for pair in subject.pairs)


def test_subject_may_begin_with_any_kind_that_is_not_reserved() -> None:
    assert str(parse_subject("depot.d1.parcel.p1").root) == "depot:d1"
    with pytest.raises(InvalidSubject, match="deadletter, which is reserved"):
        parse_subject("deadletter.d1.parcel.p1")


def test_membership_of_every_root_belongs_to_auth() -> None:
    assert all(map(is_membership, ["campaign.c1.member.u1", "depot.d1.member.u1", "user.u1.access"]))
    assert not any(map(is_membership, ["depot.d1.member", "depot.d1.parcel.p1", "campaign.c1.access", "user.u1"]))


def test_room_is_named_with_or_without_its_root() -> None:
    campaign = RoomKey(Pair("campaign", "c1"), Pair("campaign", "c1"))

    assert parse_room("campaign:c1/settlement:s1").key(ROOT_KINDS) == RoomKey(
        Pair("campaign", "c1"), Pair("settlement", "s1")
    )
    assert parse_room("campaign:c1").key(ROOT_KINDS) == campaign
    assert parse_room("campaign:c1/campaign:c1").key(ROOT_KINDS) == campaign
    assert parse_room("settlement:s1").key(ROOT_KINDS) is None


@pytest.mark.parametrize("room", ["settlement:s1/structure:t1", "campaign:c1/campaign:c2", "campaign:c1/user:u1"])
def test_room_below_something_that_is_no_root_and_root_as_a_room_of_another_are_refused(room: str) -> None:
    with pytest.raises(InvalidRoom, match="root"):
        parse_room(room).key(ROOT_KINDS)


def test_declared_kind_is_a_root_and_no_room_of_another_root() -> None:
    kinds = (*ROOT_KINDS, "depot")

    assert parse_room("depot:d1").key(ROOT_KINDS) is None
    assert parse_room("depot:d1").key(kinds) == RoomKey(Pair("depot", "d1"), Pair("depot", "d1"))
    assert parse_room("campaign:c1/depot:d1").key(ROOT_KINDS) is not None
    with pytest.raises(InvalidRoom, match="depot:d1 is a root of its own"):
        parse_room("campaign:c1/depot:d1").key(kinds)


@pytest.mark.parametrize(
    "room",
    [
        "",
        ":",
        "campaign",
        "campaign:",
        ":c1",
        "campaign:*",
        "campaign:>",
        "campaign:c1.settlement",
        "campaign: c1",
        "campaign:c1\r\n",
        "campaign:c1\x00",
        "campaign:c1/",
        "/settlement:s1",
        "campaign:c1/settlement:s1/structure:t1",
        "tick:t1/settlement:s1",
        "campaign:" + "x" * 65,
        "\N{CYRILLIC SMALL LETTER ES}ampaign:c1",
    ],
)
def test_malformed_rooms_and_look_alike_letters_are_refused(room: str) -> None:
    with pytest.raises(InvalidRoom):
        parse_room(room)


@given(st.text(max_size=200))
def test_any_text_is_a_room_without_wildcards_or_is_refused(text: str) -> None:
    try:
        room = parse_room(text)
    except InvalidRoom:
        return
    assert is_id(room.pair.kind)
    assert is_id(room.pair.id)
    assert str(room) == text


def test_reserved_words_are_no_kinds_of_roots() -> None:
    assert parse_root("depot:d1") == Pair("depot", "d1")
    with pytest.raises(InvalidRoom, match="catalogue is reserved"):
        parse_root("catalogue:c1")
