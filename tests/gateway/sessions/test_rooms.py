"""Names of rooms: which are accepted, which are refused and why, and what the log says about each change."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from beaconfire_kit.roles import Role
from tests.client import open_socket
from tests.gateway.conftest import Gateway
from tests.gateway.events import member, publish_as_auth

ID_PATTERN = "[A-Za-z0-9_-]{1,64}"
LONGEST = "x" * 64


@pytest.mark.parametrize(
    "room",
    [
        "campaign:c1",
        "campaign:c1/settlement:s1",
        "campaign:c1/structure:t1",
        f"campaign:c1/settlement:{LONGEST}",
        "campaign:c1/settlement:A-z_09",
    ],
)
async def test_rooms_of_campaigns_settlements_and_structures_can_be_joined(gateway: Gateway, room: str) -> None:
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"))
        answer = await client.ask("subscribe", rooms=[room])

    assert answer["rooms"] == {room: {"success": True}}


@pytest.mark.parametrize(
    ("room", "invalid"),
    [
        ("", "''"),
        ("campaign", "'campaign'"),
        ("campaign:", "'campaign:'"),
        (":c1", "':c1'"),
        (":", "':'"),
        ("settlement:", "'settlement:'"),
        ("structure:", "'structure:'"),
        ("campaign:c 1", "'campaign:c 1'"),
        ("campaign:c1 ", "'campaign:c1 '"),
        ("campaign:c1\n", "'campaign:c1\\n'"),
        ("campaign:*", "'campaign:*'"),
        ("campaign:c1.settlement", "'campaign:c1.settlement'"),
        ("campaign:c1:c2", "'campaign:c1:c2'"),
        ("campaign:ä", "'campaign:ä'"),
        (f"campaign:{LONGEST}x", f"'campaign:{LONGEST}x'"),
        ("campaign:" + "y" * 200, "'campaign:" + "y" * 71 + "…'"),
        ("campaign:c1/", "''"),
        ("/settlement:s1", "''"),
        ("campaign:/settlement:s1", "'campaign:'"),
        ("campaign:c1/settlement:", "'settlement:'"),
        ("campaign:c1/settlement:s1/structure:t1", "'campaign:c1/settlement:s1'"),
    ],
)
async def test_malformed_room_is_refused_with_its_name_and_the_form_that_is_expected(
    gateway: Gateway, room: str, invalid: str
) -> None:
    """The other rooms of the message are joined."""
    async with open_socket(gateway.url) as client:
        ack = await client.connect(gateway.auth.token("viewer"), [room])
        answer = await client.ask("subscribe", rooms=[room, "campaign:c1"])

    error = {"code": "bad_room", "message": f"{invalid} is not kind:id, both {ID_PATTERN}"}
    assert ack["rooms"] == {room: {"success": False, "error": error}}
    assert answer["rooms"] == {room: {"success": False, "error": error}, "campaign:c1": {"success": True}}


async def test_each_change_of_a_subscription_is_logged_with_connection_user_and_room(gateway: Gateway) -> None:
    with capture_logs() as lines:
        async with open_socket(gateway.url) as client:
            ack = await client.connect(gateway.auth.token("viewer"), ["campaign:c1"])
            await client.ask("subscribe", rooms=["campaign:c1/settlement:s1", "campaign:c2", "nonsense"])
            await client.ask("unsubscribe", rooms=["campaign:c1/settlement:s1", "campaign:c7"])
            await publish_as_auth(gateway, member("viewer", None))
            await client.next("room.left")
    changes = [line for line in lines if "room" in line]

    assert [_what(line) for line in changes] == [
        ("subscribed", "campaign:c1", None),
        ("subscribed", "campaign:c1/settlement:s1", None),
        ("refused room", "campaign:c2", "forbidden"),
        ("refused room", "nonsense", "bad_room"),
        ("unsubscribed", "campaign:c1/settlement:s1", None),
        ("left room", "campaign:c1", "membership_removed"),
    ]
    assert {(line["session"], line["user"], line["log_level"]) for line in changes} == {
        (ack["sessionId"], "viewer", "info")
    }


async def test_changed_role_keeps_the_subscription_and_logs_no_change_of_it(gateway: Gateway) -> None:
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        with capture_logs() as lines:
            await publish_as_auth(gateway, member("viewer", Role.EDITOR))
            await client.next("role.changed")

    assert [line for line in lines if "room" in line] == []


def _what(line: Any) -> tuple[str, str, str | None]:
    return line["event"], line["room"], line.get("code") or line.get("reason")
