"""Templates of rooms: which rooms they make, and which templates are refused."""

from typing import Any

import pytest

from beaconfire_kit.room_templates import MAX_VALUES, RoomTemplate

CASES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("user:{sub}", {}, ["user:u1"]),
    ("workspace:lobby", {}, ["workspace:lobby"]),
    ("workspace:{claims.workspaceId}", {"workspaceId": "w1"}, ["workspace:w1"]),
    ("workspace:{claims.workspaceId}", {"workspaceId": 42}, ["workspace:42"]),
    ("workspace:{claims.workspaceIds}", {"workspaceIds": ["w1", 2]}, ["workspace:w1", "workspace:2"]),
    ("workspace:{claims.https://acme.example/workspace}", {"https://acme.example/workspace": "w1"}, ["workspace:w1"]),
    ("workspace:w1/seat:{claims.seat}-{sub}", {"seat": "s"}, ["workspace:w1/seat:s-u1"]),
    ("workspace:*", {"workspaceId": "w1"}, []),
]  # fmt: skip


@pytest.mark.parametrize(("text", "claims", "rooms"), CASES, ids=[text for text, _, _ in CASES])
def test_template_makes_rooms_of_the_user_and_a_claim(text: str, claims: dict[str, Any], rooms: list[str]) -> None:
    assert RoomTemplate.parse(text).rooms("u1", claims) == (rooms or ())


NO_IDS: list[Any] = [
    None, "", "*", ">", "w1/user:u2", "w1:x", "w 1", "w.1", "w" * 65, True, 1.5, {"id": "w1"}, [["w1"]], "{sub}", "wé",
]  # fmt: skip


@pytest.mark.parametrize("value", NO_IDS, ids=repr)
def test_claim_that_is_no_id_makes_no_room(value: Any) -> None:
    assert list(RoomTemplate.parse("workspace:{claims.w}").rooms("u1", {"w": value})) == []


def test_claim_with_text_around_it_makes_no_room_that_is_too_long() -> None:
    assert list(RoomTemplate.parse("workspace:eu-{claims.w}").rooms("u1", {"w": "w" * 64})) == []


def test_missing_claim_makes_no_room() -> None:
    assert list(RoomTemplate.parse("workspace:{claims.w}").rooms("u1", {})) == []


def test_list_of_a_claim_makes_a_bounded_number_of_rooms() -> None:
    values = [f"w{number}" for number in range(MAX_VALUES + 1)]

    assert len(RoomTemplate.parse("workspace:{claims.w}").rooms("u1", {"w": values})) == MAX_VALUES


def test_star_names_the_kind_of_root_of_which_all_are_meant() -> None:
    assert RoomTemplate.parse("workspace:*").every_root_of == "workspace"
    assert RoomTemplate.parse("workspace:{sub}").every_root_of == ""


REFUSED = [
    ("", "makes no room"),
    ("workspace", "makes no room"),
    ("workspace:", "makes no room"),
    ("workspace:{sub", "makes no room"),
    ("workspace:w1*", "makes no room"),
    ("auth:{sub}/user:u1", "makes no room"),
    ("auth:*", "no root has the kind"),
    (":*", "no root has the kind"),
    ("workspace:{name}", "means nothing"),
    ("workspace:{}", "means nothing"),
    ("workspace:{claims.}", "means nothing"),
    ("campaign:{claims.a}/settlement:{claims.b}", "names two claims"),
]


@pytest.mark.parametrize(("text", "why"), REFUSED, ids=[text for text, _ in REFUSED])
def test_template_that_can_make_no_room_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        RoomTemplate.parse(text)
