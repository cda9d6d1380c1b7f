"""Selective sync: subscriptions that name the event types they want, on every way an event takes (A57)."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.fanout.wanted_types import select
from beaconfire_gateway.wire.native import MAX_TYPES
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.event import Event
from beaconfire_kit.events.campaign import StateInvalidated, StructureUpdated
from beaconfire_kit.events.user import MemberChanged
from beaconfire_kit.events.workspace import UserTyping
from beaconfire_kit.roles import Role
from tests.client import Closed, SocketClient, open_socket
from tests.cursors import cursor_of
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway, settlement
from tests.gateway.events import BODY, fence, publish_as_auth, raw_publish
from tests.gateway.slow_clients import slow_sessions
from tests.gateway.streams import push_out, restore
from tests.websocket import client_frame, raw_socket


def state() -> StateInvalidated:
    """An event that reaches `campaign:c1`."""
    return StateInvalidated(scope="campaign", campaign_id="c1", affected_fields=("food",))


def structure(settlement_id: str = "s1") -> StructureUpdated:
    """An event that reaches `campaign:c1`, `settlement:s1` and `structure:t1`."""
    return StructureUpdated(
        campaign_id="c1", settlement_id=settlement_id, structure_id="t1", operation="update", changed_fields=("level",)
    )


async def publish_all(gateway: Gateway, *events: Event) -> list[int]:
    """Publish; the offsets."""
    return [await gateway.publish(event) for event in events]


async def heard_types(gateway: Gateway, client: SocketClient) -> list[str]:
    """The types of what it hears up to a settlement's event, without that one."""
    return [event["event"]["type"] for event in await fence(gateway, client)][:-1]


async def test_subscription_with_types_hears_exactly_these(gateway: Gateway) -> None:
    async with open_socket(gateway.url) as client, open_socket(gateway.url) as neighbour:
        await client.connect(gateway.auth.token("viewer"))
        await client.ask("subscribe", rooms=["campaign:c1"], types=["settlement_updated", "structure_updated"])
        await neighbour.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        await publish_all(gateway, state(), settlement(), state(), structure())
        heard = await heard_types(gateway, client)
        heard_by_neighbour = await heard_types(gateway, neighbour)

    assert heard == ["settlement_updated", "structure_updated"]
    assert heard_by_neighbour[:4] == [
        "state_invalidated",
        "settlement_updated",
        "state_invalidated",
        "structure_updated",
    ]


async def test_connect_names_types_by_room_and_other_rooms_hear_everything(gateway: Gateway) -> None:
    rooms = ["campaign:c1", "campaign:c1/settlement:s1"]
    async with open_socket(gateway.url) as client:
        await client.connect(
            gateway.auth.token("viewer"), rooms, types={"campaign:c1": ["world_time_changed", "settlement_updated"]}
        )
        await publish_all(gateway, structure("s1"), structure("s2"), state(), settlement())
        heard = await heard_types(gateway, client)

    assert heard == ["structure_updated", "settlement_updated"]


async def test_event_in_two_rooms_comes_once_if_either_rooms_types_include_it(gateway: Gateway) -> None:
    async with open_socket(gateway.url) as client:
        await client.connect(
            gateway.auth.token("viewer"),
            ["campaign:c1", "campaign:c1/settlement:s1", "campaign:c1/settlement:fence"],
            types={
                "campaign:c1": ["structure_updated", "state_invalidated"],
                "campaign:c1/settlement:s1": ["structure_updated"],
            },
        )
        await publish_all(gateway, structure("s1"), settlement("s1"), structure("s2"), state())
        heard = await heard_types(gateway, client)

    assert heard == ["structure_updated", "structure_updated", "state_invalidated"]


async def test_two_names_of_one_room_hear_the_union_of_their_types_once(gateway: Gateway) -> None:
    """Leaving one name leaves the other's types."""
    gateway.auth.answer = lambda question: {
        "version": 1,
        "rooms": {name: {"allowed": True, "root": "campaign:c1", "role": "viewer"} for name in question["rooms"]},
    }
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1/settlement:fence"])
        await client.ask("subscribe", rooms=["settlement:s1"], types=["settlement_updated"])
        await client.ask("subscribe", rooms=["campaign:c1/settlement:s1"], types=["structure_updated"])
        await publish_all(gateway, settlement("s1"), structure("s1"))
        both = await heard_types(gateway, client)
        await client.ask("unsubscribe", rooms=["settlement:s1"])
        await publish_all(gateway, settlement("s1"), structure("s1"))
        one = await heard_types(gateway, client)

    assert (both, one) == (["settlement_updated", "structure_updated"], ["structure_updated"])


