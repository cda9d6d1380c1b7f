"""The gateway's core as a state machine against a model: live, hole, gap, silence, lag, resume, join, leave, revoke."""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.ring import Ring
from beaconfire_gateway.fanout.route import Routes
from beaconfire_gateway.sessions.gateway import HistoryGone
from beaconfire_gateway.sessions.limits import Limits
from beaconfire_gateway.sessions.session import Session, State
from beaconfire_gateway.sessions.subscription import Subscription
from beaconfire_gateway.stream.sequence import Sequence as Order
from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.resync import ResyncCause
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import Pair
from beaconfire_kit.tokens import Claims
from tests.cursors import cursor_of
from tests.gateway.core import build_core, key
from tests.gateway.lines import Connected, Socket
from tests.gateway.models import Model, unreached

ROOTS = ("campaign:c1", "campaign:c2")
ROOMS = ("campaign:c1", "campaign:c1/settlement:s1", "campaign:c2")
PEOPLE = {"ann": Role.OWNER, "bob": Role.VIEWER}
"""The clients, and their first roles in both roots."""
RING_EVENTS = 3
ROUTES = Routes()


@dataclass
class Message:
    """A message of the stream: an event, a change of a role in a root (None: removed), a revocation, or a tick."""

    entry: Entry | None = None
    changed: tuple[str, str, Role | None] | None = None
    revoked: str | None = None


@dataclass
class Stand:
    """A client's stay in a room. It is owed the events in (after, owed], and may have had those in (since, upto]."""

    room: str
    role: Role
    since: int
    after: int
    owed: int | None = None
    upto: int | None = None


@dataclass
class Person:
    """A client and what the model knows of it."""

    name: str
    socket: Socket = field(default_factory=Socket)
    session: Session | None = None
    read: int = 0
    place: int = 0
    joined_at: int | None = None
    cursor: int | None = None
    applied: list[int] = field(default_factory=list)
    excused: list[tuple[set[str], int, int]] = field(default_factory=list)
    restored: dict[int, list[int]] = field(default_factory=dict)
    """Restored offsets, by the message that asked for them, until it is answered."""
    had: set[int] = field(default_factory=set)
    """All offsets that were ever restored."""
    asked: dict[int, tuple[str, str, int | None]] = field(default_factory=dict)
    """Unanswered messages, by id: join or leave, the room, and the offset of the snapshot."""
    open: dict[str, Stand] = field(default_factory=dict)
    closed: list[Stand] = field(default_factory=list)

    def was_told(self, room: str, offset: int) -> bool:
        """Return whether a `resync` asked the client to load this room again, for an event that it has not had."""
        return any(room in rooms and after < offset <= upto for rooms, after, upto in self.excused)


