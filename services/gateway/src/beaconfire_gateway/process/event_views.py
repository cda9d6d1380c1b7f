"""Show operators events of the stream, with their payloads: one by its offset, or each as it comes.

    GET /api/v1/ws/events/OFFSET
    GET /api/v1/ws/tail?room=ROOM&type=TYPE&user=USER&after=OFFSET

Both need the operator token. The tail reads the ring, so events are delivered as if nobody looked at them
(docs/adr/0084).
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web

from beaconfire_gateway.fanout.checking import NOT_EVENTS, Checker, Stored
from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.process.session_views import names_of
from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.stream.replay import Reader
from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.invalid_event import InvalidEvent
from beaconfire_kit.operator_tokens import OperatorToken
from beaconfire_kit.reading import ReadFailed
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import InvalidRoom, InvalidSubject, RoomKey, parse_room, parse_subject

EVENT_PATH = "/api/v1/ws/events/{offset}"
TAIL_PATH = "/api/v1/ws/tail"
MAX_TAILS = 8
"""Tails of one process at a time."""
PAGE = 200
PAUSE_S = 0.02
"""After each page: a tail looks at 10,000 events a second at most, and delivery goes on between two pages."""
SIGN_OF_LIFE_S = 10.0
"""An empty line is sent after so much silence, so that both sides notice a lost connection."""
_offset = re.compile("[0-9]{1,18}").fullmatch


@dataclass(frozen=True, slots=True)
class Parts:
    """What the views need, which exists once the broker was reached."""

    gateway: Gateway
    checker: Checker
    reader: Reader


@dataclass(frozen=True, slots=True)
class Wanted:
    """The events that a tail shows: in any of the rooms, of any of the types, caused by the user. Empty: all."""

    rooms: frozenset[str]
    types: frozenset[str]
    user: str

    def has(self, entry: Entry, message: Any) -> bool:
        """Whether the tail shows an event. `message` is its parsed JSON."""
        return self.may_have(entry) and (not self.user or (message.get("metadata") or {}).get("userId") == self.user)

    def may_have(self, entry: Entry) -> bool:
        """The same, without a look at its JSON."""
        if self.types and entry.type not in self.types:
            return False
        return not self.rooms or any(name in self.rooms for room in entry.route.rooms for name in names_of(room))


class EventViews:
    """Shows operators events. `parts` returns None before the broker was reached."""

    def __init__(self, token: OperatorToken, parts: Callable[[], Parts | None]) -> None:
        self._token = token
        self._parts = parts
        self._tails = 0

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(EVENT_PATH, self._token.guarded(self.event)),
            web.get(TAIL_PATH, self._token.guarded(self.tail)),
        ]

    async def event(self, request: web.Request) -> web.Response:
        """Answer with the message at an offset, and whether it is a valid event. 404 if the stream has none there."""
        parts, text = self._there(), request.match_info["offset"]
        if _offset(text) is None:
            raise BeaconfireError(errors.BAD_REQUEST, f"{text[:40]!r} is no offset: it is a number")
        offset = int(text)
        try:
            found = await parts.reader.get_dated(offset)
        except ReadFailed:
            raise BeaconfireError(
                errors.UNAVAILABLE, "the broker does not answer, try again", retry_after_ms=1000
            ) from None
        if found is None:
            raise BeaconfireError(errors.NOT_FOUND, f"the stream has nothing at the offset {offset}")
        stored, at = found
        answer = {
            "offset": offset,
            "epoch": parts.gateway.epoch,
            "position": parts.gateway.position,
            "storedAt": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            **_checked(parts, offset, stored),
        }
        return web.Response(body=orjson.dumps(answer), content_type="application/json", charset="utf-8")

    async def tail(self, request: web.Request) -> web.StreamResponse:
        """Answer with a line of JSON for each event to come, or after `?after=`, until the operator leaves.

        A line `{"skipped": n}` stands for offsets that left the ring before they could be shown.
        """
        parts, wanted = self._there(), _wanted(request)
        after = request.query.get("after", "")
        if after and _offset(after) is None:
            raise BeaconfireError(errors.BAD_REQUEST, f"after: {after[:40]!r} is no offset: it is a number")
        if self._tails >= MAX_TAILS:
            raise BeaconfireError(errors.TOO_MANY, f"this process has {MAX_TAILS} tails already: end one")
        self._tails += 1
        try:
            response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "X-Accel-Buffering": "no"})
            await response.prepare(request)
            with suppress(ConnectionError):  # the operator has left
                async for line in _lines(parts.gateway, wanted, int(after) if after else parts.gateway.position):
                    await response.write(line)
            return response
        finally:
            self._tails -= 1

    def _there(self) -> Parts:
        parts = self._parts()
        if parts is None:
            raise BeaconfireError(errors.UNAVAILABLE, "starting, try again", retry_after_ms=1000)
        return parts


class _Alarm:
    """Set when the gateway has reached an offset. Implements `offset_waiters.Waiter`."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._is_waiting = False

    def wake(self) -> None:
        self._is_waiting = False
        self._event.set()

    async def wait(self, gateway: Gateway, offset: int) -> bool:
        """Wait until the gateway has reached the offset, or goes on elsewhere. False if nothing came for a while."""
        if gateway.position >= offset:
            return True
        if not self._is_waiting:
            self._event.clear()
            self._is_waiting = True
            gateway.waiters.add(self, offset)
        try:
            async with asyncio.timeout(SIGN_OF_LIFE_S):
                await self._event.wait()
        except TimeoutError:
            return False
        return True


