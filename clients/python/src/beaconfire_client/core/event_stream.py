"""Reads server-sent events from text in pieces, as `EventSource` does (HTML §9.2.6)."""

import re
from dataclasses import dataclass

_LINE_END = re.compile(r"\r\n|\n|\r(?!\Z)")


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event of a stream. `id` is the last id that the stream gave."""

    name: str
    data: str
    id: str


class EventStreamReader:
    """Give it text as it comes; it returns the events that are complete."""

    def __init__(self) -> None:
        self._rest = ""
        self._name = ""
        self._id = ""
        self._data: list[str] = []

    def read(self, text: str) -> list[StreamEvent]:
        *lines, self._rest = _LINE_END.split(self._rest + text)
        return [event for line in lines if (event := self._take(line)) is not None]

    def _take(self, line: str) -> StreamEvent | None:
        if not line:
            return self._end()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
        elif field == "id":
            self._id = value
        return None

    def _end(self) -> StreamEvent | None:
        event = StreamEvent(self._name or "message", "\n".join(self._data), self._id) if self._data else None
        self._name = ""
        self._data = []
        return event
