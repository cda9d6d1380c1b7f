"""Resuming and catching up from the stream, further back than the ring: a real gateway on a real broker."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_kit.cursor import Cursor
from beaconfire_kit.roles import Role
from tests.client import SocketClient, open_socket
from tests.conftest import connected
from tests.cursors import cursor_of
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway, settlement
from tests.gateway.connections import connections, shrink
from tests.gateway.events import fence, member, publish_as_auth
from tests.gateway.streams import BIG, cursor_now, push_out, restore
from tests.proxy import Proxy
from tests.websocket import RawSocket, client_frame, raw_socket


@pytest.fixture(name="short")
async def _short(stream: NatsServer, auth: FakeAuth) -> AsyncIterator[Gateway]:
    """A gateway whose ring is as short as it may be: 1 MiB, some 17 big events."""
    async with running_gateway(stream, auth, ring_bytes=1_048_576) as gateway:
        yield gateway


async def pages_read(gateway: Gateway) -> float:
    found = re.search(
        r'^beaconfire_gateway_history_pages_total\{source="stream"\} (\S+)', await gateway.metrics(), re.MULTILINE
    )
    return float(found[1]) if found else 0.0


async def offsets(client: SocketClient, count: int) -> list[int]:
    return [event["offset"] for event in await client.events(count)]


async def test_cursor_older_than_the_ring_is_resumed_from_the_stream_and_then_live(short: Gateway) -> None:
    cursor = await cursor_now(short)
    missed = [await short.publish(settlement(f"s{number}")) for number in range(600)]
    await short.publish(settlement("s1", "c2"))
    missed += await push_out(short)
    async with open_socket(short.url) as client:
        ack = await client.connect(short.auth.token("viewer"), ["campaign:c1"], cursor=cursor)
        live = await short.publish(settlement())
        heard = await offsets(client, len(missed) + 1)
        (last,) = await fence(short, client)

    assert ack["cursor"] == cursor
    assert heard == [*missed, live]
    assert last["offset"] > live
    assert "resync" not in [frame["type"] for frame in client.frames]
    assert await pages_read(short) >= 2


async def test_later_resume_is_not_bounded_by_an_earlier_read(short: Gateway) -> None:
    for _ in range(2):
        cursor = await cursor_now(short)
        missed = await push_out(short, 30)
        async with open_socket(short.url) as client:
            await client.connect(short.auth.token("viewer"), ["campaign:c1"], cursor=cursor)

            assert await offsets(client, len(missed)) == missed


async def test_each_replayed_page_brings_its_position(short: Gateway) -> None:
    """A client that is cut off during a long replay need not start over."""
    cursor = await cursor_now(short)
    count = len([await short.publish(settlement(f"s{number}")) for number in range(1200)]) + len(await push_out(short))
    async with open_socket(short.url) as client:
        await client.connect(short.auth.token("viewer"), ["campaign:c1"], cursor=cursor)
        await client.events(count)

    places = [
        frame["offset"] if frame["type"] == "event" else cursor_of(frame["cursor"]).offset
        for frame in client.frames
        if frame["type"] in ("event", "position")
    ]
    assert places == sorted(places)
    assert [frame["type"] for frame in client.frames].count("position") >= 3


async def test_rooms_of_several_roots_are_replayed_in_stream_order(short: Gateway) -> None:
    short.auth.members["viewer"]["campaign:c2"] = "viewer"
    cursor = await cursor_now(short)
    missed = [await short.publish(settlement(f"s{number}", f"c{1 + number % 3}")) for number in range(60)]
    wanted = [offset for number, offset in enumerate(missed) if number % 3 != 2] + await push_out(short)
    async with open_socket(short.url) as client:
        await client.connect(short.auth.token("viewer"), ["campaign:c1", "campaign:c2"], cursor=cursor)
        heard = await offsets(client, len(wanted))

    assert heard == wanted


async def test_replay_brings_only_what_rooms_and_role_allow_now(short: Gateway) -> None:
    cursor = await cursor_now(short)
    await short.publish(settlement("secret"), audience=("owner",))
    await short.publish(settlement("elsewhere"))
    mine = await short.publish(settlement("s1"))
    await push_out(short)
    async with open_socket(short.url) as client:
        await client.connect(short.auth.token("viewer"), ["campaign:c1/settlement:s1"], cursor=cursor)
        heard = await fence_of(short, client, "s1")
    async with open_socket(short.url) as owner:
        await owner.connect(short.auth.token("owner"), ["campaign:c1/settlement:secret"], cursor=cursor)
        seen = await fence_of(short, owner, "secret")

    assert heard[0] == mine
    assert (len(heard), len(seen)) == (2, 2)


async def replayed_halfway(gateway: Gateway, slow: RawSocket, user: str, cursor: str) -> None:
    """Resume, and read nothing, until the gateway waits in the middle of the replay; kernels hold next to nothing."""
    (connecting,) = connections("")
    shrink(connecting)
    slow.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    hello = {"type": "connect", "id": 1, "token": gateway.auth.token(user), "rooms": ["campaign:c1"], "cursor": cursor}
    slow.write(client_frame(json.dumps(hello).encode()))
    async with asyncio.timeout(15):
        while not any(connection.is_full for connection in connections(user)):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("role", [None, Role.VIEWER])
async def test_member_removed_or_demoted_during_a_replay_hears_nothing_more_of_it(
    stream: NatsServer, auth: FakeAuth, role: Role | None
) -> None:
    """Each event is judged by the role at its time, and a role change is sent before the missed events."""
    async with (
        running_gateway(stream, auth, max_buffer_bytes=16_384, ring_bytes=1_048_576) as gateway,
        raw_socket(gateway.url) as slow,
        open_socket(gateway.url) as watching,
    ):
        await watching.connect(auth.token("editor"), ["campaign:c1"])
        cursor = await cursor_now(gateway)
        missed = [
            await gateway.publish(settlement(f"s{number}", "c1", *BIG), audience=("owner",)) for number in range(40)
        ]
        await replayed_halfway(gateway, slow, "owner", cursor)
        auth.members["owner"] = {} if role is None else {"campaign:c1": role.value}
        auth.version = 2
        changed = await publish_as_auth(gateway, member("owner", role))
        last = await gateway.publish(settlement("last"))
        while (await watching.next("event"))["offset"] < last:
            pass
        frames = [json.loads((await slow.frame())[1])]
        while not (
            (frames[-1]["type"] == "event" and frames[-1]["offset"] == last)
            or (frames[-1]["type"] == "position" and cursor_of(frames[-1]["cursor"]).offset >= last)
        ):
            frames.append(json.loads((await slow.frame())[1]))

    kinds = [frame["type"] for frame in frames]
    told = kinds.index("room.left" if role is None else "role.changed")
    before = [frame["offset"] for frame in frames[:told] if frame["type"] == "event"]
    after = [frame["offset"] for frame in frames[told:] if frame["type"] == "event"]
    assert 0 < len(before) < len(missed)
    assert before == missed[: len(before)]
    assert after == ([] if role is None else [changed, last])


async def test_cursor_at_an_expired_tick_of_a_quiet_stream_is_resumed(stream: NatsServer, auth: FakeAuth) -> None:
    """A gateway that started later resumes it, too."""
    async with running_gateway(stream, auth) as gateway:
        await gateway.publish(settlement())
        cursor = await cursor_now(gateway)
    async with connected(stream, "setup") as setup:
        await setup.request("$JS.API.STREAM.PURGE.EVENTS", json.dumps({"filter": "tick"}).encode())
    async with running_gateway(stream, auth, ring_age_s=1) as gateway, open_socket(gateway.url) as client:
        ack = await client.connect(auth.token("viewer"), ["campaign:c1"], cursor=cursor)
        events = await fence(gateway, client)

    assert ack["cursor"] == cursor
    assert [event["type"] for event in client.frames if event["type"] == "resync"] == []
    assert len(events) == 1


async def fence_of(gateway: Gateway, client: SocketClient, settlement_id: str) -> list[int]:
    """The offsets of all events up to one of this settlement that is published now."""
    last = await gateway.publish(settlement(settlement_id))
    heard: list[int] = []
    while last not in heard:
        heard += await offsets(client, 1)
    return heard


async def test_cursor_older_than_retention_gets_resync_and_live_events(short: Gateway) -> None:
    cursor = await cursor_now(short)
    await short.publish(settlement("lost"))
    kept = (await push_out(short))[0]
    async with connected(short.server, "setup") as setup:
        await setup.request("$JS.API.STREAM.PURGE.EVENTS", json.dumps({"seq": kept}).encode())
    async with open_socket(short.url) as client:
        await client.connect(short.auth.token("viewer"), ["campaign:c1"], cursor=cursor)
        resync = await client.next("resync")
        (event,) = await fence(short, client)

    assert (resync["rooms"], resync["reason"]) == (["campaign:c1"], "not_resumable")
    assert event["rooms"][0] == "campaign:c1"


async def test_clients_that_resume_at_once_share_their_reads_and_each_gets_its_part(short: Gateway) -> None:
    cursors: list[tuple[str, int]] = []
    missed: list[int] = []
    for number in range(40):
        cursors.append((await cursor_now(short), len(missed)))
        missed.append(await short.publish(settlement(f"s{number}")))
    missed += await push_out(short)
    before = await pages_read(short)

    async def resume(cursor: str, had: int) -> Sequence[int]:
        async with open_socket(short.url) as client:
            await client.connect(short.auth.token(f"viewer{had}"), ["campaign:c1"], cursor=cursor)
            return await offsets(client, len(missed) - had)

    for _, had in cursors:
        short.auth.members[f"viewer{had}"] = {"campaign:c1": "viewer"}
    heard = await asyncio.gather(*(resume(*one) for one in cursors))

    assert heard == [missed[had:] for _, had in cursors]
    assert await pages_read(short) - before < len(cursors)


async def test_slow_client_beyond_the_ring_is_caught_up_from_the_stream_once_and_in_order(
    stream: NatsServer, auth: FakeAuth
) -> None:
    async with (
        running_gateway(stream, auth, max_buffer_bytes=16_384, ring_bytes=1_048_576) as gateway,
        raw_socket(gateway.url) as slow,
        open_socket(gateway.url) as quick,
    ):
        await quick.connect(auth.token("owner"), ["campaign:c1"])
        hello = {"type": "connect", "id": 1, "token": auth.token("viewer"), "rooms": ["campaign:c1"]}
        slow.write(client_frame(json.dumps(hello).encode()))
        await slow.frame()
        published = await push_out(gateway, 200)
        heard = await offsets(quick, len(published))
        heard_slowly: list[int] = []
        while len(heard_slowly) < len(published):
            frame = json.loads((await slow.frame())[1])
            assert frame["type"] != "resync"
            if frame["type"] == "event":
                heard_slowly.append(frame["offset"])
        read = await pages_read(gateway)

    assert heard == heard_slowly == published
    assert read > 0


async def test_cursor_ahead_of_this_gateway_is_waited_for(stream: NatsServer, auth: FakeAuth) -> None:
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(Proxy(stream.port).running())
        quick = await stack.enter_async_context(running_gateway(stream, auth))
        behind = await stack.enter_async_context(
            running_gateway(stream, auth, nats_url=f"nats://127.0.0.1:{proxy.port}")
        )
        token = auth.token("viewer")  # one token throughout, so the gateway knows its rooms and does not ask again
        before = await stack.enter_async_context(open_socket(behind.url))
        epoch = cursor_of((await before.connect(token, ["campaign:c1"]))["cursor"]).epoch
        async with open_socket(behind.url) as mistaken:  # it is looked where the stream ends, which counts but once
            await mistaken.connect(token, ["campaign:c1"], cursor=str(Cursor(epoch, 1_000_000)))
            await mistaken.next("resync")
        proxy.flowing.clear()
        async with open_socket(quick.url) as client:
            await client.connect(token, ["campaign:c1"])
            had = await quick.publish(settlement("had"))
            await client.events(1)
        client = await stack.enter_async_context(open_socket(behind.url))
        message = await client.send("connect", token=token, rooms=["campaign:c1"], cursor=str(Cursor(epoch, had)))
        missed = await quick.publish(settlement("missed"))
        proxy.flowing.set()
        ack = await client.next("connection.ack", "resync")
        heard = await offsets(client, 1)

    assert (ack["id"], ack["cursor"]) == (message, str(Cursor(epoch, had)))
    assert heard == [missed]


@pytest.mark.parametrize("older_than_the_ring", [False, True])
async def test_subscribe_with_a_snapshots_cursor_restores_the_rooms_and_goes_live_without_gap(
    short: Gateway, older_than_the_ring: bool
) -> None:
    short.auth.members["viewer"]["campaign:c2"] = "viewer"
    published: list[int] = []

    async def keep_publishing() -> None:
        for number in range(150):
            published.append(await short.publish(settlement(f"s{number}")))
            await short.publish(settlement("elsewhere", "c2"))

    async with open_socket(short.url) as client:
        await client.connect(short.auth.token("viewer"), ["campaign:c2"])
        cursor = await cursor_now(short)
        published.append(await short.publish(settlement("first")))
        if older_than_the_ring:
            published += await push_out(short)
        publishing = asyncio.create_task(keep_publishing())
        heard, answers = await restore(client, cursor, "campaign:c1")
        await publishing
        last = (await fence(short, client))[-1]["offset"]
        live = [
            frame["offset"] for frame in client.frames if frame["type"] == "event" and "campaign:c1" in frame["rooms"]
        ]

    assert answers == {"campaign:c1": {"success": True, "recovered": True}}
    assert heard[0] == published[0]
    assert heard + live == [*published, last]


async def test_restore_repeated_after_a_lost_answer_brings_everything_again_and_then_live_events_once(
    short: Gateway,
) -> None:
    async with open_socket(short.url) as client:
        cursor = str((await client.connect(short.auth.token("viewer")))["cursor"])
        missed = [await short.publish(settlement(f"s{number}")) for number in range(3)]
        first, _ = await restore(client, cursor, "campaign:c1")
        second, _ = await restore(client, cursor, "campaign:c1")
        live = await fence(short, client)

    assert first == second == missed
    assert len(live) == 1


async def test_restore_brings_what_the_role_may_see_now_and_nothing_of_a_refused_room(short: Gateway) -> None:
    cursor = await cursor_now(short)
    await short.publish(settlement("secret"), audience=("owner",))
    await short.publish(settlement("foreign", "c2"))
    mine = await short.publish(settlement("s1"))
    async with open_socket(short.url) as client:
        await client.connect(short.auth.token("viewer"))
        heard, answers = await restore(client, cursor, "campaign:c1", "campaign:c2")

    assert heard == [mine]
    assert answers["campaign:c1"] == {"success": True, "recovered": True}
    assert answers["campaign:c2"]["success"] is False  # type: ignore[index]


async def test_room_refused_when_a_restore_began_is_not_reported_as_restored(short: Gateway) -> None:
    cursor = await cursor_now(short)
    missed = await short.publish(settlement("s1", "c2"))
    await push_out(short, 5)
    asked = 0

    def change(question: dict[str, Any]) -> dict[str, Any]:
        nonlocal asked
        asked += 1
        if asked > 2:  # by then something has been written without it
            short.auth.members["viewer"]["campaign:c2"] = "viewer"
        return short.auth.decide(question)

    async with open_socket(short.url) as client:
        await client.connect(short.auth.token("viewer"))
        short.auth.answer = change
        heard, answers = await restore(client, cursor, "campaign:c1", "campaign:c2")

    assert answers["campaign:c1"] == {"success": True, "recovered": True}
    assert answers["campaign:c2"]["success"] is False or missed in heard  # type: ignore[index]


@pytest.mark.parametrize(
    ("cursor", "reason"),
    [("otherepoch:5", "epoch_changed"), ("{epoch}:99999999", "ahead"), ("{epoch}:1", "not_resumable")],
)
async def test_restore_from_an_unusable_cursor_joins_the_rooms_with_resync_and_leaves_others_alone(
    short: Gateway, cursor: str, reason: str
) -> None:
    await short.publish(settlement("lost"))
    kept = (await push_out(short))[0]
    async with connected(short.server, "setup") as setup, open_socket(short.url) as client:
        await setup.request("$JS.API.STREAM.PURGE.EVENTS", json.dumps({"seq": kept}).encode())
        epoch = cursor_of((await client.connect(short.auth.token("viewer"), ["user:viewer"]))["cursor"]).epoch
        heard, answers = await restore(client, cursor.replace("{epoch}", epoch), "campaign:c1")
        resync = await client.next("resync")
        live = await fence(short, client)

    assert heard == []
    assert answers == {"campaign:c1": {"success": True, "recovered": False}}
    assert (resync["rooms"], resync["reason"]) == (["campaign:c1"], reason)
    assert len(live) == 1
