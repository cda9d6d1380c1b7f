"""A service sends to a room, to several rooms at once, to a user and to one session: over HTTP and over NATS."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.roles import Role
from beaconfire_kit.sending import NotSent, Sender
from beaconfire_kit.sent_events import MAX_ROOMS, SentEvent, session_room
from tests.client import SocketClient, open_socket
from tests.conftest import connected
from tests.people import Person
from tests.security.whole import Whole, running_whole
from tests.sending import WAYS, push_notices, sending

PATTERNS = ("workspace.>", "user.*.session.*", "user.*")
TEXT = {"text": "Back in 5 minutes"}


@dataclass
class Running:
    """Everything that runs: two gateways, users who own workspaces, and a service."""

    whole: Whole
    server: NatsServer
    backend: str
    """A service token that may change members."""

    async def token(self, *patterns: str, service: str = "tracker") -> str:
        issued = await self.whole.auth.operate("POST", "service-tokens", {"service": service, "publish": patterns})
        return str(issued.body["token"])

    async def person(self, *workspaces: str) -> Person:
        """A user who is in these workspaces."""
        person = await self.whole.sign_up(f"member-{uuid.uuid4().hex}")
        changes = [{"root": root, "userId": person.id, "role": "viewer"} for root in workspaces]
        if changes:
            answer = await self.whole.auth.call("POST", "/auth/members/bulk", {"members": changes}, token=self.backend)
            assert answer.status == 200, answer
        return person

    @asynccontextmanager
    async def sender(self, way: str, *patterns: str) -> AsyncIterator[Sender]:
        token = await self.token(*(patterns or PATTERNS))
        async with sending(way, self.server, self.whole.publisher.url, token) as sender:
            yield sender

    @asynccontextmanager
    async def listening(self, person: Person, *rooms: str, gateway: int = 0) -> AsyncIterator[SocketClient]:
        """A connection of the user that is in these rooms."""
        async with open_socket(self.whole.gateways[gateway].url) as client:
            ack = await client.connect(person.token, rooms)
            assert all(ack["rooms"][room]["success"] for room in rooms), ack
            yield client


@pytest.fixture(name="running")
async def _running(stream: NatsServer, tmp_path: Path) -> AsyncIterator[Running]:
    async with running_whole(stream, tmp_path, gateways=2) as whole:
        await push_notices(stream)
        issued = await whole.auth.operate(
            "POST", "service-tokens", {"service": "backend", "publish": ["workspace.*.member.*"]}
        )
        yield Running(whole, stream, issued.body["token"])


@pytest.fixture(name="way", params=WAYS)
def _way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def heard(client: SocketClient, sender: Sender, *until: str) -> list[dict[str, Any]]:
    """The event frames that came before one more event, which is sent to the rooms `until` and left out.

    Changes of members are left out, too.
    """
    await sender.send("announcement", {"text": "fence"}, to=until)
    return await until_fence(client)


async def until_fence(client: SocketClient) -> list[dict[str, Any]]:
    frames = []
    while (frame := await next_event(client))["event"]["payload"]["text"] != "fence":
        frames.append(frame)
    return frames


async def next_event(client: SocketClient) -> dict[str, Any]:
    """The next event frame that is not about a member: a user's membership may be heard late."""
    while (frame := await client.next("event"))["event"]["type"] == "member_changed":
        pass
    return frame


async def test_event_sent_to_several_rooms_reaches_every_session_in_them_once(running: Running, way: str) -> None:
    both = await running.person("workspace:w1", "workspace:w2")
    second = await running.person("workspace:w2")
    neither = await running.person("workspace:w3")
    async with AsyncExitStack() as stack:
        sender = await stack.enter_async_context(running.sender(way))
        in_both = await stack.enter_async_context(running.listening(both, "workspace:w1", "workspace:w2"))
        in_second = await stack.enter_async_context(running.listening(second, "workspace:w2", gateway=1))
        outside = await stack.enter_async_context(running.listening(neither, "workspace:w3"))
        sent = await sender.send("announcement", TEXT, to=["workspace:w1", "workspace:w2"], correlation_id="req-7")
        rooms = ((in_both, "workspace:w1"), (in_second, "workspace:w2"), (outside, "workspace:w3"))
        frames = [await heard(client, sender, room) for client, room in rooms]

    assert sent.rooms == 2
    assert [[frame["event"]["id"] for frame in some] for some in frames] == [[sent.id], [sent.id], []]
    event = frames[0][0]["event"]
    assert event["payload"] == TEXT
    assert (event["metadata"]["source"], event["metadata"]["correlationId"]) == ("tracker", "req-7")


