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
    a wire. Its size grows with that, and `keeper` is notified.

    If no session listened to an entry when it came, it is not checked against the catalogue yet. Do not read `audience`
    and `type` before `check`. `unchecked` is the function that checks it.
    """

    TYPE: ClassVar[str] = Event.TYPE

    __slots__ = (
        "_encoded",
        "_others",
        "_unchecked",
        "_wire",
        "at",
        "audience",
        "body",
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
        self.body = body
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
        self._encoded: Spliced  # for that wire
        self._others: dict[Wire, Spliced] | None  # for further ones; both are set with the first

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
        self.body, self.type, self.audience = body, type, audience
        self._grow(grown)

    def refuse(self) -> None:
        """Mark it as invalid."""
        self.become(b"", "", _NO_ROLES)

    def encoded(self, wire: Wire) -> Spliced:
        """Its bytes for this wire, made once."""
        if wire is self._wire:
            return self._encoded
        if self._wire is None:
            self._wire, self._encoded, self._others = wire, wire.encode_event(self), None
            encoded = self._encoded
        else:
            others = self._others = self._others or {}
            if wire in others:
                return others[wire]
            encoded = others[wire] = wire.encode_event(self)
        before, body, after = encoded
        grown = ENCODED_OVERHEAD + len(before) + len(after)
        if body is not self.body:  # else it is counted already
            grown += len(body)
        self._grow(grown)
        return encoded

    def _grow(self, count: int) -> None:
        self.size += count
        if self.keeper is not None:
            self.keeper.grow(count)
