"""Keep an event for the ring and the history: its JSON, the roles that may see it, and its bytes for each wire."""

from collections.abc import Callable
from typing import ClassVar, Protocol

from beaconfire_gateway.fanout.route import Route
from beaconfire_gateway.wire.dialect import Spliced
from beaconfire_gateway.wire.messages import Event
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit.cursor import Cursor
from beaconfire_kit.roles import Role

OVERHEAD = 200
"""Bytes of Python objects around an entry's body. Measured roughly, as the one below: bounds are in bytes."""
ENCODED_OVERHEAD = 120
"""And around its bytes for one wire."""

_NO_ROLES: frozenset[Role] = frozenset()


class Keeper(Protocol):
    """Whatever keeps entries within a bound of bytes."""

    def grow(self, count: int) -> None:
        """One of its entries takes `count` bytes more than before."""
        ...


class Entry:
    """An event. Implements `messages.Event`.

    Its bytes for a wire are made when first needed, and kept with it. So it is encoded once for all sessions that share
    a wire. Its size grows with that, and `keeper` is notified. For one wire, it keeps the frame alone, in which the
    body is a part (docs/adr/0030).

    If no session listened to an entry when it came, it is not checked against the catalogue yet. Do not read `audience`
    and `type` before `check`. `unchecked` is the function that checks it.
    """

    TYPE: ClassVar[str] = Event.TYPE

    __slots__ = (
        "_body",
        "_frame",
        "_others",
        "_start",
        "_trail",
        "_unchecked",
        "_wire",
        "at",
        "audience",
        "epoch",
        "keeper",
        "offset",
        "route",
        "size",
        "type",
    )

    def __init__(
        self,
        offset: int,
        route: Route,
        body: bytes,
        at: float,
        epoch: str = "",
        type: str = "",  # noqa: A002  (what the protocol calls it)
        audience: frozenset[Role] | None = None,
        unchecked: Callable[["Entry"], None] | None = None,
    ) -> None:
        self.offset = offset
        self.epoch = epoch
        """The stream's. Empty if it is on no stream."""
        self.route = route
        self._body: bytes | None = body  # None: it is the part of `_frame` between its first and last bytes
        self.at = at
        """When it came, on the clock of `time.monotonic`."""
        self.type = type
        self.audience = audience
        """The roles that may see it. None: every role."""
        self.size = OVERHEAD + len(body)
        """The bytes it takes just now, with everything that was encoded."""
        self.keeper: Keeper | None = None
        self._unchecked = unchecked
        # Mostly there is one wire. A dict for it would take more memory than all of this.
        self._wire: Wire | None = None
        self._frame: bytes  # for that wire, and set with it, as the next three
        self._start: int  # how many bytes of the frame come before the body
        self._trail: int  # and after it
        self._others: dict[Wire, Spliced] | None  # for further wires

    @property
    def cursor(self) -> str | None:
        """The cursor of a client that has everything up to it; None for an ephemeral event."""
        return str(Cursor(self.epoch, self.offset)) if self.offset else None

    @property
    def is_checked(self) -> bool:
        return self._unchecked is None

    @property
    def is_refused(self) -> bool:
        """Whether it was checked and is invalid. No session gets it then."""
        return self._unchecked is None and not self.type

    def check(self) -> None:
        """Check it against the catalogue, unless that has been done."""
        unchecked, self._unchecked = self._unchecked, None
        if unchecked is not None:
            unchecked(self)

    def become(self, body: bytes, type: str, audience: frozenset[Role] | None) -> None:  # noqa: A002
        """Copy the results of its check."""
        grown = len(body) - len(self.body)
        self._body, self.type, self.audience = body, type, audience
        self._grow(grown)

    def refuse(self) -> None:
        """Mark it as invalid."""
        self.become(b"", "", _NO_ROLES)

    @property
    def body(self) -> bytes:
        """The publisher's own JSON."""
        body = self._body
        return self._frame[self._start : len(self._frame) - self._trail] if body is None else body

    def frame(self, wire: Wire) -> bytes:
        """Its bytes for this wire, made once."""
        if wire is self._wire:
            return self._frame
        if self._wire is not None:
            return self._splice(wire)
        before, body, after = wire.encode_event(self)
        self._wire, self._others = wire, None
        frame = self._frame = b"".join((before, body, after))
        if body is self._body:  # it is in the frame now, and is not kept beside it
            self._body = None
            self._start, self._trail = len(before), len(after)
            grown = len(before) + len(after)
        else:
            grown = ENCODED_OVERHEAD + len(frame)
        self.size += grown
        if self.keeper is not None:  # as `_grow`, without the call
            self.keeper.grow(grown)
        return frame

    def _splice(self, wire: Wire) -> bytes:
        """Its bytes for a further wire. All of these share one body."""
        others = self._others = self._others or {}
        if wire not in others:
            if self._body is None:
                self._body = self.body
                self._grow(ENCODED_OVERHEAD + len(self._body))
            before, body, after = others[wire] = wire.encode_event(self)
            own = 0 if body is self._body else len(body)
            self._grow(ENCODED_OVERHEAD + len(before) + own + len(after))
        return b"".join(others[wire])

    def _grow(self, count: int) -> None:
        self.size += count
        if self.keeper is not None:
            self.keeper.grow(count)
