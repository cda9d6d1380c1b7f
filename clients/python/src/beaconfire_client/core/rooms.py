"""The rooms that consumers want, and what the gateway knows of them. Consumers of one room share it on the wire.

    absent ──asked──▶ joining ──answered──▶ joined ──nobody wants it──▶ leaving ──▶ (gone)
       ▲                 └──refused──▶ refused ──later, or asked again──┘ (absent)
       └── the connection is lost

A room has a `since` while its consumers lack events: it must be restored from that cursor.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from itertools import count
from typing import Any, NamedTuple, Protocol

from beaconfire_client.core.actions import (
    Action,
    Delivered,
    HereChanged,
    Joined,
    Left,
    Refusal,
    Refused,
    Resync,
    Resynced,
    TypingChanged,
)
from beaconfire_client.core.backoff import Chance, cap_s
from beaconfire_client.core.cursor import Cursor, Place, earlier
from beaconfire_client.core.pace import Pace
from beaconfire_client.core.protocol import Frame, Message, checked_room, pair_of, retry_of_error
from beaconfire_client.core.roster import Roster
from beaconfire_client.core.sizes import LEAST_FRAME_BYTES, MAX_ROOMS_IN_MESSAGE, bytes_of, encode, in_lists
from beaconfire_client.core.timers import Timers

MAX_REFUSALS = 10
"""After this many refusals in a row by a limit, a room is not asked for again automatically."""
_MAX_TYPES = 100
"""The largest number of types in a subscription (PROTOCOL.md §4)."""
_LARGEST_ID = 2**53 - 1
_FLUSH, _RETRY, _TYPING = "rooms", "refused rooms", "typing"


class Ask(NamedTuple):
    """What a room is asked for. `types` is None for all types."""

    types: tuple[str, ...] | None = None
    since: Cursor | None = None
    presence: bool = False


class Answer(NamedTuple):
    """The answer to a message about rooms: one for each room, or a refusal of the whole message."""

    rooms: Mapping[str, Mapping[str, Any]] | None
    refusal: Refusal | None


class Send(Protocol):
    """Sends a message. Returns its id, or 0 if there is no connection."""

    def __call__(self, message: Message, on_answer: Callable[[Answer], None]) -> int: ...


class Stage(Enum):
    """Where a room is on its way in or out."""

    ABSENT = auto()
    JOINING = auto()
    JOINED = auto()
    REFUSED = auto()
    LEAVING = auto()


@dataclass(slots=True, eq=False)
class Consumer:
    """One subscription of a room."""

    number: int
    room: str
    types: frozenset[str] | None
    presence: bool
    heard: Place = field(default_factory=Place)
    """Its own place. It is behind the connection's while its room is restored."""
    awaits_ready: bool = True
    """Whether it was not told yet that the room is joined."""
    paused_at: Cursor | None = None
    """The place at which it stopped taking events."""
    is_paused: bool = False

    def takes(self, frame: Frame, epoch: str) -> bool:
        """Return whether it wants the event and had it not yet. It then has it."""
        if self.is_paused or ("offset" in frame and not self.heard.take(epoch, frame["offset"])):
            return False
        return self.types is None or frame["event"]["type"] in self.types


@dataclass(slots=True, eq=False)
class Room:
    """A room that is wanted, or that the client has not left yet."""

    name: str
    consumers: dict[int, Consumer] = field(default_factory=dict)
    stage: Stage = Stage.ABSENT
    meaning: str | None = None
    """The long form of a short name, as the gateway looked it up."""
    asked: Ask | None = None
    message_id: int = 0
    """The last message that asked to join or leave it."""
    since: Cursor | None = None
    """The gateway must restore the room from here first. Later events come only that way."""
    is_held: bool = False
    """Whether the session is in the room, perhaps with other types than were asked for since."""
    refusals: int = 0
    retry_at: float | None = None
    lacks_space: bool = False
    """Whether it waits for another room to be left."""
    roster: Roster = field(default_factory=Roster)

    @property
    def types(self) -> tuple[str, ...] | None:
        """The types that its consumers want together. None for all types."""
        wanted: set[str] = set()
        for one in self.consumers.values():
            if one.types is None:
                return None
            wanted |= one.types
        return tuple(sorted(wanted)) if 0 < len(wanted) <= _MAX_TYPES else None

    @property
    def wanted(self) -> Ask:
        return Ask(self.types, self.since, any(one.presence for one in self.consumers.values()))

    @property
    def is_promised(self) -> bool:
        """Whether a consumer relies on getting every event."""
        return any(not one.awaits_ready for one in self.consumers.values())

    def is_served_by(self, types: Sequence[str] | None) -> bool:
        """Return whether these types cover every consumer that relies on the room."""
        return types is None or all(
            one.types is not None and one.types <= set(types) for one in self.consumers.values() if not one.awaits_ready
        )

    def is_meant_by(self, frame: Frame) -> bool:
        return self.meaning is None or self.meaning in frame["rooms"]

    def is_called(self, long_name: str) -> bool:
        """Return whether this is the room of this long name."""
        return (self.meaning or self.name) == long_name

    def forget_promises(self) -> None:
        """Events may be missed from now on. Consumers are told again when the room is joined again."""
        self.since = None
        for one in self.consumers.values():
            one.awaits_ready = True

    def forget_refusal(self) -> None:
        self.ask_again()
        self.refusals = 0

    def ask_again(self) -> None:
        self.stage = Stage.ABSENT
        self.retry_at = None
        self.lacks_space = False


