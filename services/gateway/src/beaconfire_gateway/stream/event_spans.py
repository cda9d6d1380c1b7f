"""Make one span of each traced event, from hearing it until it is written to the sockets. Used while traces are on.

It wraps `Delivery`, which does not know of it. So while traces are off, an event takes the same steps as without this
file. While they are on, an event that is not sampled costs one search for a word.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from beaconfire_gateway.fanout.checking import Stored
from beaconfire_gateway.stream.delivery import SetAside
from beaconfire_kit.cursor import Cursor
from beaconfire_kit.invalid_event import InvalidEvent
from beaconfire_kit.trace_context import carried_by

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from beaconfire_kit.spans import Spans

Deliver = Callable[[int, Stored], None]
MAX_UNWRITTEN = 1_000
"""Traced events that wait to be written. Further ones are delivered untraced."""


class Writes(Protocol):
    """What is known of the writes to sessions (`Outbound`)."""

    frames_sent: int

    @property
    def settled(self) -> int: ...


class EventSpans:
    """Delivers events, with a span for each that is sampled.

    Later writes are not part of it: those to sessions that catch up, and those of events that are held to be replaced
    by a later one.
    """

    def __init__(self, spans: "Spans", writes: Writes, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._spans = spans
        self._writes = writes
        self._call_soon = call_soon
        self._current: Span | None = None
        self._unwritten: deque[tuple[int, Span]] = deque()

    def around(self, deliver: Deliver) -> Deliver:
        """Return what delivers as `deliver` does, and makes the spans."""

        def traced(offset: int, stored: Stored) -> None:
            event = carried_by(stored.body)
            if event is None or len(self._unwritten) >= MAX_UNWRITTEN:
                deliver(offset, stored)
                return
            span = self._current = self._spans.delivering(offset, stored.subject, event)
            before = self._writes.frames_sent
            try:
                deliver(offset, stored)
            except Exception as error:
                if span is not None:
                    self._spans.fail(span, type(error).__qualname__)
                raise
            finally:
                self._current = None
                if span is not None:
                    span.set_attribute("beaconfire.sessions", self._writes.frames_sent - before)
                    self._await_write(offset, span)

        return traced

    def setting_aside(self, set_aside: SetAside) -> SetAside:
        """Return what sets aside as `set_aside` does, and marks the span of the invalid event."""

        def traced(error: InvalidEvent, subject: str, body: bytes, cursor: Cursor | None) -> None:
            if self._current is not None:
                self._spans.fail(self._current, error.reason)
            set_aside(error, subject, body, cursor)

        return traced

    def _await_write(self, offset: int, span: "Span") -> None:
        if not self._unwritten:
            self._call_soon(self._look)
        self._unwritten.append((offset, span))

    def _look(self) -> None:
        """End the spans of events that are written. Until then the writes take a turn of the loop each, too."""
        settled = self._writes.settled
        while self._unwritten and self._unwritten[0][0] <= settled:
            self._unwritten.popleft()[1].end()
        if self._unwritten:
            self._call_soon(self._look)
