"""T21: whatever is sent as a cursor, a session hears only its own rooms."""

from typing import Any

import pytest

from beaconfire_kit.cursor import Cursor
from tests.client import Closed, open_socket
from tests.cursors import cursor_of
from tests.gateway.conftest import Gateway, settlement

STRANGE = [
    "",
    ":",
    "0",
    "1",
    ":1",
    "foreign:1",
    "foreign:0",
    "{epoch}",
    "{epoch}:",
    "{epoch}:-1",
    "{epoch}:+1",
    "{epoch}: 1",
    "{epoch}:1.5",
    "{epoch}:1e3",
    "{epoch}:0x1",
    "{epoch}:\u0661",
    "{epoch}:²",
    "{epoch}:NaN",
    "{epoch}:1:1",
    "{epoch}:9223372036854775808",
    "{epoch}:18446744073709551616",
    "{epoch}:99999999999999999999999999999999999999999999",
    "{EPOCH}:1",
    " {epoch}:1",
    "{epoch}\n:1",
]
NO_STRING: list[Any] = [0, -1, 2**63, 1.5, True, [], {}, ["{epoch}:1"]]


async def _mine_and_others(gateway: Gateway) -> str:
    """Events of a room of ours, and of one that is not. The stream's epoch."""
    gateway.auth.members["other"] = {"campaign:c9": "owner"}
    await gateway.publish(settlement("mine"))
    await gateway.publish(settlement("theirs", "c9"))
    async with open_socket(gateway.url) as client:
        ack = await client.connect(gateway.auth.token("viewer"))
    return cursor_of(ack["cursor"]).epoch


@pytest.mark.parametrize("form", STRANGE)
async def test_unusable_cursor_gets_resync_or_4400_and_a_live_session(gateway: Gateway, form: str) -> None:
    """T21: foreign, malformed, negative and far too high cursors."""
    epoch = await _mine_and_others(gateway)
    cursor = form.replace("{epoch}", epoch).replace("{EPOCH}", epoch.upper())
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1", "campaign:c9"], cursor=cursor)
        resync = await client.next("resync")
        await gateway.publish(settlement("theirs", "c9"))
        await gateway.publish(settlement("live"))
        event = await client.next("event")
        again = await client.ask("subscribe", rooms=["campaign:c1", "campaign:c9"], cursor=cursor)

    assert resync["rooms"] == ["campaign:c1"]
    assert event["event"]["payload"]["settlementId"] == "live"
    assert again["rooms"]["campaign:c1"] == {"success": True, "recovered": False}
    assert again["rooms"]["campaign:c9"]["error"]["code"] == "forbidden"
    assert "theirs" not in str([frame for frame in client.frames if frame["type"] in ("event", "restored")])


@pytest.mark.parametrize("cursor", NO_STRING, ids=str)
async def test_cursor_that_is_no_string_is_refused(gateway: Gateway, cursor: Any) -> None:
    """T21: in `connect` the connection is closed with 4400, later the answer is `bad_request`."""
    async with open_socket(gateway.url) as client:
        with pytest.raises(Closed) as end:
            await client.connect(gateway.auth.token("viewer"), ["campaign:c1"], cursor=cursor)
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        later = await client.ask("subscribe", rooms=["campaign:c1"], cursor=cursor)
        pong = await client.ask("ping")

    assert end.value.code == 4400
    assert (later["type"], later["code"]) == ("error", "bad_request")
    assert pong["success"] is True


async def test_cursor_of_another_user_gives_only_the_sessions_own_rooms(gateway: Gateway) -> None:
    """T21: the same holds for a cursor from before the user became a member."""
    epoch = await _mine_and_others(gateway)
    async with open_socket(gateway.url) as client:
        rooms = ["campaign:c1", "campaign:c9", "campaign:c9/settlement:theirs", "user:other"]
        await client.connect(gateway.auth.token("viewer"), rooms, cursor=str(Cursor(epoch, 1)))
        restored = await client.next("event")
        await gateway.publish(settlement("live"))
        live = await client.next("event")

    assert restored["event"]["payload"]["settlementId"] == "mine"
    assert live["event"]["payload"]["settlementId"] == "live"
    assert "theirs" not in str([frame for frame in client.frames if frame["type"] == "event"])


async def test_replay_brings_only_what_the_role_may_see(gateway: Gateway) -> None:
    """T21: events for owners stay with owners, from the ring as live."""
    async with open_socket(gateway.url) as watching:
        ack = await watching.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        await gateway.publish(settlement("secret"), audience=("owner",))
        await gateway.publish(settlement("open"))
        live = await watching.next("event")
    async with open_socket(gateway.url) as back:
        await back.connect(gateway.auth.token("viewer"), ["campaign:c1", "settlement:secret"], cursor=ack["cursor"])
        replayed = await back.next("event")
        await back.ask("subscribe", rooms=["campaign:c1"], cursor=ack["cursor"])
    frames = str([frame for frame in [*watching.frames, *back.frames] if frame["type"] in ("event", "restored")])

    assert [one["event"]["payload"]["settlementId"] for one in (live, replayed)] == ["open", "open"]
    assert "secret" not in frames
