"""A user's access to one root was revoked. Auth says what remains, and until then the user's sessions hear nothing."""

from datetime import UTC, datetime

import pytest

from beaconfire_kit.events.user import AccessRevoked
from tests.client import open_socket
from tests.gateway.conftest import Gateway, settlement
from tests.gateway.events import fence, publish_as_auth

ROOM = "campaign:c1"


def revoked(user: str, version: int) -> AccessRevoked:
    return AccessRevoked(
        user_id=user, issued_before=datetime.now(UTC), reason="revoked", membership_version=version, root=ROOM
    )


async def test_session_leaves_the_rooms_of_a_revoked_root_and_stays_connected(gateway: Gateway) -> None:
    gateway.auth.members["viewer"] = {ROOM: "viewer", "campaign:c2": "viewer"}
    async with open_socket(gateway.url) as client, open_socket(gateway.url) as other:
        await client.connect(gateway.auth.token("viewer"), [ROOM, "campaign:c2"])
        await other.connect(gateway.auth.token("owner"), [ROOM])
        gateway.auth.members["viewer"], gateway.auth.version = {"campaign:c2": "viewer"}, 2
        await publish_as_auth(gateway, revoked("viewer", 2))
        await gateway.publish(settlement("secret"))
        left = await client.next("room.left")
        await fence(gateway, other)
        pong = await client.ask("ping")

    assert (left["room"], left["reason"]) == (ROOM, "membership_removed")
    assert pong["success"]
    assert "event" not in [frame["type"] for frame in client.frames]


async def test_role_that_remains_after_a_revocation_is_told_and_no_event_is_missed(gateway: Gateway) -> None:
    gateway.auth.members["editor"] = {ROOM: "editor"}
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("editor"), [ROOM])
        gateway.auth.members["editor"], gateway.auth.version = {ROOM: "viewer"}, 2
        await publish_as_auth(gateway, revoked("editor", 2))
        await gateway.publish(settlement("s1"))
        changed = await client.next("role.changed")
        heard = await fence(gateway, client)

    assert (changed["root"], changed["role"]) == (ROOM, "viewer")
    assert [event["event"]["payload"]["settlementId"] for event in heard] == ["s1", "fence"]


@pytest.mark.parametrize("kind", ["connect", "subscribe"])
async def test_answer_older_than_a_revocation_is_asked_again(gateway: Gateway, kind: str) -> None:
    auth = gateway.auth
    async with open_socket(gateway.url) as first, open_socket(gateway.url) as client:
        await first.connect(auth.token("viewer"))
        position = await publish_as_auth(gateway, revoked("viewer", 5))
        while f"beaconfire_gateway_position {float(position)}" not in await gateway.metrics():
            pass
        if kind == "subscribe":
            await client.connect(auth.token("viewer"))
        auth.asked.clear()

        async def catch_up() -> None:
            if len(auth.asked) == 1:  # the first answer is decided already, of before the revocation
                auth.members["viewer"], auth.version = {}, 5

        auth.before_answer = catch_up
        token = {"token": auth.token("viewer")} if kind == "connect" else {}
        answer = await client.ask(kind, rooms=[ROOM], **token)

    assert answer["rooms"][ROOM]["error"]["code"] == "forbidden"
    assert len(auth.asked) == 2
