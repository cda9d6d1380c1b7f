"""Which way to take to the gateway: a WebSocket or, where that is blocked, one over plain HTTP."""

from typing import Literal

Way = Literal["websocket", "sse", "poll"]
Transport = Literal["auto", "websocket", "sse", "poll"]

WAYS: tuple[Way, ...] = ("websocket", "sse", "poll")
"""From the best to the last resort."""
_PATIENCE = 2
"""A WebSocket that has worked before is given up only after this many attempts: more likely the gateway is away."""


class Ways:
    """What worked, and what to try next."""

    def __init__(self, transport: Transport) -> None:
        if transport != "auto" and transport not in WAYS:
            raise ValueError(f"transport: expected 'auto', 'websocket', 'sse' or 'poll', got {transport!r}")
        self._possible: tuple[Way, ...] = WAYS if transport == "auto" else (transport,)
        self._proven: Way | None = None
        self._knows_socket = False
        self._failures = 0

    @property
    def first(self) -> Way:
        """The way with which an attempt begins: what worked last, or the best one."""
        return self._order[0]

    def after(self, way: Way) -> Way | None:
        """Return the way to try in the same attempt after this one did not get through. None if there is none."""
        if way == "websocket" and self._knows_socket and self._failures < _PATIENCE:
            return None
        order = self._order
        place = order.index(way) + 1
        return order[place] if place < len(order) else None

    def failed(self, way: Way) -> None:
        if way == "websocket":
            self._failures += 1

    def worked(self, way: Way) -> None:
        self._proven = way
        if way == "websocket":
            self._knows_socket = True
            self._failures = 0

    def is_second_best(self, way: Way) -> bool:
        """Return whether a WebSocket would be better than this way."""
        return way != "websocket" and "websocket" in self._possible

    @property
    def _order(self) -> tuple[Way, ...]:
        if self._proven is None:
            return self._possible
        return (self._proven, *(way for way in self._possible if way != self._proven))