async def test_recipients_learn_only_the_rooms_of_their_own_root(running: Running) -> None:
    person, other = await running.person("workspace:w1"), await running.person("workspace:secret")
    rooms = ["workspace:secret", "workspace:w1", "workspace:w1/team:m1"]
    async with (
        running.sender("http") as sender,
        running.listening(person, "workspace:w1", "workspace:w1/team:m1") as client,
        running.listening(other, "workspace:secret") as stranger,
    ):
        await sender.send("workspace.notice", TEXT, to=rooms)
        mine, theirs = await next_event(client), await next_event(stranger)

    assert mine["rooms"] == ["workspace:w1", "workspace:w1/team:m1"]
    assert theirs["rooms"] == ["workspace:secret"]


async def test_event_sent_to_an_inner_room_does_not_reach_its_root(running: Running, way: str) -> None:
    person = await running.person("workspace:w1")
    async with (
        running.sender(way) as sender,
        running.listening(person, "workspace:w1", "workspace:w1/team:m1") as inside,
        running.listening(person, "workspace:w1") as outside,
    ):
        await sender.send("workspace.notice", TEXT, to=["workspace:w1/team:m1"])
        frames = [await heard(one, sender, "workspace:w1") for one in (inside, outside)]

    assert [len(some) for some in frames] == [1, 0]


async def test_event_sent_to_a_user_reaches_all_of_their_sessions_in_their_room(running: Running, way: str) -> None:
    person, other = await running.person("workspace:w1"), await running.person("workspace:w1")
    own = f"user:{person.id}"
    async with (
        running.sender(way) as sender,
        running.listening(person, own) as one,
        running.listening(person, own, gateway=1) as two,
        running.listening(other, f"user:{other.id}", "workspace:w1") as stranger,
    ):
        sent = await sender.send("notice", TEXT, to=[own])
        ids = [(await next_event(client))["event"]["id"] for client in (one, two)]
        strangers = await heard(stranger, sender, "workspace:w1")

    assert ids == [sent.id, sent.id]
    assert strangers == []


async def test_event_sent_to_one_session_reaches_it_alone_whatever_rooms_it_is_in(running: Running, way: str) -> None:
    person = await running.person("workspace:w1")
    own = f"user:{person.id}"
    async with (
        running.sender(way) as sender,
        running.listening(person, "workspace:w1", gateway=1) as chosen,
        running.listening(person, "workspace:w1", own, gateway=1) as other,
    ):
        room = session_room(person.id, chosen.ack["sessionId"])
        sent = await sender.send("notice", TEXT, to=[room])
        frames = [await heard(one, sender, "workspace:w1") for one in (chosen, other)]

    assert [frame["event"]["id"] for frame in frames[0]] == [sent.id]
    assert frames[0][0]["rooms"] == [own, room]
    assert frames[1] == []


async def test_session_of_another_user_is_not_reached_by_its_id(running: Running) -> None:
    person, other = await running.person("workspace:w1"), await running.person("workspace:w1")
    async with running.sender("http") as sender, running.listening(person, "workspace:w1") as client:
        await sender.send("notice", TEXT, to=[session_room(other.id, client.ack["sessionId"])])
        frames = await heard(client, sender, "workspace:w1")

    assert frames == []


async def test_sent_event_is_not_stored_and_moves_no_cursor(running: Running) -> None:
    person = await running.person("workspace:w1")
    async with running.sender("http") as sender:
        async with running.listening(person, "workspace:w1") as client:
            await sender.send("announcement", TEXT, to=["workspace:w1"])
            frame = await next_event(client)
        fence = {"type": "decision", "subject": "workspace.w1.decision", "payload": {"text": "fence"}}
        await running.whole.api(await running.token(*PATTERNS)).post("/v1/events", fence)
        async with open_socket(running.whole.gateways[1].url) as again:
            await again.connect(person.token, ["workspace:w1"], cursor=client.ack["cursor"])
            resumed = await until_fence(again)

    assert "offset" not in frame
    assert resumed == []


async def test_stored_events_for_several_rooms_are_resumed_with_their_offsets(running: Running) -> None:
    """What nobody may miss is published: one event for each room, in one request."""
    person = await running.person("workspace:w1", "workspace:w2")
    rooms = ["workspace:w1", "workspace:w2"]
    events = [{"type": "decision", "subject": f"workspace.w{n}.decision", "payload": TEXT} for n in (1, 2)]
    async with running.listening(person, *rooms) as client:
        cursor = client.ack["cursor"]
    answer = await running.whole.api(await running.token(*PATTERNS)).post("/v1/events", events)
    async with open_socket(running.whole.gateways[1].url) as again:
        await again.connect(person.token, rooms, cursor=cursor)
        resumed = [await next_event(again) for _ in rooms]

    assert [one["subject"] for one in answer.body["events"]] == ["workspace.w1.decision", "workspace.w2.decision"]
    assert sorted(frame["rooms"] for frame in resumed) == [["workspace:w1"], ["workspace:w2"]]
    assert 0 < resumed[0]["offset"] < resumed[1]["offset"]