class Core(Model):
    """See the module. `reached` counts what happened, in all examples."""

    reached: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stream: dict[int, Message] = {}
        self.everything: dict[int, Entry] = {}
        self.first = 1
        self.last = 0
        self.unheard: list[int] = []
        self.roles = {(name, root): role for name, role in PEOPLE.items() for root in ROOTS}
        self.people = {name: Person(name) for name in PEOPLE}
        self.numbers = itertools.count(2)
        self.seconds = 0
        self.page_events = 3
        self.slowness = 0
        self.erased: set[int] = set()
        self.lost_up_to = 0
        self.doubtful: list[Session] = []
        self.revoked: set[Session] = set()
        self.order: Order[Message] = Order(self._deliver, max_held=4)
        self.order.start(0)
        self.core = build_core(
            call_soon=self.loop.call_soon,
            spawn=self._spawn,
            access=self,
            history=self,
            ring_bytes=RING_EVENTS * 400,
            limits=Limits(messages_per_minute=100_000, rooms_per_minute=100_000),
            batch_bytes=300,
            slice_sessions=2,
            steps_per_turn=1,
            epoch="e",
        )
        self.tasks: set[asyncio.Task[None]] = set()

    # The parts around the core.

    async def verify(self, token: str) -> Claims:
        return Claims(token, token, issued_at=0, expires_at=2**40, token_id="t")

    async def decide(self, claims: Claims, rooms: Sequence[str]) -> Mapping[str, Subscription | BeaconfireError]:
        for _ in range(self.slowness):
            await asyncio.sleep(0)
        roles = {name: self.roles.get((claims.user_id, name.partition("/")[0])) for name in rooms}
        return {
            name: BeaconfireError(errors.FORBIDDEN, "no") if role is None else Subscription(key(name), role)
            for name, role in roles.items()
        }

    async def roots(self, claims: Claims, kind: str) -> Sequence[str]:
        return ()

    async def reconsider(self, session: Session, claims: Claims) -> None: ...

    async def page(self, roots: Iterable[Pair], after: int, ring: Ring) -> tuple[Sequence[Entry], int]:
        for _ in range(1 + 4 * self.slowness):
            await asyncio.sleep(0)
        if self.first > after + 1 or after < self.lost_up_to:
            self.reached["history that is gone"] += 1
            raise HistoryGone(ResyncCause.EVENTS_REMOVED)
        self.reached["from the stream"] += 1
        wanted = set(roots)
        entries = [
            message.entry
            for offset, message in sorted(self.stream.items())
            if offset > after and message.entry is not None and message.entry.route.rooms[0].root in wanted
        ]
        most = self.page_events
        through = entries[most - 1].offset if len(entries) > most else self.last
        page = entries[:most]
        if any(ring.heard(root, after, through) - {entry.offset for entry in page} for root in wanted):
            self.reached["history that is gone"] += 1
            raise HistoryGone(
                ResyncCause.EVENTS_ERASED
            )  # as `history.History` does: the gateway heard events that the stream no longer has
        return page, through

    async def end(self) -> int:
        return self.last

    def lose(self, offset: int) -> None:
        """Note the gap, as the history does."""
        self.lost_up_to = offset

    def start(self, epoch: str) -> None: ...
    def forget(self) -> None: ...
    def doubt(self, user_id: str | None = None) -> None:
        """Hold the sessions, as authorization does after a gap, until auth has answered (`answer_doubts`)."""
        for session in self.core.hub.all_sessions():
            session.hold()
            self.doubtful.append(session)

    def _spawn(self, question: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(question)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _deliver(self, offset: int, message: Message) -> None:
        core = self.core
        if message.changed is not None:
            name, root, role = message.changed
            pair = Pair(*root.split(":"))
            for session in core.hub.sessions_of(name):
                if role is None:
                    session.leave_root(pair, "membership_removed")
                else:
                    session.change_role(pair, role)
        if message.revoked is not None:
            for session in core.hub.sessions_of(message.revoked):
                self.reached["revoke"] += 1
                session.close(BeaconfireError(errors.TOKEN_INVALID, "revoked"))
        self._look()
        if message.entry is not None:
            core.ring.append(message.entry)
            if core.hub.is_heard(message.entry.route.subject, message.entry.route.rooms):
                core.outbound.put(offset, message.entry)
        core.position = offset
        core.outbound.delivered(offset)
        core.waiters.reached(offset)
        self._look()

    def _store(self, message: Message) -> None:
        self.stream[self.last] = message
        self.unheard.append(self.last)

    def _turn(self) -> None:
        self.loop.run_until_complete(asyncio.sleep(0))
        self._look()

    # Steps.

    @initialize(rooms=st.sets(st.sampled_from(ROOMS)), page=st.sampled_from([3, 50]), slowness=st.sampled_from([0, 2]))
    def come(self, rooms: set[str], page: int, slowness: int = 0) -> None:
        """Connect all clients at the start of most examples, so that the next steps have sessions to act on."""
        self.page_events = page
        self.slowness = slowness
        if rooms:
            for name in sorted(PEOPLE):
                self.connect_or_cut(name, rooms, resumes=True, turns=8)

    @rule(room=st.sampled_from(ROOMS), secret=st.booleans(), count=st.sampled_from([1, 1, 4]), heard=st.booleans())
    def publish(self, room: str, secret: bool, count: int, heard: bool) -> None:
        """Publish an event once or a few times in a row. The live path may bring it at once."""
        for _ in range(count):
            self._publish(room, secret)
        self._bring(heard)

    def _bring(self, heard: bool) -> None:
        while heard and self.unheard:
            self.hear()

    def _publish(self, room: str, secret: bool) -> None:
        root, _, pair = room.partition("/")
        subject = ".".join([root, pair] if pair else [root, "state"]).replace(":", ".")
        self.last += 1
        route = ROUTES[subject]
        audience = frozenset({Role.OWNER}) if secret else None
        entry = self.everything[self.last] = Entry(self.last, route, b"{}", 0.0, type="t", audience=audience)
        self._store(Message(entry))

    @rule()
    def tick(self) -> None:
        self.last += 1
        self._store(Message())

    @precondition(lambda self: self.unheard)
    @rule()
    def hear(self) -> None:
        offset = self.unheard.pop(0)
        if offset in self.stream:
            self.reached["live" if self.order.hear(offset, self.stream[offset]) else "hole"] += 1
        self._look()

    @precondition(lambda self: len(self.unheard) > 1)
    @rule()
    def hear_late(self) -> None:
        """Move a message of the live path behind the one that follows it."""
        self.unheard[:2] = reversed(self.unheard[:2])

    @precondition(lambda self: self.unheard)
    @rule()
    def lose_live(self) -> None:
        self.unheard.pop(0)

    @rule()
    def repair(self) -> None:
        """Read the hole, if one is known."""
        upto = self.order.hole
        if upto is None:
            return
        lost = max({offset for offset in self.erased if self.core.position < offset <= upto}, default=0)
        if lost:
            self.reached["gap"] += 1
            self.core.lose(lost)
            self._look()
            self.order.skip(lost)
            self._look()
        for offset in range(self.core.position + 1, upto + 1):
            if offset in self.stream:
                self.order.skip(offset - 1)
                self.order.fill(offset, self.stream[offset])
                self._look()
        self.order.skip(upto)

    @rule()
    def probe(self) -> None:
        """Ask the stream where its end is, as the gateway does in silence."""
        self.reached["silence"] += self.order.hole is None and self.last > self.core.position
        self.order.expect(self.last)
        self.repair()

    @precondition(lambda self: self.last - self.first > 8)
    @rule()
    def expire(self) -> None:
        """Remove the oldest messages, as retention does, except those that the gateway has yet to read."""
        self.first = min(self.first + 4, self.core.position + 1)
        self.stream = {offset: message for offset, message in self.stream.items() if offset >= self.first}

    @precondition(lambda self: self.last > self.core.position)
    @rule(count=st.sampled_from([1, 4]), erased=st.booleans())
    def lose_unheard(self, count: int, erased: bool) -> None:
        """Remove messages that the gateway has yet to hear, as retention or an operator does. Some change
        memberships."""
        first = self.core.position + 1
        gone = {offset for offset in self.stream if first <= offset < first + count}
        self.unheard = [offset for offset in self.unheard if offset not in gone]
        if not erased:
            self.first = max(self.first, min(first + count, self.last + 1))
            gone |= {offset for offset in self.stream if offset < self.first}
        self.erased |= gone
        self.stream = {offset: message for offset, message in self.stream.items() if offset not in gone}

    @precondition(lambda self: self.doubtful)
    @rule()
    def answer_doubts(self) -> None:
        """Answer, as auth does, what the sessions held since a gap may hear (`Authorization.confirm`)."""
        doubtful, self.doubtful = self.doubtful, []
        for session in doubtful:
            for name in list(session.rooms):
                root = name.partition("/")[0]
                role = self.roles.get((session.user_id, root))
                if role is None:
                    session.leave_room(name, "membership_removed")
                else:
                    session.change_role(Pair(*root.split(":")), role)
            if session in self.revoked:
                session.close(BeaconfireError(errors.TOKEN_INVALID, "revoked"))
            self.reached["confirmed"] += session.state is not State.CLOSED
            session.release()
            self._look()

    @rule(turns=st.sampled_from([1, 4]))
    def turn(self, turns: int) -> None:
        for _ in range(turns):
            self._turn()

    @rule(
        name=st.sampled_from(sorted(PEOPLE)),
        rooms=st.sets(st.sampled_from(ROOMS), min_size=1),
        resumes=st.sampled_from([True, True, False]),
        turns=st.sampled_from([0, 8]),
    )
    def connect_or_cut(self, name: str, rooms: set[str], resumes: bool, turns: int) -> None:
        """Connect a client, or end its connection. A client whose connection ends keeps what was written to it."""
        person = self.people[name]
        if person.session is not None:
            person.socket.is_open = False
            person.session.lost()
            self._look()
            return
        person.socket, person.read = Socket(), 0
        session = person.session = Connected(self.core, person.socket)
        if not resumes:
            person.cursor = None
        hello = {"type": "connect", "id": 1, "token": name, "rooms": sorted(rooms)}
        if person.cursor is not None:
            hello["cursor"] = f"e:{person.cursor}"
        session.receive(json.dumps(hello).encode())
        self._look()
        for _ in range(turns):
            self._turn()

    @precondition(lambda self: any(person.session for person in self.people.values()))
    @rule(room=st.sampled_from(ROOMS), for_long=st.booleans())
    def be_away(self, room: str, for_long: bool) -> None:
        """Disconnect a client. It returns behind the ring, or behind the messages that the stream still has."""
        person = next(person for person in self.people.values() if person.session)
        self.connect_or_cut(person.name, set(), resumes=True, turns=0)
        for _ in range(3):
            self.publish(room, secret=False, count=4, heard=True)
        self.probe()
        if for_long:
            self.expire()
        self.publish(room, secret=False, count=1, heard=False)
        if person.session is None:
            self.connect_or_cut(person.name, {room}, resumes=True, turns=8)

    @rule(
        name=st.sampled_from(sorted(PEOPLE)),
        room=st.sampled_from(ROOMS),
        joins=st.booleans(),
        behind=st.sampled_from([None, 0, 2, 10, -5]),
    )
    def ask(self, name: str, room: str, joins: bool, behind: int | None) -> None:
        """Join a room or leave it. A client joins from now on, or from a snapshot `behind` the end of the stream. A
        negative number is ahead of the end."""
        person = self.people[name]
        session = person.session
        if session is not None:
            number, kind = next(self.numbers), "subscribe" if joins else "unsubscribe"
            message: dict[str, Any] = {"type": kind, "id": number, "rooms": [room]}
            since = max(0, self.last - behind) if joins and behind is not None else None
            if since is not None:
                message["cursor"] = f"e:{since}"
            person.asked[number] = "join" if joins else "leave", room, since
            session.receive(json.dumps(message).encode())
            self._look()

    @rule(
        name=st.sampled_from(sorted(PEOPLE)),
        room=st.sampled_from(ROOMS),
        other=st.sampled_from(ROOMS),
        behind=st.sampled_from([None, 2, 10, -5]),
        turns=st.sampled_from([0, 1, 3]),
    )
    def lag_behind_a_question(self, name: str, room: str, other: str, behind: int | None, turns: int) -> None:
        """Fill a socket between a question and its answer. An event is published before each of the two."""
        self.ask(name, room, joins=True, behind=behind)
        self.turn(turns)
        self.publish(room, secret=False, count=1, heard=True)
        self.fill_up_or_drain(name)
        self.publish(other, secret=False, count=1, heard=True)
        self.turn(1)

    @rule()
    def heartbeat(self) -> None:
        """Let half a heartbeat go by. Connected sessions are pinged or were heard, and are sent their position."""
        for session in list(self.core.hub.all_sessions()):
            session.heard()
        self.seconds += 13
        self.core.timers.turn(self.seconds)
        self._look()

    @rule(name=st.sampled_from(sorted(PEOPLE)), room=st.sampled_from(ROOMS))
    def hiccup(self, name: str, room: str) -> None:
        """Fill a socket for less than a turn of the loop, while events are published."""
        self.publish(room, secret=False, count=1, heard=True)
        self.fill_up_or_drain(name)
        self.publish(room, secret=False, count=1, heard=True)
        self.fill_up_or_drain(name)

    @rule(name=st.sampled_from(sorted(PEOPLE)))
    def fill_up_or_drain(self, name: str) -> None:
        person = self.people[name]
        if person.session is not None and not person.socket.paused:
            person.socket.paused = True
            was_live = person.session.state is State.LIVE
            person.session.full()
            self.reached["lag"] += was_live and person.session.state is State.CATCHING_UP
            self._look()
        else:
            self._drain(person)

    @rule(
        name=st.sampled_from(sorted(PEOPLE)),
        root=st.sampled_from(ROOTS),
        role=st.sampled_from([None, Role.OWNER, Role.VIEWER]),
        heard=st.booleans(),
    )
    def change(self, name: str, root: str, role: Role | None, heard: bool) -> None:
        """Add a member, remove one, or change a role, as auth does. A new question is answered with the change at once.
        Connected sessions get it at its place in the stream."""
        if self.roles.get((name, root)) is not role:
            self.roles.pop((name, root), None)
            if role is not None:
                self.roles[name, root] = role
            self.last += 1
            self._store(Message(changed=(name, root, role)))
            self._bring(heard)

    @precondition(lambda self: self.last > 8)
    @rule(name=st.sampled_from(sorted(PEOPLE)))
    def revoke(self, name: str) -> None:
        """Sign a user out everywhere. The sessions end at the place of the revocation in the stream."""
        self.last += 1
        self.revoked.update(self.core.hub.sessions_of(name))
        self._store(Message(revoked=name))

    def _drain(self, person: Person) -> None:
        if person.session is not None and person.socket.paused:
            person.socket.paused = False
            person.session.drained()
            self._look()

    # Invariants.

    def _look(self) -> None:
        """Take the frames that were written, and note the place of each session in its rooms."""
        for person in self.people.values():
            self._take(person)
            session = person.session
            if session is None or session.state is State.CONNECTING:
                continue
            if session.state is State.CLOSED:
                self._gone(person)
                continue
            position = self.core.position
            place = session.offset if session.state is State.CATCHING_UP else position
            for room, stand in list(person.open.items()):
                if room not in session.rooms or session.rooms[room].role is not stand.role:
                    stand.upto, stand.owed = position, place
                    person.closed.append(person.open.pop(room))
            for room in session.rooms:
                if room not in person.open:
                    # A session that joins while it catches up joins at its own place.
                    after = place if person.joined_at is None else person.joined_at
                    person.open[room] = Stand(room, session.rooms[room].role, min(person.place, after), after)
            person.place, person.joined_at = place, None

    def _gone(self, person: Person) -> None:
        """End a client's session. The client has what was written, and is owed no more than its cursor says."""
        person.session = None
        for stand in person.open.values():
            stand.upto = self.core.position
        person.closed += person.open.values()
        person.open = {}
        for _, room, since in person.asked.values():
            if since is not None:  # PROTOCOL.md §5: it asks again from there
                person.excused.append(({room}, since, self.last))
        person.asked.clear()
        person.restored.clear()
        for stand in person.closed:
            stand.owed = (person.cursor or 0) if stand.owed is None else min(stand.owed, person.cursor or 0)

    def _take(self, person: Person) -> None:
        while person.read < len(person.socket.frames):
            frame = person.socket.frames[person.read]
            person.read += 1
            cursor = person.cursor or 0
            if frame["type"] == "connection.ack":
                if person.cursor is None:  # else it has what it missed since, or a word that it has not
                    person.cursor = cursor_of(frame["cursor"]).offset
                person.joined_at = person.cursor
                assert person.session is not None
                self.reached["resume"] += person.session.state is State.CATCHING_UP
            elif frame["type"] == "event":
                assert frame["offset"] > cursor, f"{person.name}: {frame['offset']} after {cursor}"
                overtaken = [person.asked[number][1] for number in person.restored]
                rooms = self.everything[frame["offset"]].route.rooms
                assert rooms not in [(key(room),) for room in overtaken], f"{frame['offset']} overtakes"
                person.applied.append(frame["offset"])
                person.cursor = frame["offset"]
            elif frame["type"] == "position":
                person.cursor = max(cursor, cursor_of(frame["cursor"]).offset)
            elif frame["type"] == "resync":
                to = cursor_of(frame["cursor"]).offset
                person.excused.append((set(frame["rooms"]), cursor, to))
                person.cursor = to
            elif frame["type"] == "restored":
                person.restored.setdefault(frame["id"], []).extend(one["offset"] for one in frame["events"])
            elif frame["type"] == "reply":
                self._take_reply(person, frame)
            elif frame["type"] in ("room.left", "role.changed"):
                self.reached[frame["type"]] += 1

    def _take_reply(self, person: Person, frame: dict[str, Any]) -> None:
        """Take a reply to a join or leave. It says where the room begins. Restored events end there, and are all events
        since the snapshot."""
        kind, room, since = person.asked.pop(frame["id"])
        restored, (answer,) = person.restored.pop(frame["id"], []), frame["rooms"].values()
        person.had.update(restored)
        self.reached[kind if answer["success"] else "refusal"] += 1
        if since is not None and not answer.get("recovered"):
            person.excused.append(({room}, since, self.last))  # left when that was asked, and not restored
        if kind == "leave" or not answer["success"]:
            return
        place = cursor_of(frame["cursor"]).offset
        person.cursor = max(person.cursor or 0, place)
        assert restored == sorted(set(restored))
        if since is not None and answer["recovered"]:
            here = {
                offset: entry
                for offset, entry in self.everything.items()
                if since < offset <= place and key(room) in entry.route.rooms
            }
            assert set(restored) <= set(here), f"{person.name} was restored {restored}, of {sorted(here)}"
            missing = {offset for offset, entry in here.items() if entry.audience is None} - set(restored)
            assert not missing, f"{person.name} was restored {restored}, without {sorted(missing)}"
            self.reached["restored"] += bool(restored)

    def teardown(self) -> None:
        try:
            self._settle()
            for person in self.people.values():
                self._judge(person)
        finally:
            for task in self.tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.sleep(0))
            self.loop.close()

    def _settle(self) -> None:
        """Repair everything: sockets drain, holes are read, and the loop turns until nothing is left to do."""
        for person in self.people.values():
            self._drain(person)
        self.probe()
        self.answer_doubts()
        for _ in range(200):
            self._turn()
        for person in self.people.values():
            assert person.session is None or person.session.state is State.LIVE, f"{person.name} never got level"

    def _judge(self, person: Person) -> None:
        position = self.core.position
        allowed: set[int] = set()
        owed: set[int] = set()
        told: set[int] = set()
        for stand in [*person.closed, *person.open.values()]:
            for offset, entry in self.everything.items():
                if key(stand.room) in entry.route.rooms and (entry.audience is None or stand.role in entry.audience):
                    if stand.since < offset <= (position if stand.upto is None else stand.upto):
                        allowed.add(offset)
                    if stand.after < offset <= (position if stand.owed is None else stand.owed):
                        owed.add(offset)
                        told.update({offset} if person.was_told(stand.room, offset) else ())
        assert person.applied == sorted(set(person.applied))
        stood = [*person.closed, *person.open.values()]
        assert set(person.applied) <= allowed, f"{person.name} heard {sorted(set(person.applied) - allowed)}: {stood}"
        lost = owed - told - set(person.applied) - person.had
        assert not lost, f"{person.name} lost {sorted(lost)}"


