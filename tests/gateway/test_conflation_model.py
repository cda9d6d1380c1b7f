"""Conflation as a state machine against a model: two gateways hold events back, and clients move between them."""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.ring import Ring
from beaconfire_gateway.fanout.route import Routes
from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.limits import Limits
from beaconfire_gateway.sessions.session import Session, State
from beaconfire_gateway.sessions.subscription import Subscription
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import Pair
from beaconfire_kit.tokens import Claims
from tests.cursors import cursor_of
from tests.gateway.catalogues import catalogue_with, couriers
from tests.gateway.core import build_core, key
from tests.gateway.lines import Connected, Socket
from tests.gateway.models import Model, unreached

ROOT = Pair("campaign", "c1")
ROOMS = ("campaign:c1", "campaign:c1/courier:k1", "campaign:c1/courier:k2")
PEOPLE = {"ann": Role.OWNER, "bob": Role.VIEWER}
RING_EVENTS = 6
HELD_BEHIND = 8
ROUTES = Routes()
CATALOGUE = catalogue_with(couriers())
GATEWAYS = (0, 1)
EVERYTHING = {
    "conflated",
    "late",
    "leading",
    "many offsets",
    "lag",
    "resume elsewhere",
    "resume at the position",
    "lacking",
    "from the stream",
    "restored",
    "leave",
    "remove",
    "unheard",
}


@dataclass(frozen=True)
class Published:
    """An event of the stream: its type, the courier, the newest value, and whether only owners may see it."""

    offset: int
    moved: bool
    courier: str
    secret: bool

    def entry(self) -> Entry:
        """An entry for one gateway."""
        type_ = "courier.moved" if self.moved else "courier.called"
        payload = {"courierId": self.courier, "step": self.offset}
        body = json.dumps({"id": f"e{self.offset}", "type": type_, "payload": payload}).encode()
        audience = frozenset({Role.OWNER}) if self.secret else None
        route = ROUTES[f"campaign.c1.courier.{self.courier}"]
        return Entry(self.offset, route, body, 0.0, epoch="e", type=type_, audience=audience)

    def is_for(self, role: Role, rooms: Iterable[str]) -> bool:
        """Whether a client with this role hears it in any of these rooms."""
        return not (self.secret and role is not Role.OWNER) and not {
            ROOMS[0],
            f"{ROOMS[0]}/courier:{self.courier}",
        }.isdisjoint(rooms)


@dataclass
class Person:
    """A client: what it has applied, and since when it has been in each room."""

    name: str
    role: Role
    socket: Socket = field(default_factory=Socket)
    session: Session | None = None
    at: int = 0
    read: int = 0
    cursor: int | None = None
    rooms: dict[str, int] = field(default_factory=dict)
    """Its rooms, each with the offset after which it misses nothing."""
    asked: dict[int, tuple[str, str, int | None]] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)
    """The offsets of events that it applied, in all of its sessions."""
    values: dict[str, int] = field(default_factory=dict)
    """The newest step of each courier."""
    offsets: list[int] = field(default_factory=list)
    """Of the events in this session."""