async def _lines(gateway: Gateway, wanted: Wanted, after: int) -> AsyncIterator[bytes]:
    alarm, epoch = _Alarm(), gateway.epoch
    yield b"\n"  # the operator knows by it that the tail has begun
    while True:
        if gateway.epoch != epoch:
            epoch, after = gateway.epoch, gateway.ring.floor
        if after < gateway.ring.floor:
            yield orjson.dumps({"skipped": gateway.ring.floor - after}) + b"\n"
            after = gateway.ring.floor
        page = gateway.ring.after(after, PAGE)
        if page:
            after = page[-1].offset
            if lines := b"".join(_shown(page, wanted)):
                yield lines
            await asyncio.sleep(PAUSE_S)
        elif not await alarm.wait(gateway, max(after, gateway.position) + 1):
            yield b"\n"


def _shown(page: Sequence[Entry], wanted: Wanted) -> Iterable[bytes]:
    for entry in page:
        entry.check()
        if entry.is_refused or not wanted.may_have(entry):
            continue
        message = orjson.loads(entry.body)
        if wanted.has(entry, message):
            yield (
                orjson.dumps(
                    {
                        "offset": entry.offset,
                        "cursor": entry.cursor,
                        "subject": entry.route.subject,
                        "rooms": list(map(str, entry.route.rooms)),
                        "type": entry.type,
                        "audience": _audience(entry.audience),
                        "event": message,
                    }
                )
                + b"\n"
            )


def _checked(parts: Parts, offset: int, stored: Stored) -> dict[str, Any]:
    """Return what is known of a stored message: its rooms, and its type or why it is no valid event."""
    shown: dict[str, Any] = {
        "subject": stored.subject,
        "isEvent": stored.subject not in NOT_EVENTS,
        "rooms": list(map(str, _rooms(stored.subject))),
        "event": _json(stored.body),
    }
    if not shown["isEvent"]:
        return shown
    try:
        entry = parts.checker.check(parts.gateway.epoch, offset, stored)
    except InvalidEvent as error:
        return {**shown, "isValid": False, "reason": error.reason, "detail": error.detail}
    return {
        **shown,
        "isValid": True,
        "type": entry.type,
        "audience": _audience(entry.audience),
        "windowMs": parts.gateway.conflation.window_ms(entry.type),
        "event": _json(entry.body),
    }


def _rooms(subject: str) -> Sequence[RoomKey]:
    try:
        return parse_subject(subject).rooms
    except InvalidSubject:
        return ()


def _json(body: bytes) -> Any:
    """Return the parsed body, or its text if it is no JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode(errors="replace")


def _audience(roles: frozenset[Role] | None) -> list[str] | None:
    return None if roles is None else sorted(role.value for role in roles)


def _wanted(request: web.Request) -> Wanted:
    names = request.query.getall("room", [])
    try:
        rooms = frozenset(str(parse_room(name)) for name in names)
    except InvalidRoom as error:
        raise BeaconfireError(errors.BAD_ROOM, f"room: {error}") from None
    return Wanted(rooms, frozenset(request.query.getall("type", [])), request.query.get("user", ""))
