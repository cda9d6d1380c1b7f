"""`metadata.audience` on every way an event takes: only the roles it names receive it."""

import json

from beaconfire.nats_server import NatsServer
from beaconfire_kit.events.workspace import UserTyping
from beaconfire_kit.roles import Role
from tests.client import SocketClient, open_socket
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway, settlement
from tests.gateway.events import BODY, fence, member, publish_as_auth, raw_publish
from tests.gateway.slow_clients import slow_sessions
from tests.gateway.streams import dead_letters, push_out, restore
from tests.websocket import client_frame, raw_socket

EDITORS = ("owner", "editor")


async def heard(gateway: Gateway, client: SocketClient) -> list[int]:
    """The offsets it hears up to a fence, without that one."""
    return [event["offset"] for event in await fence(gateway, client)][:-1]


async def test_audience_is_judged_by_the_role_at_the_events_place_in_the_stream(gateway: Gateway) -> None:
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("editor"), ["campaign:c1"])
        as_editor = await gateway.publish(settlement("s1"), audience=EDITORS)
        demoted = await publish_as_auth(gateway, member("editor", Role.VIEWER, version=2))
        await gateway.publish(settlement("s2"), audience=EDITORS)
        for_viewers = await gateway.publish(settlement("s3"), audience=("viewer",))
        promoted = await publish_as_auth(gateway, member("editor", Role.OWNER, version=3))
        await gateway.publish(settlement("s4"), audience=("viewer",))
        as_owner = await gateway.publish(settlement("s5"), audience=("owner",))
        offsets = await heard(gateway, client)

    assert offsets == [as_editor, demoted, for_viewers, promoted, as_owner]


async def test_event_for_other_roles_reaches_a_session_through_none_of_its_rooms(gateway: Gateway) -> None:
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1", "campaign:c1/settlement:s1"])
        await gateway.publish(settlement("s1"), audience=EDITORS)
        offsets = await heard(gateway, client)

    assert offsets == []


async def test_audience_of_an_ephemeral_event_is_respected(gateway: Gateway) -> None:
    gateway.auth.members["viewer"]["workspace:w1"] = "viewer"
    gateway.auth.members["owner"]["workspace:w1"] = "owner"
    typing = UserTyping(workspace_id="w1", target_kind="chat", target_id="h1", user_id="editor", typing=True)
    metadata = {**BODY["metadata"], "audience": ["owner"]}
    body = {**BODY, "type": "user.typing", "payload": typing.model_dump(mode="json"), "metadata": metadata}
    rooms = ["workspace:w1", "campaign:c1"]
    async with open_socket(gateway.url) as owner, open_socket(gateway.url) as viewer:
        await owner.connect(gateway.auth.token("owner"), rooms)
        await viewer.connect(gateway.auth.token("viewer"), rooms)
        await raw_publish(gateway, typing.full_subject(), json.dumps(body).encode())
        await gateway.publish(settlement("last"))
        heard_types = [[(await client.next("event"))["event"]["type"]] for client in (owner, viewer)]

    assert heard_types == [["user.typing"], ["settlement_updated"]]


async def test_missed_events_are_judged_by_the_current_role(stream: NatsServer, auth: FakeAuth) -> None:
    """From the ring, from the stream, and when a room is restored."""
    async with running_gateway(stream, auth, ring_bytes=1_048_576) as gateway:
        async with open_socket(gateway.url) as before:
            cursor = (await before.connect(auth.token("owner")))["cursor"]
        for_editors = await gateway.publish(settlement("s1"), audience=EDITORS)
        for_all = await gateway.publish(settlement("s1"))
        room = "campaign:c1/settlement:s1"
        outcomes = []
        for _older_than_the_ring in (False, True):
            for user in ("editor", "viewer"):
                async with open_socket(gateway.url) as client:
                    await client.connect(auth.token(user), [room, "campaign:c1/settlement:fence"], cursor=cursor)
                    resumed = await heard(gateway, client)
                async with open_socket(gateway.url) as client:
                    await client.connect(auth.token(user))
                    restored, _ = await restore(client, cursor, room)
                outcomes.append((user, [one for one in resumed if one <= for_all], restored))
            await push_out(gateway)

    editors = ("editor", [for_editors, for_all], [for_editors, for_all])
    viewers = ("viewer", [for_all], [for_all])
    assert outcomes == [editors, viewers] * 2


async def test_demoted_session_that_catches_up_gets_no_earlier_event_for_its_old_role(
    stream: NatsServer, auth: FakeAuth
) -> None:
    hello = {"type": "connect", "id": 1, "token": auth.token("editor"), "rooms": ["campaign:c1"]}
    async with running_gateway(stream, auth, max_buffer_bytes=16_384) as gateway, raw_socket(gateway.url) as slow:
        slow.write(client_frame(json.dumps(hello).encode()))
        await slow.frame()
        before = await slow_sessions(gateway)
        while await slow_sessions(gateway) == before:
            await gateway.publish(settlement("s1", "c1", *("x" * 1000,) * 50))
        secret = await gateway.publish(settlement("s1"), audience=EDITORS)
        demoted = await publish_as_auth(gateway, member("editor", Role.VIEWER))
        last = await gateway.publish(settlement("s1"))
        async with open_socket(gateway.url) as other:  # the change has arrived
            await other.connect(auth.token("viewer"), ["campaign:c1"])
            await fence(gateway, other)
        offsets: list[int] = []
        while last not in offsets:
            frame = json.loads((await slow.frame())[1])
            if frame["type"] == "event":
                offsets.append(frame["offset"])

    assert secret not in offsets
    assert offsets[-2:] == [demoted, last]


async def test_event_for_an_unknown_role_is_set_aside_and_reaches_no_session(gateway: Gateway) -> None:
    bodies = [{**BODY, "metadata": {**BODY["metadata"], "audience": audience}} for audience in (["king"], "owner", [7])]
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("owner"), ["campaign:c1"])
        for body in bodies:
            await raw_publish(gateway, "campaign.c1.settlement.s1", json.dumps(body).encode())
        offsets = await heard(gateway, client)
        letters = await dead_letters(gateway, 3)

    assert offsets == []
    assert {letter.subject for letter in letters} == {"deadletter.invalid"}


async def test_event_with_an_empty_audience_reaches_no_session(gateway: Gateway) -> None:
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("owner"), ["campaign:c1"])
        await gateway.publish(settlement("s1"), audience=())
        offsets = await heard(gateway, client)

    assert offsets == []