async def test_latest_subscribe_decides_the_types_of_a_room(gateway: Gateway) -> None:
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1/settlement:fence"])
        heard = []
        for types in (["state_invalidated"], ["structure_updated"], None):
            chosen = {} if types is None else {"types": types}
            answer = await client.ask("subscribe", rooms=["campaign:c1"], **chosen)
            await publish_all(gateway, state(), structure())
            heard.append(await heard_types(gateway, client))

    assert answer["rooms"] == {"campaign:c1": {"success": True}}
    assert heard == [["state_invalidated"], ["structure_updated"], ["state_invalidated", "structure_updated"]]


@pytest.mark.parametrize(
    ("types", "code", "said"),
    [
        (["settlement_update"], "unknown_type", "did you mean settlement_updated"),
        (["settlement_updated", "Settlement_Updated"], "unknown_type", "did you mean settlement_updated"),
        (["nonsense*"], "unknown_type", "there are access_revoked, activity.created"),
        ([], "bad_request", "types: "),
        ("settlement_updated", "bad_request", "types: "),
        ([7], "bad_request", "types.0: "),
        (["x" * 129], "bad_request", "types.0: "),
        (["settlement_updated"] * (MAX_TYPES + 1), "bad_request", "types: "),
    ],
)
async def test_unknown_types_are_refused_with_a_suggestion_and_change_nothing(
    gateway: Gateway, types: Any, code: str, said: str
) -> None:
    async with open_socket(gateway.url) as client:
        await client.connect(
            gateway.auth.token("viewer"), ["campaign:c1"], types={"campaign:c1": ["state_invalidated"]}
        )
        answer = await client.ask("subscribe", rooms=["campaign:c1"], types=types)
        await client.ask("subscribe", rooms=["campaign:c1/settlement:fence"])
        await publish_all(gateway, structure(), state())
        heard = await heard_types(gateway, client)

    error = answer.get("error", answer)
    assert error["code"] == code
    assert said in error["message"]
    assert heard == ["state_invalidated"]


def test_typing_can_be_asked_for_without_a_catalogue_that_has_its_type() -> None:
    assert select(["user.typing"], Catalogue.of(1, {})) == frozenset({"user.typing"})


async def test_connect_refuses_only_the_rooms_with_unknown_types(gateway: Gateway) -> None:
    """A client that is newer than the gateway can still connect."""
    async with open_socket(gateway.url) as client:
        ack = await client.connect(
            gateway.auth.token("viewer"),
            ["campaign:c1", "campaign:c1/settlement:fence"],
            types={"campaign:c1": ["settlement.updated"]},
        )

    assert ack["rooms"]["campaign:c1"]["error"]["code"] == "unknown_type"
    assert ack["rooms"]["campaign:c1/settlement:fence"] == {"success": True}


async def test_types_for_a_room_that_is_not_requested_are_refused(gateway: Gateway) -> None:
    async with open_socket(gateway.url) as client:
        with pytest.raises(Closed) as end:
            await client.connect(
                gateway.auth.token("viewer"), ["campaign:c1"], types={"campaign:c2": ["state_invalidated"]}
            )

    assert end.value.code == 4400
    assert "types: 'campaign:c2' is not among `rooms`" in end.value.reason


@pytest.mark.parametrize("older_than_the_ring", [False, True], ids=["from the ring", "from the stream"])
async def test_resume_replays_only_the_wanted_types_and_its_position_passes_the_others(
    stream: NatsServer, auth: FakeAuth, older_than_the_ring: bool
) -> None:
    async with running_gateway(stream, auth, ring_bytes=1_048_576) as gateway:
        async with open_socket(gateway.url) as before:
            cursor = (await before.connect(auth.token("viewer")))["cursor"]
        wanted = await publish_all(gateway, structure(), state(), state(), structure(), state())
        if older_than_the_ring:
            wanted += await push_out(gateway)
        async with open_socket(gateway.url) as client:
            await client.connect(
                auth.token("viewer"), ["campaign:c1"], cursor=cursor, types={"campaign:c1": ["structure_updated"]}
            )
            heard = [event["offset"] for event in await client.events(2)]
            while (passed := cursor_of((await client.next("position"))["cursor"]).offset) < wanted[-1]:
                pass

    assert heard == [wanted[0], wanted[3]]
    assert passed >= wanted[-1]
    assert [frame["type"] for frame in client.frames].count("event") == 2


