"""A gateway as PROTOCOL.md describes it, without a network: sessions with rooms, and one stream of events."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from beaconfire_client.core.protocol import Frame, Message

EPOCH = "epoch"
LIMITS = {"maxFrameBytes": 1024, "maxRooms": 100, "messagesPerMinute": 100_000, "roomsPerMinute": 100_000}
UNAVAILABLE = {"code": "unavailable", "message": "auth does not answer"}
TOO_MANY = {"code": "too_many", "message": "too many", "retryAfterMs": 500}


@dataclass
class Session:
    rooms: set[str] = field(default_factory=set)
    incoming: deque[Message] = field(default_factory=deque)
    outgoing: deque[Frame] = field(default_factory=deque)
    is_connected: bool = False


class ImaginedGateway:
    """`events` has the rooms of each event; an event's offset is its place there, from 1."""

    def __init__(self) -> None:
        self.events: list[tuple[str, ...]] = []
        self.sessions: dict[int, Session] = {}
        self.refused: set[str] = set()
        """The rooms that it cannot decide about at the moment."""
        self.is_busy = False
        """Whether it refuses messages about rooms as a whole."""

    @property
    def end(self) -> int:
        return len(self.events)

    def publish(self, *rooms: str) -> None:
        self.events.append(rooms)
        for session in self.sessions.values():
            if session.is_connected and session.rooms & set(rooms):
                session.outgoing.append(self._event(self.end))

    def expire(self, link: int, room: str) -> None:
        """The lease of a room ends."""
        session = self.sessions[link]
        if room in session.rooms:
            session.rooms.discard(room)
            session.outgoing.append({"type": "room.left", "room": room, "reason": "lease_expired"})

    def handle(self, link: int) -> None:
        """Handle the next message of a session."""
        session = self.sessions[link]
        message = session.incoming.popleft()
        match message["type"]:
            case "connect":
                self._connect(session, message)
            case "subscribe" if self.is_busy:
                self._reply(session, message, error=TOO_MANY, success=False)
            case "unsubscribe" if self.is_busy:
                self._reply(session, message, error=TOO_MANY, success=False)
            case "subscribe":
                self._subscribe(session, message)
            case "unsubscribe":
                session.rooms -= set(message["rooms"])
                self._reply(session, message, rooms={room: {"success": True} for room in message["rooms"]})
            case _:
                self._reply(session, message)

    def _connect(self, session: Session, message: Message) -> None:
        answers = {room: self._answer(room) for room in message["rooms"]}
        session.rooms = {room for room, answer in answers.items() if answer["success"]}
        session.is_connected = True
        cursor = message.get("cursor", f"{EPOCH}:{self.end}")
        session.outgoing.append(
            {
                "type": "connection.ack",
                "id": message["id"],
                "sessionId": "session",
                "userId": "u1",
                "cursor": cursor,
                "heartbeatS": 25,
                "limits": LIMITS,
                "degraded": False,
                "rooms": answers,
            }
        )
        session.outgoing += self._since(cursor, session.rooms)

    def _subscribe(self, session: Session, message: Message) -> None:
        answers = {room: self._answer(room) for room in message["rooms"]}
        allowed = {room for room, answer in answers.items() if answer["success"]}
        if "cursor" in message:
            session.rooms -= set(message["rooms"])
            for event in self._since(message["cursor"], allowed):
                restored = {"type": "restored", "id": message["id"], "rooms": sorted(allowed), "events": [event]}
                session.outgoing.append(restored)
        session.rooms |= allowed
        self._reply(session, message, rooms=answers, cursor=f"{EPOCH}:{self.end}")

    def _answer(self, room: str) -> dict[str, Any]:
        return {"success": False, "error": UNAVAILABLE} if room in self.refused else {"success": True}

    def _reply(self, session: Session, message: Message, *, success: bool = True, **fields: Any) -> None:
        session.outgoing.append({"type": "reply", "id": message["id"], "success": success, **fields})

    def _since(self, cursor: str, rooms: set[str]) -> list[Frame]:
        offset = int(cursor.rpartition(":")[2])
        return [self._event(one) for one in range(offset + 1, self.end + 1) if set(self.events[one - 1]) & rooms]

    def _event(self, offset: int) -> Frame:
        rooms = self.events[offset - 1]
        body = {"id": f"e{offset}", "type": "t", "version": 1, "payload": {}, "metadata": {"source": "test"}}
        return {"type": "event", "offset": offset, "rooms": list(rooms), "event": body}
