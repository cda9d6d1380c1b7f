"""Define events that are sent to any set of rooms and sessions. No I/O.

    sent = SentEvent(("workspace:w1", "workspace:w2/team:m1", session_room("u1", session_id)), body)
    sent.check(catalogue).rooms

Such an event is ephemeral: it reaches the sessions that are connected, once each, and is stored nowhere. Only types
that the catalogue declares as ephemeral can be sent, each to rooms that its subjects may have. A session is addressed
as a room of its user, `user:u1/session:9f3c52d07a1be864`.

The publisher service checks an event before it sends it to the gateways (`beaconfire_publisher.sending`), and each
gateway checks it by its own catalogue.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.checking import CheckedEvent
from beaconfire_kit.catalogue.fragment import PARAMETER, EventType
from beaconfire_kit.invalid_event import InvalidEvent
from beaconfire_kit.subjects import InvalidRoom, Room, RoomKey, is_id, parse_room

MAX_ROOMS = 100
"""Rooms and sessions that one event is sent to."""
SESSION = "session"
"""The kind of room that means one session of a user."""
_USER = "user"


@dataclass(frozen=True, slots=True)
class CheckedSend:
    """A valid event, and the rooms that it is sent to, each once."""

    event: CheckedEvent
    rooms: Sequence[RoomKey]


@dataclass(frozen=True, slots=True)
class SentEvent:
    """The rooms that an event is sent to, by their long names, and its body as PROTOCOL.md describes it."""

    to: tuple[str, ...]
    body: bytes

    def encode(self) -> bytes:
        """Return the message that gateways receive: a line of JSON with the rooms, and the body."""
        return json.dumps(self.to).encode() + b"\n" + self.body

    @classmethod
    def decode(cls, message: bytes) -> "SentEvent":
        """Read what `encode` wrote. Raises InvalidEvent."""
        head, _, body = message.partition(b"\n")
        try:
            to = json.loads(head)
        except (ValueError, RecursionError):
            to = None
        if not isinstance(to, list) or not all(isinstance(name, str) for name in to):
            raise InvalidEvent("not_json", "the first line is not a list of rooms")
        return cls(tuple(to), body)

    def check(self, catalogue: Catalogue) -> CheckedSend:
        """Check rooms and event against the catalogue. Raises InvalidEvent, and InvalidRoom for a wrong room."""
        event_type, payload = _type_and_payload(catalogue, self.body)
        if event_type is None:
            catalogue.check("", self.body)  # which raises, and says why
            raise InvalidEvent("invalid", "expected an event of a type that the catalogue has")
        if not event_type.ephemeral:
            raise InvalidEvent(
                "wrong_subject",
                f"type: {event_type.name} is stored, so it is published on its subject and not sent. Only types that "
                "are ephemeral in the catalogue can be sent",
            )
        event = catalogue.check(_a_subject(event_type, payload), self.body)
        return CheckedSend(event, _rooms(self.to, event_type, payload, catalogue))


def session_room(user_id: str, session_id: str) -> str:
    """Return the room that means one session of a user. `session_id` is the one that the gateway gave the client."""
    return f"{_USER}:{user_id}/{SESSION}:{session_id}"


def subject_of_room(room: RoomKey) -> str:
    """Return the subject that a service token must allow to send to a room: `workspace.w1.team.m1`."""
    pairs = (room.root,) if room.root == room.pair else (room.root, room.pair)
    return ".".join(part for pair in pairs for part in pair)


def _type_and_payload(catalogue: Catalogue, body: bytes) -> tuple[EventType | None, Mapping[str, Any]]:
    try:
        message = json.loads(body)
        found = catalogue.types[message["type"]][message["version"]]
    except (ValueError, RecursionError, KeyError, TypeError):
        return None, {}
    payload = message.get("payload")
    return found, payload if isinstance(payload, dict) else {}


def _a_subject(event_type: EventType, payload: Mapping[str, Any]) -> str:
    """Return a subject of the type that fits the ids of the payload. The event has none of its own."""

    def fill(parameter: str) -> str:
        found = _found(event_type, payload, parameter)
        return found if found is not None and is_id(found) else "x"

    return f"ephemeral.{PARAMETER.sub(lambda one: fill(one[1]), event_type.subject)}"


def _found(event_type: EventType, payload: Mapping[str, Any], parameter: str) -> str | None:
    """Return what the payload has for a parameter of the subject."""
    found: Any = payload
    for step in event_type.parameters.get(parameter, (parameter,)):
        found = found.get(step) if isinstance(found, Mapping) else None
    return str(found) if isinstance(found, str) or type(found) is int else None


def _rooms(
    names: Sequence[str], event_type: EventType, payload: Mapping[str, Any], catalogue: Catalogue
) -> Sequence[RoomKey]:
    if not 0 < len(names) <= MAX_ROOMS:
        raise InvalidRoom(f"an event is sent to 1 to {MAX_ROOMS} rooms and sessions, not {len(names)}")
    root_kinds, (root_kind, root_id, *inner) = catalogue.root_kinds, event_type.subject.split(".")
    payload_id = _found(event_type, payload, root_id[1:-1])
    inner_kinds = inner[: len(inner) - len(inner) % 2 : 2]
    is_any_kind = any(PARAMETER.fullmatch(kind) for kind in inner_kinds)
    kinds = {root_kind, *inner_kinds}
    rooms: dict[RoomKey, None] = {}
    for name in names:
        room = _parsed(name).key(root_kinds)
        if room is None:
            raise InvalidRoom(f"{name}: name its root, as in workspace:w1/{name}")
        is_its_room = is_any_kind or room.pair.kind in kinds or is_session(room)
        if room.root.kind != root_kind or not is_its_room:
            raise InvalidRoom(f"{name} is no room of {event_type.name}: its subjects are {event_type.subject}")
        if payload_id not in (None, room.root.id):
            raise InvalidRoom(f"{name}: the payload names another {root_kind} as {root_id}")
        rooms[room] = None
    return tuple(rooms)


@lru_cache(maxsize=10_000)
def _parsed(name: str) -> Room:
    """Parse a room. A service sends to the same ones again and again."""
    return parse_room(name)


def is_session(room: RoomKey) -> bool:
    """Return whether the room means one session of a user."""
    return room.root.kind == _USER and room.pair.kind == SESSION