async def test_audience_of_a_sent_event_counts(running: Running) -> None:
    person = await running.person("workspace:w1")
    async with running.sender("nats") as sender, running.listening(person, "workspace:w1") as client:
        await sender.send("announcement", TEXT, to=["workspace:w1"], audience=[Role.OWNER])
        frames = await heard(client, sender, "workspace:w1")

    assert frames == []


async def test_session_that_wants_other_types_does_not_hear_a_sent_event(running: Running) -> None:
    person = await running.person("workspace:w1")
    async with running.sender("nats") as sender, open_socket(running.whole.gateways[0].url) as client:
        await client.connect(person.token, ["workspace:w1"], types={"workspace:w1": ["announcement"]})
        await sender.send("workspace.notice", TEXT, to=["workspace:w1"])
        frames = await heard(client, sender, "workspace:w1")

    assert frames == []


async def test_largest_event_reaches_a_hundred_rooms_with_the_longest_names(running: Running, way: str) -> None:
    person = await running.person("workspace:w1")
    inner = [f"workspace:{number:064d}/{'k' * 64}:{'i' * 64}" for number in range(MAX_ROOMS - 1)]
    payload = {"text": "", "x": "x" * 65_200}
    async with running.sender(way) as sender, running.listening(person, "workspace:w1") as client:
        sent = await sender.send("workspace.notice", payload, to=[*inner, "workspace:w1"])
        frame = await next_event(client)

    assert sent.rooms == MAX_ROOMS
    assert frame["event"]["payload"] == payload


REFUSED: list[tuple[str, dict[str, Any], list[str], str]] = [
    ("a stored type", {"type_": "decision"}, ["workspace:w1"], "is stored, so it is published"),
    ("an unknown type", {"type_": "anouncement"}, ["workspace:w1"], "did you mean announcement"),
    ("an unknown version", {"version": 2}, ["workspace:w1"], "in version 1"),
    ("a wrong payload", {"payload": {"text": 1}}, ["workspace:w1"], "payload.text"),
    ("a large payload", {"payload": {"text": "", "x": "x" * 70_000}}, ["workspace:w1"], "at most 65536 bytes"),
    ("no room", {}, [], "at least 1 item"),
    ("too many rooms", {}, [f"workspace:w{n}" for n in range(MAX_ROOMS + 1)], "at most 100 items"),
    ("no room's name", {}, ["workspace"], "is not kind:id"),
    ("a wildcard", {}, ["workspace:*"], "is not kind:id"),
    ("a room without its root", {"type_": "workspace.notice"}, ["team:m1"], "name its root"),
    ("a room that the type has not", {}, ["workspace:w1/team:m1"], "is no room of announcement"),
    ("another kind of root", {}, ["campaign:c1"], "is no room of announcement"),
    ("another root than the payload's", {"payload": {**TEXT, "workspaceId": "w2"}}, ["workspace:w1"], "another"),
    ("a room of members", {"type_": "workspace.notice"}, ["workspace:w1/member:u1"], "may not send"),
    ("a room that the token has not", {}, ["workspace:w1", "workspace:w2"], "may not send to workspace:w2"),
    ("a foreign session", {"type_": "notice"}, ["user:u1/session:s1"], "needs user.u1.session.s1"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "to", "why"), [one[1:] for one in REFUSED], ids=[one[0] for one in REFUSED])
async def test_wrong_send_is_refused_with_a_reason_and_reaches_no_session(
    running: Running, change: dict[str, Any], to: list[str], why: str
) -> None:
    person = await running.person("workspace:w1")
    asked = {"type_": "announcement", "payload": TEXT, **change}
    for way in WAYS:
        async with (
            running.sender(way, "workspace.w1", "workspace.w1.>", "workspace.w1.team.*") as sender,
            running.listening(person, "workspace:w1") as client,
        ):
            with pytest.raises(NotSent, match=why) as refused:
                await sender.send(**asked, to=to)
            frames = await heard(client, sender, "workspace:w1")

        assert not refused.value.is_temporary
        assert frames == []


