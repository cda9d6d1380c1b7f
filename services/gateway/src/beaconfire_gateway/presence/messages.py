"""Define what gateways tell each other about who is here, and its JSON. No I/O.

A gateway numbers the changes that it tells. A gateway that misses a number asks the sender for everything.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import orjson

from beaconfire_gateway.wire.messages import MAX_ITEM_CHARS, MAX_ITEMS, Status, Typing
from beaconfire_kit.subjects import InvalidRoom, RoomKey, parse_room

MAX_PART_BYTES = 100_000
"""About the size of a message. The broker's limit is 256 KiB (deploy/nats)."""
_ENTRY_BYTES = 24
"""What an entry takes besides its names."""
_RANK = (Status.BUSY, Status.ONLINE, Status.AWAY)
"""Of a user's statuses, the first of these counts."""


class Share(NamedTuple):
    """What one gateway knows of a user in a room."""

    devices: int
    """Sessions. 0: all are gone, and the user may come back."""
    status: Status


Entries: TypeAlias = Mapping[str, Mapping[str, Share | None]]
"""By room and user. None: the user is no longer there."""


class InvalidSaying(ValueError):
    """No gateway wrote this."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What has changed at a gateway. Without entries it is a heartbeat, with the number of the last changes."""

    gateway: str
    number: int
    entries: Entries = field(default_factory=dict)
    is_last: bool = False
    """The gateway stops. Its users may come back elsewhere."""

    def encode(self) -> bytes:
        """Return its JSON. The sender is in the subject."""
        return orjson.dumps({"n": self.number, "d": _plain(self.entries), "last": self.is_last})

    @classmethod
    def decode(cls, gateway: str, data: bytes) -> "Changes":
        """Read it. Raises InvalidSaying."""
        found = _object(data)
        return cls(gateway, _number(found, "n"), _entries(found), found.get("last") is True)


@dataclass(frozen=True, slots=True)
class Question:
    """A gateway asks another one for everything."""

    gateway: str
    """The one that is asked."""


class Selected(NamedTuple):
    """What a user has selected in a room, as gateways tell each other."""

    room: RoomKey
    user_id: str
    number: int
    """A later selection of the user in the room has a higher one. Mostly it is the time, in milliseconds since 1970."""
    items: tuple[str, ...]

    def encode(self) -> bytes:
        """Return its JSON."""
        return orjson.dumps({"room": str(self.room), "user": self.user_id, "n": self.number, "items": self.items})

    @classmethod
    def decode(cls, data: bytes) -> "Selected":
        """Read it. Raises InvalidSaying."""
        found = _object(data)
        user_id, items = found.get("user"), found.get("items")
        if not isinstance(user_id, str) or not isinstance(items, list) or len(items) > MAX_ITEMS:
            raise InvalidSaying("it does not say what a user has selected")
        if not all(isinstance(one, str) and len(one) <= MAX_ITEM_CHARS for one in items):
            raise InvalidSaying("an item is not a string, or is too long")
        return cls(_room(found), user_id, _number(found, "n"), tuple(items))


def encode_typing(message: Typing) -> bytes:
    """Return the JSON that tells other gateways who is typing."""
    return orjson.dumps({"room": str(message.room), "user": message.user_id, "typing": message.typing})


def decode_typing(data: bytes) -> Typing:
    """Read it. Raises InvalidSaying."""
    found = _object(data)
    user_id, typing = found.get("user"), found.get("typing")
    if not isinstance(user_id, str) or not isinstance(typing, bool):
        raise InvalidSaying("it does not say who is typing in which room")
    return Typing(_room(found), user_id, typing)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of everything at a gateway, as of its changes of this number. The parts come in order."""

    gateway: str
    number: int
    part: int
    parts: int
    entries: Entries

    def encode(self) -> bytes:
        """Return its JSON. The sender is in the subject."""
        return orjson.dumps(
            {"n": self.number, "part": self.part, "parts": self.parts, "d": _plain(self.entries), "last": False}
        )

    @classmethod
    def decode(cls, gateway: str, data: bytes) -> "Part":
        """Read it. Raises InvalidSaying."""
        found = _object(data)
        return cls(gateway, _number(found, "n"), _number(found, "part"), _number(found, "parts"), _entries(found))


@lru_cache(maxsize=1024)
def share_of(devices: int, status: Status) -> Share:
    """Return a share. There are few different ones, and very many users."""
    return Share(devices, status)


def foremost(statuses: Collection[Status]) -> Status:
    """Return the status of a user whose sessions have these, of which there is at least one."""
    return next(one for one in _RANK if one in statuses)


def split(entries: Entries) -> Iterator[Entries]:
    """Yield the entries in parts that each fit into a message."""
    part: dict[str, dict[str, Share | None]] = {}
    size = 0
    for room, users in entries.items():
        for user, share in users.items():
            more = len(user) + _ENTRY_BYTES + (0 if room in part else len(room))
            if size and size + more > MAX_PART_BYTES:
                yield part
                part, size = {}, 0
                more = len(user) + _ENTRY_BYTES + len(room)
            part.setdefault(room, {})[user] = share
            size += more
    if part:
        yield part


def _plain(entries: Entries) -> dict[str, dict[str, Any]]:
    return {
        room: {user: None if one is None else [one.devices, one.status] for user, one in users.items()}
        for room, users in entries.items()
    }


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(data)
    except ValueError:
        raise InvalidSaying("it is not JSON") from None
    if not isinstance(found, dict):
        raise InvalidSaying("it is not a JSON object")
    return found


def _room(found: Mapping[str, Any]) -> RoomKey:
    room = found.get("room")
    if not isinstance(room, str):
        raise InvalidSaying("it names no room")
    try:
        named = parse_room(room)
    except InvalidRoom as problem:
        raise InvalidSaying(str(problem)) from None
    return RoomKey(named.root or named.pair, named.pair)


def _number(found: Mapping[str, Any], name: str) -> int:
    number = found.get(name)
    if type(number) is not int or number < 0:
        raise InvalidSaying(f"{name} is not a number from 0")
    return number


def _entries(found: Mapping[str, Any]) -> Entries:
    rooms = found.get("d")
    if not isinstance(rooms, dict):
        raise InvalidSaying("it has no entries")
    try:
        return {room: {user: _share(one) for user, one in users.items()} for room, users in rooms.items()}
    except (AttributeError, TypeError, ValueError):
        raise InvalidSaying("an entry is not a number of devices and a status") from None


def _share(one: Any) -> Share | None:
    if one is None:
        return None
    devices, status = one
    if type(devices) is not int or devices < 0:
        raise ValueError
    return share_of(devices, Status(status))