class RoomTable:
    """All rooms of a client."""

    def __init__(
        self, timers: Timers, chance: Chance, send: Send, place: Place, tell: Callable[[Action], None]
    ) -> None:
        """`place` is the connection's. `tell` gets what the application must know."""
        self._timers = timers
        self._chance = chance
        self._send = send
        self._place = place
        self._tell = tell
        self.pace = Pace(timers, chance, self._flush)
        self._numbers = count(1)
        self._consumers: dict[int, Consumer] = {}
        self._rooms: dict[str, Room] = {}
        self._introduced: dict[str, tuple[str, ...] | None] = {}
        """The rooms of the last `connect`, with their types."""
        self._introduced_presence = False
        self._left_out: set[str] = set()
        """The rooms that did not fit into the last `connect`."""
        self._max_frame_bytes = LEAST_FRAME_BYTES
        self._max_rooms = MAX_ROOMS_IN_MESSAGE
        self._rooms_in_message = MAX_ROOMS_IN_MESSAGE
        self._jitter = 0.0
        """The random part of pauses. All rooms of one answer have the same, so that they are asked for together."""

    def add(
        self, name: str, *, types: Iterable[str] | None = None, cursor: str | None = None, presence: bool = False
    ) -> int:
        """Add a consumer. Returns its number. Raises ValueError for a name or a cursor that is none."""
        since = None if cursor is None else Cursor.parse(cursor)
        room = self._rooms.setdefault(checked_room(name), Room(name))
        wanted = None if types is None else frozenset(types)
        one = Consumer(next(self._numbers), name, wanted, presence, Place(since))
        if since is not None:
            self._owe_since(room, since)
        self._consumers[one.number] = room.consumers[one.number] = one
        if room.stage is Stage.LEAVING:
            room.stage = Stage.ABSENT  # the gateway removes it first, then joins it again
        elif room.stage is Stage.REFUSED:
            room.forget_refusal()  # a new request: the user may be a member by now
        self._flush_soon()
        return one.number

    def remove(self, consumer: int) -> None:
        one = self._consumers.pop(consumer, None)
        if one is None:
            return
        room = self._rooms[one.room]
        del room.consumers[consumer]
        if room.stage is Stage.REFUSED and room.is_held:
            room.stage = Stage.JOINED  # perhaps the removed types were refused
        if not room.consumers:
            room.since = None
        self._flush_soon()

    def pause(self, consumer: int) -> None:
        """Give a consumer no more events until `resume`. Its place is kept."""
        one = self._consumers.get(consumer)
        if one is not None and not one.is_paused:
            one.is_paused = True
            one.paused_at = self._rooms[one.room].since or self._place.cursor

    def resume(self, consumer: int) -> None:
        """Give a consumer the events that it missed in a pause, and all later ones."""
        one = self._consumers.get(consumer)
        if one is None or not one.is_paused:
            return
        one.is_paused = False
        if one.paused_at is not None and one.paused_at != self._place.cursor:
            self._owe_since(self._rooms[one.room], one.paused_at)
            self._flush_soon()
        one.paused_at = None

    def here(self, consumer: int) -> Roster | None:
        """Return who is in a consumer's room."""
        one = self._consumers.get(consumer)
        return None if one is None else self._rooms[one.room].roster

    # The connection.

    def introduce(self, spare_bytes: int) -> dict[str, Any]:
        """Return the fields about rooms for `connect`, which may take so many bytes.

        Rooms that must be restored, or do not fit, are subscribed to after the ack.
        """
        meant = [
            room
            for room in self._rooms.values()
            if room.consumers and room.stage is not Stage.REFUSED and room.since is None
        ]
        spare = spare_bytes - bytes_of({"types": {}, "presence": True})
        self._introduced = {}
        for room in meant:
            name = bytes_of(room.name) + 1
            size = name if room.types is None else 2 * name + bytes_of(room.types) + 1
            if len(self._introduced) < min(MAX_ROOMS_IN_MESSAGE, self._max_rooms) and size <= spare:
                self._introduced[room.name] = room.types
                spare -= size
        self._left_out = {room.name for room in meant} - self._introduced.keys()
        # One word holds for all rooms of the message. The others are subscribed to again after the ack.
        asking = [self._rooms[name].wanted.presence for name in self._introduced]
        self._introduced_presence = bool(asking) and all(asking)
        types = {name: list(types) for name, types in self._introduced.items() if types is not None}
        return {
            "rooms": list(self._introduced),
            **({"types": types} if types else {}),
            **({"presence": True} if self._introduced_presence else {}),
        }

    def connected(
        self, answers: Mapping[str, Mapping[str, Any]], left_at: Cursor | None, limits: Mapping[str, Any]
    ) -> None:
        """A connection was acknowledged with these answers. The session is in no other rooms.

        `left_at` is the cursor of the connection before.
        """
        self.lost()
        self._max_frame_bytes = limits["maxFrameBytes"]
        self._max_rooms = limits["maxRooms"]
        self._rooms_in_message = min(MAX_ROOMS_IN_MESSAGE, limits["roomsPerMinute"])
        self.pace.begin(messages_per_minute=limits["messagesPerMinute"], rooms_per_minute=limits["roomsPerMinute"])
        self._jitter = self._chance()
        if left_at is not None:
            for room in self._rooms.values():
                self._owe(room, answers.get(room.name), left_at)
        for name, answer in answers.items():
            # It may have been unsubscribed since `connect` was sent: keep it as joined, and the flush leaves it.
            room = self._rooms.setdefault(name, Room(name))
            room.asked = Ask(self._introduced.get(name), None, self._introduced_presence)
            self._answered(room, answer)
        self._flush()

    def lost(self) -> None:
        """The connection is gone. The rooms are still wanted."""
        for room in list(self._rooms.values()):
            room.is_held = False
            room.message_id = 0
            room.asked = None
            if room.stage is not Stage.REFUSED:
                room.stage = Stage.ABSENT
            if not room.consumers:
                del self._rooms[room.name]

    def served_up_to(self, cursor: Cursor) -> Cursor:
        """Return the cursor up to which every room has its events. It is lower while a room is restored."""
        for room in self._rooms.values():
            if room.since is not None:
                cursor = earlier(cursor, room.since, self._place.epoch)
        return cursor

    # What the gateway sends.

    def deliver(self, frame: Frame) -> None:
        """Pass an event to every consumer of its rooms.

        The event names rooms in the long form. A consumer with a short name gets the events of the room that the
        gateway found for it. Until the gateway answers, it gets those of every room with that pair.
        """
        for name in _names_of(frame):
            room = self._rooms.get(name)
            if room is not None and room.is_meant_by(frame) and not self._comes_restored(room, frame):
                # Before the room is joined, only those of its events come that are in another room, too.
                self._hand(frame, [one for one in room.consumers.values() if not one.awaits_ready])

    def restore(self, message_id: int, names: Sequence[str], events: Sequence[Frame]) -> None:
        """Pass restored events to the consumers of the rooms that were asked for."""
        for frame in events:
            of_event = _names_of(frame)
            for name in names:
                room = self._rooms.get(name)
                # If the room was asked for with other types or another cursor since, all of it comes again.
                if room and name in of_event and room.message_id == message_id and room.asked == room.wanted:
                    self._hand(frame, room.consumers.values())

    def left(self, name: str, reason: str) -> None:
        """The gateway has taken the session out of a room."""
        room = self._rooms.get(name)
        if room is None:
            return
        room.is_held = False
        room.roster.clear()
        if reason == "lease_expired":
            if room.is_promised and self._place.cursor is not None:
                self._owe_since(room, self._place.cursor)
            self._retry_later(room, self._chance() * cap_s(room.refusals))
            room.refusals += 1
            return
        room.stage = Stage.REFUSED
        room.forget_promises()
        for one in room.consumers.values():
            self._tell(Left(one.number, reason))

    def resync(self, resync: Resync, cursor: Cursor) -> None:
        """Consumers of these rooms must load their state again. Events after the cursor follow."""
        for one in self._consumers.values():
            one.heard.lower(cursor)
        for name in resync.rooms:
            room = self._rooms.get(name)
            for one in room.consumers.values() if room else ():
                if one.is_paused:
                    one.paused_at = cursor
                self._tell(Resynced(one.number, resync))

    def presence(self, frame: Frame) -> None:
        """Somebody came, went or changed the status."""
        for room in self._called(frame["room"]):
            room.roster.take(frame)
            self._tell_here(room)

    def typing(self, frame: Frame) -> None:
        """Somebody types, or no longer does."""
        for room in self._called(frame["room"]):
            before = room.roster.typing
            room.roster.types(frame["userId"], is_typing=frame["typing"] is True, now=self._timers.now)
            self._tell_typing(room, before)
        self._await_silence()

    # Internals.

    def _called(self, long_name: str) -> list[Room]:
        names = (long_name, pair_of(long_name))
        return [room for name in names if (room := self._rooms.get(name)) is not None and room.is_called(long_name)]

    def _tell_here(self, room: Room) -> None:
        for one in room.consumers.values():
            if one.presence:
                self._tell(HereChanged(one.number, room.roster.here))

    def _tell_typing(self, room: Room, before: frozenset[str]) -> None:
        if room.roster.typing != before:
            for one in room.consumers.values():
                self._tell(TypingChanged(one.number, room.roster.typing))

    def _await_silence(self) -> None:
        ends = [at for room in self._rooms.values() if (at := room.roster.typing_ends_at) is not None]
        if ends:
            self._timers.start(_TYPING, max(0.0, min(ends) - self._timers.now), self._forget_silent)
        else:
            self._timers.stop(_TYPING)

    def _forget_silent(self) -> None:
        for room in self._rooms.values():
            before = room.roster.typing
            room.roster.forget_silent(self._timers.now)
            self._tell_typing(room, before)
        self._await_silence()

    def _owe_since(self, room: Room, cursor: Cursor) -> None:
        room.since = cursor if room.since is None else earlier(room.since, cursor, self._place.epoch)

    def _owe(self, room: Room, answer: Mapping[str, Any] | None, left_at: Cursor) -> None:
        """Restore a room that a consumer relies on, if it did not come back with the connection.

        It was refused for the moment, was joined on the old connection after the new one had sent `connect`, or did not
        fit into `connect`.
        """
        if not room.is_promised and room.name not in self._left_out:
            return
        is_back = answer is not None and answer["success"] and room.is_served_by(self._introduced.get(room.name))
        if room.since is not None or not is_back:
            self._owe_since(room, left_at)

    def _comes_restored(self, room: Room, frame: Frame) -> bool:
        if room.since is None or "offset" not in frame:
            return False
        return room.since.epoch != self._place.epoch or frame["offset"] > room.since.offset

    def _hand(self, frame: Frame, consumers: Iterable[Consumer]) -> None:
        for one in consumers:
            if one.takes(frame, self._place.epoch):
                self._tell(Delivered(one.number, frame, self._place.epoch))

    def _announce(self, room: Room) -> None:
        if room.asked != room.wanted:
            return  # what was added in the meantime is asked for next
        for one in room.consumers.values():
            if one.awaits_ready:
                one.awaits_ready = False
                if one.heard.cursor is None:
                    one.heard.cursor = self._place.cursor  # what is restored for others began before it did
                self._tell(Joined(one.number))

    def _flush_soon(self) -> None:
        """Wait for the end of this turn: leaving and joining again in one turn sends nothing."""
        self._timers.start(_FLUSH, 0.0, self._flush)

    def _flush(self) -> None:
        """Ask for what is wanted and not there, and leave what is no longer wanted."""
        self._timers.stop(_FLUSH)
        for room in self._rooms.values():
            if room.stage is Stage.JOINED:
                self._announce(room)
        self._leave([room for room in self._rooms.values() if not room.consumers and room.stage is not Stage.LEAVING])
        alike: dict[Ask, list[Room]] = {}  # a message has one list of types and one cursor
        for room in self._within_limit():
            alike.setdefault(room.wanted, []).append(room)
        for ask, rooms in alike.items():
            self._join(ask, rooms)

    def _within_limit(self) -> list[Room]:
        """The rooms to ask for now. The others wait until a room is left."""
        held = sum(room.is_held or room.stage in (Stage.JOINING, Stage.LEAVING) for room in self._rooms.values())
        found: list[Room] = []
        for room in self._rooms.values():
            if not room.consumers or room.stage is Stage.REFUSED:
                continue
            if room.stage is not Stage.ABSENT and room.asked == room.wanted:
                continue
            is_new = not (room.is_held or room.stage is Stage.JOINING)
            if not is_new or held < self._max_rooms:
                held += is_new
                found.append(room)
            elif not room.lacks_space:
                room.lacks_space = True
                refusal = Refusal("too_many", f"A connection may be in {self._max_rooms} rooms")
                self._tell_refused(room, refusal, will_retry=True)
        return found

    def _leave(self, rooms: Sequence[Room]) -> None:
        # A room that is still joining can be left: messages are answered in order.
        known = [room for room in rooms if room.is_held or room.stage is Stage.JOINING]
        for room in rooms:
            if room not in known:
                del self._rooms[room.name]

        def on_sent(room: Room) -> None:
            room.stage = Stage.LEAVING
            room.is_held = True  # until it is answered
            room.forget_promises()

        def on_answer(room: Room, _answer: Mapping[str, Any], _was_carried_out: bool) -> None:
            room.is_held = False
            room.roster.clear()
            if not room.consumers:
                del self._rooms[room.name]
            self._ask_for_space()

        def on_too_soon(room: Room, _refusal: Refusal) -> None:
            if room.stage is Stage.LEAVING:
                room.stage = Stage.JOINED  # the next flush leaves it

        self._ask_all({"type": "unsubscribe"}, known, on_sent, on_answer, on_too_soon)

    def _join(self, ask: Ask, rooms: Sequence[Room]) -> None:
        # If the types do not fit into a message, they are left out: all events come, and each consumer filters its own.
        types = None if ask.types is None else list(ask.types)
        is_narrow = types is not None and bytes_of(types) < self._max_frame_bytes / 2
        message: Message = {
            "type": "subscribe",
            **({"types": types} if is_narrow else {}),
            **({"cursor": str(ask.since)} if ask.since is not None else {}),
            **({"presence": True} if ask.presence else {}),
        }

        def on_sent(room: Room) -> None:
            room.stage = Stage.JOINING
            room.asked = ask

        def on_answer(room: Room, answer: Mapping[str, Any], was_carried_out: bool) -> None:
            if room.stage is not Stage.JOINING:
                return
            if ask.since is not None and was_carried_out:
                self._restored(room, ask, is_joined=answer["success"] is True)
            self._answered(room, answer)

        def on_too_soon(room: Room, refusal: Refusal) -> None:
            if room.stage is Stage.JOINING:
                room.stage = Stage.ABSENT
                self._tell_refused(room, refusal, will_retry=True)

        self._ask_all(message, rooms, on_sent, on_answer, on_too_soon)

    def _ask_all(
        self,
        message: Message,
        rooms: Sequence[Room],
        on_sent: Callable[[Room], None],
        on_answer: Callable[[Room, Mapping[str, Any], bool], None],
        on_too_soon: Callable[[Room, Refusal], None],
    ) -> None:
        """Send a message for some rooms, in as many parts as the gateway's limits need.

        Parts that may not be sent yet wait for the next flush. The callbacks are called for each room, unless another
        message was sent for it since.
        """
        is_leaving = message["type"] == "unsubscribe"
        envelope = bytes_of({**message, "id": _LARGEST_ID, "rooms": []})
        lists = in_lists(
            rooms,
            lambda room: len(encode(room.name).encode()) + 1,
            self._max_frame_bytes - envelope,
            most=self._rooms_in_message,
        )
        for some in lists:
            names = [room.name for room in some]
            size = envelope + bytes_of(names)
            if not self.pace.allows(size, rooms=len(names), is_leaving=is_leaving):
                return
            sent = _Sent(some, is_leaving, on_answer, on_too_soon)
            message_id = self._send({**message, "rooms": names}, partial(self._take, sent))
            if message_id == 0:
                return
            sent.message_id = message_id
            self.pace.sent(message_id, size, rooms=len(names), is_leaving=is_leaving)
            for room in some:
                room.message_id = message_id
                on_sent(room)

    def _take(self, sent: "_Sent", answer: Answer) -> None:
        """Take the answer to a message about rooms."""
        too_soon = answer.refusal if answer.refusal and sent.is_too_soon(answer.refusal) else None
        if too_soon is None:
            self.pace.answered(sent.message_id)
        else:
            self.pace.refused(sent.message_id, too_soon.retry_after_s)
        self._jitter = self._chance()
        for room in sent.rooms:
            if self._rooms.get(room.name) is not room or room.message_id != sent.message_id:
                continue
            if too_soon is not None:
                sent.on_too_soon(room, too_soon)
            elif answer.rooms is not None:
                sent.on_answer(room, answer.rooms.get(room.name) or {"success": False}, True)
            else:
                sent.on_answer(room, {"success": False, "error": _error_of(answer.refusal)}, False)
        self._flush_soon()  # send what has changed in the meantime

    def _restored(self, room: Room, ask: Ask, *, is_joined: bool) -> None:
        if not is_joined:
            room.is_held = False  # the gateway removed it before restoring it
        elif room.asked == room.wanted:
            room.since = None
            room.asked = ask._replace(since=None)

    def _answered(self, room: Room, answer: Mapping[str, Any]) -> None:
        if not answer["success"]:
            self._refused(room, Refusal.of(answer.get("error")))
            return
        room.forget_refusal()
        room.meaning = answer.get("room")
        room.stage = Stage.JOINED
        room.is_held = True
        self._announce(room)
        if "presence" in answer:
            room.roster.take(answer["presence"])
            self._tell_here(room)

    def _refused(self, room: Room, refusal: Refusal) -> None:
        room.refusals += 1
        room.lacks_space = refusal.code == "too_many"
        # A service that is away comes back at some time, but a limit may stay exceeded.
        will_retry = retry_of_error(refusal.code) == "backoff" and (
            not room.lacks_space or room.refusals < MAX_REFUSALS
        )
        if will_retry:
            self._retry_later(room, refusal.retry_after_s + self._jitter * cap_s(room.refusals))
        else:
            room.stage = Stage.REFUSED
            if not room.is_held:
                room.forget_promises()
        self._tell_refused(room, refusal, will_retry=will_retry)

    def _tell_refused(self, room: Room, refusal: Refusal, *, will_retry: bool) -> None:
        for one in room.consumers.values():
            # If the session is still in the room, only what was added in the meantime was refused.
            if will_retry or one.awaits_ready or not room.is_held:
                self._tell(Refused(one.number, refusal, will_retry))

    def _retry_later(self, room: Room, pause_s: float) -> None:
        room.stage = Stage.REFUSED
        room.retry_at = self._timers.now + pause_s
        self._await_retry()

    def _await_retry(self) -> None:
        """Set the one alarm for all refused rooms."""
        due = [room.retry_at for room in self._rooms.values() if room.retry_at is not None]
        if due:
            self._timers.start(_RETRY, max(0.0, min(due) - self._timers.now), self._retry)

    def _retry(self) -> None:
        for room in self._rooms.values():
            if room.retry_at is not None and room.retry_at <= self._timers.now:
                room.ask_again()
        self._await_retry()
        self._flush()

    def _ask_for_space(self) -> None:
        """A room was left: ask again for the rooms that had no space."""
        for room in self._rooms.values():
            if room.lacks_space and room.stage in (Stage.REFUSED, Stage.ABSENT):
                room.ask_again()


@dataclass(slots=True)
class _Sent:
    """A message about rooms that is not answered yet."""

    rooms: Sequence[Room]
    is_leaving: bool
    on_answer: Callable[[Room, Mapping[str, Any], bool], None]
    on_too_soon: Callable[[Room, Refusal], None]
    message_id: int = 0

    def is_too_soon(self, refusal: Refusal) -> bool:
        """Return whether to repeat the same message.

        A room that could not be joined has a retry of its own. A room that could not be left must still be left.
        """
        return refusal.code == "too_many" or (self.is_leaving and retry_of_error(refusal.code) == "backoff")


def _error_of(refusal: Refusal | None) -> dict[str, Any]:
    if refusal is None:
        return {}
    return {"code": refusal.code, "message": refusal.message, "retryAfterMs": refusal.retry_after_s * 1000}


def _names_of(frame: Frame) -> set[str]:
    """The names, long and short, under which the rooms of an event may be subscribed to."""
    return {name for room in frame["rooms"] for name in (room, pair_of(room))}