async def test_only_a_service_token_that_was_not_revoked_may_send(running: Running, way: str) -> None:
    person = await running.person("workspace:w1")
    revoked = await running.token(*PATTERNS, service="gone")
    listed = (await running.whole.auth.operate("GET", "service-tokens")).body["serviceTokens"]
    name = next(one["id"] for one in listed if one["service"] == "gone")
    await running.whole.auth.operate("DELETE", f"service-tokens/{name}")
    reasons = []
    for token in (person.token, "no token", "", revoked):
        async with sending(way, running.server, running.whole.publisher.url, token) as sender:
            with pytest.raises(NotSent) as refused:
                await sender.send("announcement", TEXT, to=["workspace:w1"])
            reasons.append(str(refused.value))

    assert ("use a service token" if way == "http" else "missing, invalid or expired") in reasons[0]
    assert all("missing, invalid or expired" in reason for reason in reasons[1:3])
    assert "revoked" in reasons[3]


async def test_message_that_the_publisher_did_not_send_reaches_no_session(running: Running) -> None:
    """A consumer can have a stored message delivered anywhere. It carries a reply, and gateways drop it."""
    person = await running.person("workspace:w1")
    metadata = '{"timestamp":"2026-11-21T10:00:00Z","source":"x"}'
    event = f'{{"id":"e1","type":"announcement","version":1,"payload":{{"text":"forged"}},"metadata":{metadata}}}'
    forged = SentEvent(("workspace:w1",), event.encode()).encode()
    async with (
        running.sender("http") as sender,
        running.listening(person, "workspace:w1") as client,
        connected(running.server, "publisher") as nc,
    ):
        await nc.publish(broker.SENT, forged, reply="$JS.ACK.EVENTS.x.1.2.3.4.5")
        await nc.publish(broker.SENT, forged, headers={"Nats-Sequence": "1"})
        await nc.publish(broker.SENT, b"not a line of rooms")
        await nc.flush()
        frames = await heard(client, sender, "workspace:w1")

    assert frames == []


async def test_answer_goes_only_to_inboxes(running: Running) -> None:
    """A reply subject could otherwise make the publisher store its answer as an event."""
    async with connected(running.server, "publisher") as nc, running.sender("nats") as sender:
        before = (await broker.stream_state(nc)).last
        await nc.publish(broker.SEND, b"{}", reply="workspace.w1.decision")
        await sender.send("announcement", TEXT, to=["workspace:w1"])  # so the publisher has read the one before
        after = (await broker.stream_state(nc)).last

    assert after == before


async def test_send_while_the_broker_is_away_is_refused_as_temporary(running: Running) -> None:
    token = await running.token(*PATTERNS)
    running.server.freeze()
    try:
        async with asyncio.timeout(30), sending("http", running.server, running.whole.publisher.url, token) as sender:
            with pytest.raises(NotSent) as refused:
                await sender.send("announcement", TEXT, to=["workspace:w1"])
    finally:
        running.server.thaw()

    assert refused.value.is_temporary


async def test_session_joins_the_workspaces_that_auth_knows_automatically(
    stream: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEACONFIRE_AUTOMATIC_ROOMS", '{"beaconfire.v1": ["user:{sub}", "workspace:*"]}')
    async with running_whole(stream, tmp_path) as whole:
        patterns = {"service": "backend", "publish": ["workspace.*.member.*"]}
        backend = (await whole.auth.operate("POST", "service-tokens", patterns)).body["token"]
        running = Running(whole, stream, backend)
        person, stranger = await running.person("workspace:w1", "workspace:w2"), await running.person("workspace:w3")
        acks = []
        for one in (person, stranger):
            async with open_socket(whole.gateways[0].url) as client:
                acks.append(await client.connect(one.token))

    assert sorted(acks[0]["rooms"]) == [f"user:{person.id}", "workspace:w1", "workspace:w2"]
    assert sorted(acks[1]["rooms"]) == [f"user:{stranger.id}", "workspace:w3"]
    assert all(answer["success"] for ack in acks for answer in ack["rooms"].values())


async def test_sends_to_a_root_over_the_limit_are_refused_as_temporary_and_other_roots_are_not(
    stream: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setenv("BEACONFIRE_ROOT_SENDS_PER_MINUTE", "2")
    async with running_whole(stream, tmp_path) as whole:
        await push_notices(stream)
        async with Running(whole, stream, "").sender(way) as sender:
            for _ in range(2):
                await sender.send("announcement", TEXT, to=["workspace:w1"])
            with pytest.raises(NotSent, match="events sent to the rooms of this root") as refused:
                await sender.send("announcement", TEXT, to=["workspace:w2", "workspace:w1"])
            for _ in range(2):
                await sender.send("announcement", TEXT, to=["workspace:w2"])

    assert refused.value.is_temporary