EVERYTHING = {
    *("live", "hole", "silence", "lag", "resume", "from the stream", "history that is gone"),
    *("join", "leave", "restored", "revoke", "room.left", "role.changed", "gap", "confirmed"),
}


def test_session_behind_gets_resync_for_one_room_without_passing_events_of_others() -> None:
    core = Core()
    try:
        core.come({"campaign:c1"}, page=3)
        core.ask("ann", "campaign:c2", joins=True, behind=-5)
        core.fill_up_or_drain("ann")
        core.publish("campaign:c1", secret=False, count=2, heard=True)
        core.turn(4)
    finally:
        core.teardown()

    assert core.people["ann"].applied == [1, 2]
    assert [rooms for rooms, _, _ in core.people["ann"].excused] == [{"campaign:c2"}] * 2


def test_room_joined_while_a_page_of_the_stream_is_read_misses_nothing() -> None:
    core = Core()
    try:
        core.come({"campaign:c1"}, page=50, slowness=3)
        core.ask("ann", "campaign:c2", joins=True, behind=None)
        core.fill_up_or_drain("ann")
        core.publish("campaign:c2", secret=False, count=1, heard=True)
        core.publish("campaign:c1", secret=False, count=4, heard=True)
        core.fill_up_or_drain("ann")
        core.turn(4)
    finally:
        core.teardown()

    assert core.people["ann"].applied == [1, 2, 3, 4, 5]


def test_events_read_for_a_session_before_it_was_held_come_later_once_and_in_order() -> None:
    core = Core()
    try:
        core.come({"campaign:c1"}, page=50, slowness=0)
        core.connect_or_cut("ann", set(), resumes=True, turns=0)
        core.publish("campaign:c1", secret=False, count=12, heard=True)
        core.connect_or_cut("ann", {"campaign:c1"}, resumes=True, turns=0)
        ann = core.people["ann"]
        while ann.session is None or ann.session.behind is None or not ann.session.behind._fetching:
            core.turn(1)
        ann.session.hold()
        core.turn(4)
        held = list(ann.applied)
        ann.session.release()
    finally:
        core.teardown()

    assert held == []
    assert ann.applied == list(range(1, 13))


def test_every_client_applies_exactly_what_it_is_owed_in_any_course() -> None:
    """Every client applies its events once and in order, and the examples contain every fault."""
    assert unreached(Core, EVERYTHING, max_examples=120, steps=60) == set()