async def test_subscription_with_a_snapshots_cursor_is_restored_with_its_types(gateway: Gateway) -> None:
    async with open_socket(gateway.url) as client:
        cursor = (await client.connect(gateway.auth.token("viewer")))["cursor"]
        offsets = await publish_all(gateway, state(), structure(), state())
        heard, answers = await restore(client, cursor, "campaign:c1", types=["state_invalidated"])

    assert heard == [offsets[0], offsets[2]]
    assert answers == {"campaign:c1": {"success": True, "recovered": True}}


async def test_slow_client_that_catches_up_hears_only_its_types(stream: NatsServer, auth: FakeAuth) -> None:
    hello = {
        "type": "connect",
        "id": 1,
        "token": auth.token("viewer"),
        "rooms": ["campaign:c1"],
        "types": {"campaign:c1": ["settlement_updated"]},
    }
    async with running_gateway(stream, auth, max_buffer_bytes=16_384) as gateway, raw_socket(gateway.url) as slow:
        slow.write(client_frame(json.dumps(hello).encode()))
        await slow.frame()
        wanted: list[int] = []
        before = await slow_sessions(gateway)
        while await slow_sessions(gateway) == before:
            await gateway.publish(state())
            wanted.append(await gateway.publish(settlement("s1", "c1", *("x" * 1000,) * 50)))
        await gateway.publish(state())
        wanted.append(await gateway.publish(settlement()))
        heard: list[tuple[int, str]] = []
        while len(heard) < len(wanted):
            frame = json.loads((await slow.frame())[1])
            if frame["type"] == "event":
                heard.append((frame["offset"], frame["event"]["type"]))

    assert heard == [(offset, "settlement_updated") for offset in wanted]


async def test_position_rises_with_events_that_were_filtered_out(stream: NatsServer, auth: FakeAuth) -> None:
    async with running_gateway(stream, auth, heartbeat_s=1) as gateway, open_socket(gateway.url) as client:
        await client.connect(auth.token("viewer"), ["campaign:c1"], types={"campaign:c1": ["structure_updated"]})
        last = await gateway.publish(state())
        while cursor_of((await client.next("position"))["cursor"]).offset < last:
            pass

    assert "event" not in {frame["type"] for frame in client.frames}


async def test_changed_role_keeps_the_types_of_a_subscription(gateway: Gateway) -> None:
    async with open_socket(gateway.url) as client:
        await client.connect(
            gateway.auth.token("editor"),
            ["campaign:c1"],
            types={"campaign:c1": ["structure_updated", "settlement_updated"]},
        )
        await gateway.publish(structure(), audience=("owner", "editor"))
        await publish_as_auth(
            gateway,
            MemberChanged(root_kind="campaign", root_id="c1", user_id="editor", role=Role.VIEWER, membership_version=2),
        )
        await gateway.publish(structure(), audience=("owner", "editor"))
        await publish_all(gateway, state(), structure())
        heard = await heard_types(gateway, client)

    assert heard == ["structure_updated", "structure_updated"]


@pytest.mark.parametrize(("types", "count"), [(["user.typing"], 1), (["chat.message"], 0)])
async def test_types_filter_ephemeral_events_too(gateway: Gateway, types: Sequence[str], count: int) -> None:
    gateway.auth.members["viewer"]["workspace:w1"] = "viewer"
    typing = UserTyping(workspace_id="w1", target_kind="chat", target_id="h1", user_id="editor", typing=True)
    body = {**BODY, "type": "user.typing", "payload": typing.model_dump(mode="json")}
    async with open_socket(gateway.url) as client:
        await client.connect(
            gateway.auth.token("viewer"),
            ["workspace:w1/chat:h1", "campaign:c1"],
            types={"workspace:w1/chat:h1": types},
        )
        await raw_publish(gateway, typing.full_subject(), json.dumps(body).encode())
        heard = await heard_types(gateway, client)

    assert heard == ["user.typing"] * count
