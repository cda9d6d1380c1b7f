"""Conflate events: of several events with the same key within a window, live sessions get the first and the latest.

A type is conflated if the catalogue says so. The first event of a key goes out at once. Later ones are held until the
window ends, and each replaces the one before it. Then the latest goes out, without an offset: a later offset may have
been sent already, and clients drop events below their cursor. No I/O (docs/adr/0058).

    first event ──▶ window of its type ── window_ms, or HELD_BEHIND further offsets ──▶ the latest event of each key
                        ▲                                                                   │
                        └──────────── a new window, if any event was held ──────────────────┘

A held event is below the cursor of a client that was given a later offset. `latest` finds such events for a client that
comes back: each of them is less than HELD_BEHIND offsets below its cursor.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from hashlib import sha256
from typing import Any, Generic, Protocol, TypeAlias

from orjson import dumps, loads

from beaconfire_gateway.fanout.entry import OVERHEAD, Entry
from beaconfire_gateway.fanout.hub import Hub, S
from beaconfire_gateway.fanout.outbound import Outbound
from beaconfire_kit import metrics
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.fragment import Conflation
from beaconfire_kit.catalogue.pointers import tokens

HELD_BEHIND = 2_000
"""An event is held until the gateway has delivered this many further offsets, at most. So a gateway to which a client
comes back knows what another one may have held, without comparing clocks. All gateways must have the same number."""
MAX_KEYS = 10_000
"""Keys in one window. The events of further keys go out at once."""
MAX_HELD_BYTES = 32 * 1024 * 1024
"""Of all events that are held. With more, all windows end."""
_MAX_KEY_BYTES = 64
"""A digest stands for a longer value of a key."""

CONFLATED = metrics.Counter(
    "beaconfire_gateway_conflated_events_total",
    "Events that live sessions did not get, because a later one with the same key replaced them, by type.",
    ["type"],
)

Key: TypeAlias = tuple[str, str, bytes]
"""Type, subject, and the value of the field that the catalogue names. Events with the same key replace each other.