class Conflating(Model):
    """See the module. `reached` counts what happened, in all examples."""

    reached: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stream: list[Published] = []
        self.timers: list[list[Callable[[], None]]] = [[] for _ in GATEWAYS]
        self.people = {name: Person(name, role) for name, role in PEOPLE.items()}
        self.numbers = itertools.count(2)
        self.page_events = 3
        self.tasks: set[asyncio.Task[None]] = set()
        self.cores = [self._build(number) for number in GATEWAYS]

    def _build(self, number: int) -> Gateway:
        core = build_core(
            call_soon=self.loop.call_soon,
            call_later=lambda _seconds, callback: self.timers[number].append(callback),
            spawn=self._spawn,
            access=self,
            history=self,
            ring_bytes=RING_EVENTS * 600,
            limits=Limits(messages_per_minute=100_000, rooms_per_minute=100_000),
            batch_bytes=900,
            slice_sessions=2,
            steps_per_turn=1,
            held_behind=HELD_BEHIND,
            epoch="e",
        )
        core.conflation.use(CATALOGUE, ())
        return core

    # The parts around the gateways.

    async def verify(self, token: str) -> Claims:
        return Claims(token, token, issued_at=0, expires_at=2**40, token_id="t")

    async def decide(self, claims: Claims, rooms: Sequence[str]) -> Mapping[str, Subscription | BeaconfireError]:
        return {name: Subscription(key(name), PEOPLE[claims.user_id]) for name in rooms}

    async def roots(self, claims: Claims, kind: str) -> Sequence[str]:
        return ()

    async def reconsider(self, session: Session, claims: Claims) -> None: ...

    async def page(self, _roots: Iterable[Pair], after: int, _ring: Ring) -> tuple[Sequence[Entry], int]:
        await asyncio.sleep(0)
        self.reached["from the stream"] += 1
        page = [one.entry() for one in self.stream[after : after + self.page_events]]
        return page, page[-1].offset if page else len(self.stream)

    async def end(self) -> int:
        return len(self.stream)

    def start(self, epoch: str) -> None: ...
    def lose(self, offset: int) -> None: ...
    def forget(self) -> None: ...
    def doubt(self, user_id: str | None = None) -> None: ...

    def _spawn(self, question: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(question)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _turn(self, turns: int = 1) -> None:
        for _ in range(turns):
            self.loop.run_until_complete(asyncio.sleep(0))
            self._look()

    # Steps.

    @initialize(rooms=st.sets(st.sampled_from(ROOMS)))
    def come(self, rooms: set[str]) -> None:
        """Connect all clients at the start of most examples, so that the next steps have sessions to act on."""
        if rooms:
            for name in sorted(PEOPLE):
                self.connect(name, 0, rooms, fresh=True, forgets=False, settle=True)

    @rule(
        courier=st.sampled_from(["k1", "k1", "k2"]),
        moved=st.sampled_from([True, True, True, False]),
        secret=st.sampled_from([False, False, True]),
        count=st.sampled_from([1, 2, 12]),
        hear=st.booleans(),
    )
    def publish(self, courier: str, moved: bool, secret: bool, count: int, hear: bool) -> None:
        for _ in range(count):
            self.stream.append(Published(len(self.stream) + 1, moved, courier, secret))
        if hear:
            for number in GATEWAYS:
                self.hear(number, count)

    @rule(number=st.sampled_from(GATEWAYS), count=st.sampled_from([1, 3, 40]))
    def hear(self, number: int, count: int) -> None:
        """A gateway hears the next events of the stream, as `Delivery` does."""
        core = self.cores[number]
        for published in self.stream[core.position : core.position + count]:
            entry = published.entry()
            if core.hub.is_heard(entry.route.subject, entry.route.rooms):
                held = len(list(core.conflation.held()))
                core.conflation.put(published.offset, entry)
                self.reached["conflated"] += published.moved and held > 0
                self.reached["leading"] += published.moved and not held
            else:
                self.reached["unheard"] += 1
            core.ring.append(entry)
            before = len(list(core.conflation.held()))
            core.reach(published.offset)
            self.reached["many offsets"] += before > len(list(core.conflation.held()))
            self._look()

    @rule(number=st.sampled_from(GATEWAYS))
    def end_windows(self, number: int) -> None:
        timers, self.timers[number] = self.timers[number], []
        for callback in timers:
            callback()
        self._look()

    @rule(turns=st.sampled_from([1, 5]))
    def turn(self, turns: int) -> None:
        self._turn(turns)

    @rule(
        name=st.sampled_from(sorted(PEOPLE)),
        number=st.sampled_from(GATEWAYS),
        rooms=st.sets(st.sampled_from(ROOMS), min_size=1),
        fresh=st.sampled_from([False, False, False, True]),
        forgets=st.booleans(),
        settle=st.booleans(),
    )
    def connect(self, name: str, number: int, rooms: set[str], fresh: bool, forgets: bool, settle: bool) -> None:
        """Connect a client to a gateway. If it was there before, it resumes; it may name one of its rooms later."""
        person = self.people[name]
        self.cut(name)
        if fresh or person.cursor is None or not person.rooms:
            person.cursor, person.rooms, person.values, person.seen = None, {}, {}, set()
            joined, later = sorted(rooms), None
        else:
            joined = sorted(person.rooms)
            later = joined.pop() if forgets and len(joined) > 1 else None
            self.reached["resume elsewhere"] += person.at != number
            self.reached["resume at the position"] += person.cursor == self.cores[number].position
        person.socket, person.read, person.at, person.offsets, person.asked = Socket(), 0, number, [], {}
        person.session = session = Connected(self.cores[number], person.socket)
        cursor = person.cursor
        hello = {"type": "connect", "id": 1, "token": name, "rooms": joined}
        if cursor is not None:
            hello["cursor"] = f"e:{cursor}"
            person.rooms = {room: since for room, since in person.rooms.items() if room != later}
        person.asked[1] = "connect", ",".join(joined), None
        session.receive(json.dumps(hello).encode())
        if later is not None:
            self._ask(person, "subscribe", later, cursor)
        if settle:
            self._until_level(person)
            if session.state is State.LIVE and cursor is not None:
                self._check_complete(person, cursor)
                self._check_newest(person)

    def _until_level(self, person: Person) -> None:
        core = self.cores[person.at]
        while core.position < (person.cursor or 0):
            self.hear(person.at, 1)
        self._turn(60)

    def _check_complete(self, person: Person, cursor: int) -> None:
        """A session that has resumed has been sent every event after its cursor, whatever is conflated."""
        for one in self.stream[cursor : self.cores[person.at].position]:
            owed = {room for room, since in person.rooms.items() if since < one.offset}
            assert not one.is_for(person.role, owed) or one.offset in person.seen, (one, person)

    @rule(name=st.sampled_from(sorted(PEOPLE)))
    def cut(self, name: str) -> None:
        person = self.people[name]
        if person.session is not None and person.session.state is not State.CLOSED:
            person.socket.is_open = False
            person.session.lost()
            self._look()
        person.session = None

    @precondition(lambda self: any(one.session for one in self.people.values()))
    @rule(name=st.sampled_from(sorted(PEOPLE)), room=st.sampled_from(ROOMS), joins=st.booleans())
    def ask(self, name: str, room: str, joins: bool) -> None:
        """Join a room from now on, or leave it."""
        person = self.people[name]
        if person.session is not None and person.session.state is not State.CONNECTING:
            self._ask(person, "subscribe" if joins else "unsubscribe", room, None)
            self.reached["leave"] += not joins and bool(list(self.cores[person.at].conflation.held()))

    def _ask(self, person: Person, kind: str, room: str, cursor: int | None) -> None:
        number = next(self.numbers)
        message: dict[str, Any] = {"type": kind, "id": number, "rooms": [room]}
        if cursor is not None:
            message["cursor"] = f"e:{cursor}"
        person.asked[number] = kind, room, cursor
        assert person.session is not None
        person.session.receive(json.dumps(message).encode())
        self._look()

    @rule(name=st.sampled_from(sorted(PEOPLE)))
    def remove(self, name: str) -> None:
        """A membership ends, and begins again at once: the client is out of its rooms."""
        session = self.people[name].session
        if session is not None and session.state in (State.LIVE, State.CATCHING_UP):
            self.reached["remove"] += bool(list(self.cores[self.people[name].at].conflation.held()))
            session.leave_root(ROOT, "membership_removed")
            self._look()

    @rule(name=st.sampled_from(sorted(PEOPLE)), count=st.sampled_from([0, 1, 12]))
    def lag(self, name: str, count: int) -> None:
        """Fill a socket for a while, or drain it."""
        person = self.people[name]
        if person.session is None or person.session.state is State.CONNECTING:
            return
        if person.socket.paused:
            person.socket.paused = False
            person.session.drained()
        else:
            person.socket.paused = True
            self.reached["lag"] += person.session.state is State.LIVE and bool(
                list(self.cores[person.at].conflation.held())
            )
            person.session.full()
            for _ in range(count):
                self.publish("k1", moved=True, secret=False, count=1, hear=True)
        self._look()

    @rule(
        name=st.sampled_from(sorted(PEOPLE)),
        number=st.sampled_from(GATEWAYS),
        forgets=st.booleans(),
        alone=st.booleans(),
        unheard=st.sampled_from([0, 0, 1, 3]),
    )
    def move_while_held(self, name: str, number: int, forgets: bool, alone: bool, unheard: int) -> None:
        """Cut a client that has a later offset than an event that is held, and connect it again."""
        self.publish("k1", moved=True, secret=False, count=2, hear=True)
        self.publish("k2", moved=False, secret=False, count=1, hear=True)
        self._turn(3)
        for other in sorted(PEOPLE) if alone else [name]:
            self.cut(other)
        if unheard:
            self.publish("k1", moved=True, secret=False, count=unheard, hear=True)
        self.connect(name, number, set(ROOMS), fresh=False, forgets=forgets, settle=True)

    @rule(name=st.sampled_from(sorted(PEOPLE)), ends=st.booleans(), secret=st.booleans())
    def lag_while_held(self, name: str, ends: bool, secret: bool) -> None:
        """Fill a socket while an event is held for it, and drain it, perhaps after the window."""
        self.publish("k1", moved=True, secret=secret, count=2, hear=True)
        self.lag(name, 0)
        if ends:
            for number in GATEWAYS:
                self.end_windows(number)
        self._turn(3)
        self.lag(name, 0)

    @rule()
    def wait(self) -> None:
        """Let everything be written that is queued."""
        self._turn(40)
        for person in self.people.values():
            if person.session is not None and person.session.state is State.LIVE and not person.socket.paused:
                self._check_newest(person)

    @rule(courier=st.sampled_from(["k1", "k2"]), secret=st.booleans())
    def publish_for_some(self, courier: str, secret: bool) -> None:
        """Publish events of one key that not everybody may see."""
        self.publish(courier, moved=True, secret=False, count=1, hear=True)
        self.publish(courier, moved=True, secret=secret, count=1, hear=True)
        self.publish(courier, moved=True, secret=not secret, count=1, hear=True)

    # What clients see.

    def _look(self) -> None:
        for person in self.people.values():
            for frame in person.socket.frames[person.read :]:
                person.read += 1
                self._take(person, frame)

    def _take(self, person: Person, frame: Mapping[str, Any]) -> None:
        kind = frame["type"]
        if kind == "event":
            self._take_event(person, frame)
        elif kind == "connection.ack":
            offset = cursor_of(frame["cursor"]).offset
            _, rooms, _ = person.asked.pop(1)
            if person.cursor is None:
                person.cursor, person.rooms = offset, dict.fromkeys(rooms.split(","), offset)
        elif kind == "position":
            person.cursor = max(person.cursor or 0, cursor_of(frame["cursor"]).offset)
        elif kind == "restored":
            for event in frame["events"]:
                self.reached["restored"] += "offset" not in event
                self._apply(person, event)
        elif kind == "reply":
            self._take_reply(person, frame)
        elif kind == "room.left":
            person.rooms.pop(frame["room"], None)
        else:
            raise AssertionError(frame)

    def _take_reply(self, person: Person, frame: Mapping[str, Any]) -> None:
        kind, room, since = person.asked.pop(frame["id"])
        assert frame["success"], frame
        if kind == "unsubscribe":
            person.rooms.pop(room, None)
            return
        now = cursor_of(frame["cursor"]).offset
        person.cursor = max(person.cursor or 0, now)
        # A room that it is in already is left and joined again, without a gap.
        person.rooms.setdefault(room, now if since is None else since)

    def _take_event(self, person: Person, frame: Mapping[str, Any]) -> None:
        published = self.stream[frame["event"]["payload"]["step"] - 1]
        # A subscription may have been answered, and its answer be on its way.
        coming = {
            room for kind, rooms, _ in person.asked.values() if kind != "unsubscribe" for room in rooms.split(",")
        }
        assert published.is_for(person.role, person.rooms.keys() | coming), (frame, person)
        if "offset" in frame:
            assert frame["offset"] not in person.offsets, frame
            assert person.offsets == sorted(person.offsets)
            person.offsets.append(frame["offset"])
            if frame["offset"] <= (person.cursor or 0):
                return
            person.cursor = frame["offset"]
        else:
            assert published.moved
            self.reached["late"] += 1
            self.reached["lacking"] += person.session is not None and person.session.state is State.CATCHING_UP
            assert cursor_of(frame["cursor"]).offset >= published.offset
            person.cursor = max(person.cursor or 0, cursor_of(frame["cursor"]).offset)
        self._apply(person, frame)

    def _apply(self, person: Person, frame: Mapping[str, Any]) -> None:
        payload = frame["event"]["payload"]
        person.seen.add(payload["step"])
        if frame["event"]["type"] == "courier.moved":
            person.values[payload["courierId"]] = payload["step"]

    def teardown(self) -> None:
        """Let everything arrive: each client then knows the newest value of each courier, and every other event."""
        for number in GATEWAYS:
            self.hear(number, len(self.stream))
        for person in self.people.values():
            if person.socket.paused and person.session is not None:
                person.socket.paused = False
                person.session.drained()
        self._turn(100)
        while any(self.timers):
            for number in GATEWAYS:
                self.end_windows(number)
            self._turn(10)
        self._turn(100)
        for person in self.people.values():
            if person.session is not None:
                assert person.session.state is State.LIVE
                self._check_newest(person)
        self.loop.close()

    def _check_newest(self, person: Person) -> None:
        """A live session that was written everything knows the newest value of each courier, except what is held."""
        core, newest = self.cores[person.at], dict[str, int]()
        for one in self.stream[: core.position]:
            owed = {room for room, since in person.rooms.items() if since < one.offset}
            if one.is_for(person.role, owed):
                if one.moved:
                    newest[one.courier] = one.offset
                else:
                    assert one.offset in person.seen, (one, person)
        held = {entry.offset for entry in core.conflation.held()}
        for courier, offset in newest.items():
            assert person.values.get(courier) == offset or offset in held, (courier, offset, person)


def test_each_client_ends_up_with_the_newest_value_of_each_key_and_every_other_event() -> None:
    """Also if it resumes elsewhere, reads slowly, leaves rooms or is removed. No offset comes twice in a session."""
    assert not unreached(Conflating, EVERYTHING, max_examples=40, steps=25)
