"""A connection over plain HTTP that looks like a socket: the same messages in and out (PROTOCOL.md §9).

It hears through a stream of server-sent events or through long polls. Both start at the client's cursor and name the
rooms, so the gateway keeps nothing for this client in between. What the client sends goes into a short poll of its own,
and the answer has the replies.

The caller does the I/O. It repeats: call `next_request`, make the request, and give what came to `heard` or `polled`.
If `send` returns True, a request that waits is out of date, and is given up.
"""

import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from beaconfire_client.core.event_stream import StreamEvent
from beaconfire_client.core.protocol import BROKE_OFF, Frame, Message, read_frames, retry_of_error

SLACK_S = 10.0
"""How long an answer may take beyond the time that the gateway waits."""
_WRITES_EVERY_S = 15
"""A gateway writes something into a stream after so many seconds, or each heartbeat if that is less."""
_MAX_TRIES = 3
"""How often a message is sent again if an answer lacks its reply."""
_MAX_WAIT_S = 60


@dataclass(frozen=True, slots=True)
class Request:
    """A POST to a path of the gateway. `timeout_s` is for the answer or, in a stream, for each piece of it."""

    path: Literal["sse", "poll", "sse/messages"]
    body: Message
    timeout_s: float


class LinkEnded(Exception):
    """The connection has ended with a close code."""

    def __init__(self, code: int, reason: str, error: Mapping[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.error = error


@dataclass(slots=True)
class _Outgoing:
    message: Message
    tries: int = 0


@dataclass(slots=True)
class HttpLink:
    """One connection, from its `connect` to its end."""

    way: Literal["sse", "poll"]
    token: str = ""
    _about_client: Message = field(default_factory=dict)
    """What only the first request says."""
    _about_user: Message = field(default_factory=dict)
    """Whether to tell who is in the rooms, and the user's status."""
    _cursor: str | None = None
    _session_id: str | None = None
    _rooms: dict[str, Any] = field(default_factory=dict)
    """The rooms it is in, with the wanted types; None for all."""
    _outbox: deque[_Outgoing] = field(default_factory=deque)
    """What the client sent, until it is answered."""
    _ready: list[Frame] = field(default_factory=list)
    """Answers that the link gives itself."""
    _wait_s: int = 25
    _is_degraded: bool = False
    _is_acknowledged: bool = False
    _is_streaming: bool = False
    """Whether a stream is open, whose session takes messages."""

    def send(self, message: Message) -> bool:
        """Take a message of the client. Returns whether a request that waits must be given up for it."""
        kind = message["type"]
        if kind == "connect":
            self._start(message)
            return False
        if kind == "refresh":
            self.token = message["token"]
            self._reply(message)
        elif kind == "presence":
            self._about_user["status"] = message["status"]
            self._reply(message)
        elif kind == "unsubscribe" and not self._outbox:
            self._leave(message)
        else:
            if message.get("presence"):
                self._about_user["presence"] = True
            self._outbox.append(_Outgoing(message))
        return True

    def next_request(self) -> Request:
        """Return what to ask the gateway now."""
        self._is_streaming = False
        if self._outbox:
            for one in self._outbox:
                one.tries += 1
            if any(one.tries > _MAX_TRIES for one in self._outbox):
                raise LinkEnded(BROKE_OFF, "No reply to a message")
            return self._poll(0, messages=[one.message for one in self._outbox])
        if self.way == "sse":
            # A stream that is silent for twice that time is dead.
            return Request("sse", self._body(), 2.0 * min(_WRITES_EVERY_S, self._wait_s))
        return self._poll(self._wait_s if self._is_acknowledged else 0)  # the ack must not wait for an event

    def beside(self, message: Message) -> Request | None:
        """Return how to send a message while the stream stays open, or None if it is sent in another way.

        The reply comes in the stream. If the answer is not 202, that session is gone: call `went_wrong`.
        """
        if message["type"] != "typing" or not self._is_streaming:
            return None
        return Request("sse/messages", {"sessionId": self._session_id, "messages": [message]}, SLACK_S)

    def went_wrong(self, message: Message) -> None:
        """A message could not be sent beside the stream. The request that waits is out of date."""
        self._is_streaming = False
        error = {"code": "unavailable", "message": "The stream's session is gone"}
        self._ready.append({"type": "reply", "id": message["id"], "success": False, "error": error})

    def ready(self) -> list[Frame]:
        """Return answers that need no request."""
        frames, self._ready = self._ready, []
        return frames

    def heard(self, event: StreamEvent) -> list[Frame]:
        """Take an event of the stream. Raises LinkEnded at the last one."""
        if event.name == "connection.ack":
            self._is_streaming = True
        elif event.name == "close":
            end = json.loads(event.data)
            raise LinkEnded(end["code"], end.get("reason") or "")
        frames = [one for frame in read_frames(event.data) for one in self._receive(frame)]
        if event.id:
            self._cursor = event.id
        return frames

    def polled(self, answer: Mapping[str, Any]) -> tuple[list[Frame], LinkEnded | None]:
        """Take the answer to a poll. Returns the messages in it, and whether the connection has ended with them."""
        frames = [one for frame in answer["messages"] for one in self._receive(frame)]
        if error := answer.get("error"):
            return frames, LinkEnded(4500, error["message"], error)
        self._cursor = answer["cursor"]
        return [*frames, {"type": "position", "cursor": answer["cursor"]}], None

    def refused(self, status: int, error: object) -> LinkEnded:
        """Return how a refused request ends the connection. `error` is what the answer says, if it is an object.

        What a proxy says, or a gateway without this way, is only about this way.
        """
        is_ours = isinstance(error, dict) and isinstance(error.get("code"), str) and status not in (404, 405)
        if not is_ours:
            return LinkEnded(BROKE_OFF, f"HTTP {status}")
        assert isinstance(error, dict)
        return LinkEnded(4000 + status, str(error.get("message", "")), error)

    def last_words(self, end: LinkEnded) -> Iterable[Frame]:
        """Return the `error` that comes before a close, if the connection was never acknowledged."""
        return [{**end.error, "type": "error"}] if end.error and not self._is_acknowledged else []

    def _start(self, connect: Message) -> None:
        self.token = connect["token"]
        self._about_client = {key: connect[key] for key in ("client", "lastClose", "awayMs") if key in connect}
        self._about_user = {key: connect[key] for key in ("presence", "status") if key in connect}
        self._session_id = connect.get("replaces")
        self._cursor = connect.get("cursor")
        types = connect.get("types", {})
        self._rooms = {room: types.get(room) for room in connect["rooms"]}

    def _leave(self, message: Message) -> None:
        """Leave rooms: the next request does not name them."""
        for room in message["rooms"]:
            self._rooms.pop(room, None)
        self._reply(message, rooms={room: {"success": True} for room in message["rooms"]})

    def _reply(self, message: Message, **fields: Any) -> None:
        self._ready.append({"type": "reply", "id": message["id"], "success": True, **fields})

    def _poll(self, wait_s: int, **fields: Any) -> Request:
        return Request("poll", {**self._body(), "waitS": wait_s, **fields}, wait_s + SLACK_S)

    def _body(self) -> Message:
        narrowed = {room: types for room, types in self._rooms.items() if types is not None}
        return {
            "rooms": list(self._rooms),
            **({"types": narrowed} if narrowed else {}),
            **({"cursor": self._cursor} if self._cursor else {}),
            **({"replaces": self._session_id} if self._session_id else {}),
            **self._about_client,
            **self._about_user,
        }

    def _receive(self, frame: Frame) -> list[Frame]:
        match frame["type"]:
            case "connection.ack":
                return self._acknowledged(frame)
            case "room.left":
                self._rooms.pop(frame["room"], None)
            case "degraded" | "live":
                self._is_degraded = frame["type"] == "degraded"
            case "reply" | "error":
                self._answered(frame)
            case "resync":
                self._cursor = frame["cursor"]
        return [frame]

    def _acknowledged(self, ack: Frame) -> list[Frame]:
        """The client gets the first ack. From a later one it gets what has changed."""
        self._session_id = ack["sessionId"]
        self._about_client = {}
        self._wait_s = max(1, min(_MAX_WAIT_S, int(ack["heartbeatS"])))
        if self._cursor is None:
            self._cursor = ack["cursor"]
        refused = {room: answer for room, answer in ack["rooms"].items() if not answer["success"]}
        for room in refused:
            self._rooms.pop(room, None)
        was_degraded, self._is_degraded = self._is_degraded, ack["degraded"] is True
        if not self._is_acknowledged:
            self._is_acknowledged = True
            return [ack]
        frames: list[Frame] = [_left(room, answer) for room, answer in refused.items()]
        frames += [
            {"type": "presence", "room": answer.get("room", room), **answer["presence"]}
            for room, answer in ack["rooms"].items()
            if "presence" in answer
        ]
        if self._is_degraded and not was_degraded:
            frames.append({"type": "degraded", "reason": "broker_unreachable"})
        elif was_degraded and not self._is_degraded:
            frames.append({"type": "live"})
        return frames

    def _answered(self, answer: Frame) -> None:
        sent = next((one for one in self._outbox if one.message["id"] == answer.get("id")), None)
        if sent is None:
            return
        self._outbox.remove(sent)
        for room, one in (answer.get("rooms") or {}).items():
            if one["success"] and sent.message["type"] == "subscribe":
                self._rooms[room] = sent.message.get("types")
            else:
                self._rooms.pop(room, None)


def _left(room: str, answer: Mapping[str, Any]) -> Frame:
    code = (answer.get("error") or {}).get("code", "")
    reason = "lease_expired" if retry_of_error(code) == "backoff" else "membership_removed"
    return {"type": "room.left", "room": room, "reason": reason}