It is kept for a window, so a long value is a digest."""


class Alarms(Protocol):
    """Calls `wake` of what waits for an offset."""

    def add(self, waiter: Any, offset: int) -> None: ...


class Latest(Entry):
    """A conflated event as it goes out: without an offset, and with the cursor that its receiver has reached."""

    __slots__ = ("_cursor",)

    def __init__(self, entry: Entry, cursor: str) -> None:
        super().__init__(0, entry.route, entry.body, entry.at, type=entry.type, audience=entry.audience)
        self._cursor = cursor if entry.offset else None

    @property
    def cursor(self) -> str | None:
        return self._cursor


class _Window:
    """The keys of which an event went out in this window, each with the event that is held, if any."""

    __slots__ = ("_end", "held", "is_over", "is_watched")

    def __init__(self, end: Callable[["_Window"], None]) -> None:
        self.held: dict[Key, Entry | None] = {}
        self.is_watched = False  # whether it ends when some offset is reached
        self.is_over = False
        self._end = end

    def wake(self) -> None:
        """End it, unless it has ended."""
        if not self.is_over:
            self._end(self)


class Conflator(Generic[S]):
    """Conflates the events of one gateway. `cursor` returns the cursor of its position, and `position` the offset."""

    def __init__(
        self,
        hub: Hub[S],
        outbound: Outbound[S],
        alarms: Alarms,
        call_later: Callable[[float, Callable[[], None]], object],
        *,
        position: Callable[[], int],
        cursor: Callable[[], str],
        held_behind: int = HELD_BEHIND,
        max_held_bytes: int = MAX_HELD_BYTES,
    ) -> None:
        self._hub = hub
        self._outbound = outbound
        self._alarms = alarms
        self._call_later = call_later
        self._position = position
        self._cursor = cursor
        self._held_behind = held_behind
        self._max_held_bytes = max_held_bytes
        self.held_bytes = 0
        self._rules: Mapping[str, Conflation] = {}
        self._known: dict[str, Conflation] = {}  # of all revisions that may have counted when an event was held
        self._root_kinds: set[str | None] = set()
        self._windows: dict[int, _Window] = {}

    # What is conflated.

    def use(self, current: Catalogue, known: Iterable[Catalogue]) -> None:
        """Conflate by the current revision. The known ones may have counted when events were held elsewhere."""
        self.flush()
        for catalogue in (*known, current):
            for type_, rule in catalogue.conflations.items():
                self._known[type_] = rule
                self._root_kinds |= {one.root for one in catalogue.types[type_].values() if not one.ephemeral}
        self._rules = current.conflations

    def is_conflated(self, type_: str) -> bool:
        """Whether events of the type are conflated now."""
        return type_ in self._rules

    def window_ms(self, type_: str) -> int | None:
        """For how long later events of the type replace one another now. None if the type is not conflated."""
        rule = self._rules.get(type_)
        return None if rule is None else rule.window_ms

    def concerns(self, root_kinds: Iterable[str]) -> bool:
        """Whether events of roots of any of these kinds may be held, here or elsewhere, and are stored."""
        return bool(self._root_kinds) and not self._root_kinds.isdisjoint(root_kinds)

    @property
    def held_behind(self) -> int:
        """How many offsets below its cursor a client may lack events. 0 if no stored type is conflated."""
        return self._held_behind if self._root_kinds else 0

    # Events.

    def put(self, offset: int, entry: Entry) -> None:
        """Queue an event, or hold it until its window ends. Takes the same as `Outbound.put`."""
        rule = self._rules.get(entry.type)
        if rule is None:
            self._outbound.put(offset, entry)
            return
        window = self._windows.get(rule.window_ms) or self._open(rule.window_ms)
        key = key_of(entry, rule)
        if key not in window.held:
            if len(window.held) < MAX_KEYS:
                window.held[key] = None
            self._outbound.put(offset, entry)
            return
        before = window.held[key]
        if before is None:
            self._hub.pin(entry.route.subject)
        elif before.audience == entry.audience:
            CONFLATED.labels(entry.type).inc()
        else:  # a session may hear only one of the two
            self._send(before)
        window.held[key] = entry
        self.held_bytes += _bytes_of(entry) - (0 if before is None else _bytes_of(before))
        if entry.offset and not window.is_watched:
            window.is_watched = True
            self._alarms.add(window, entry.offset + self._held_behind - 1)
        if self.held_bytes > self._max_held_bytes:
            self.flush()

    def flush(self) -> None:
        """Queue everything that is held, now."""
        for window in list(self._windows.values()):
            window.wake()

    def held(self) -> Iterator[Entry]:
        """The events that are held and stored, in order."""
        held = (entry for window in self._windows.values() for entry in window.held.values())
        return iter(sorted((entry for entry in held if entry is not None and entry.offset), key=_offset))

    def latest(self, entries: Iterable[Entry]) -> list[Entry]:
        """The last of the conflated events of each key, in order. The entries must be in order, and checked."""
        latest: dict[object, Entry] = {}
        for entry in entries:
            rule = self._known.get(entry.type)
            if rule is not None:
                latest[key_of(entry, rule), entry.audience] = entry
        return sorted(latest.values(), key=_offset)

    def _open(self, window_ms: int) -> _Window:
        window = self._windows[window_ms] = _Window(partial(self._end, window_ms))
        self._call_later(window_ms / 1000, window.wake)
        return window

    def _end(self, window_ms: int, window: _Window) -> None:
        """Send what a window holds. The keys that were sent wait in the next window."""
        window.is_over = True
        held = [(key, entry) for key, entry in window.held.items() if entry is not None]
        for key, entry in sorted(held, key=lambda one: one[1].offset):
            # Held until it is queued: queueing may fill a socket, and its session then asks what is held.
            self._send(entry)
            window.held[key] = None
            self.held_bytes -= _bytes_of(entry)
            self._hub.unpin(entry.route.subject)
        del self._windows[window_ms]
        window.held = {}  # a timer and an alarm may still know the window
        if held:
            self._open(window_ms).held.update((key, None) for key, _ in held)

    def _send(self, entry: Entry) -> None:
        """Queue a held event for the sessions that are in its rooms now."""
        self._outbound.put(self._position(), Latest(entry, self._cursor()))


def key_of(entry: Entry, rule: Conflation) -> Key:
    """Return the key of an event that has been checked."""
    found: Any = loads(entry.body)["payload"]
    for step in tokens(rule.key):
        found = found.get(step) if isinstance(found, dict) else None
    value = dumps(found)
    if len(value) > _MAX_KEY_BYTES:
        value = sha256(value).digest()
    return entry.type, entry.route.subject, value


def _bytes_of(entry: Entry) -> int:
    return OVERHEAD + len(entry.body)


def _offset(entry: Entry) -> int:
    return entry.offset
