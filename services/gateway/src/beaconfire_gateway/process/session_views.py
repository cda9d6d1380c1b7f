"""Answer operators which sessions this gateway has, and what each of them hears (docs/reference/http.md, "Operations").

    GET /api/v1/ws/sessions?user=USER&room=ROOM&limit=100&after=SESSION_ID

`beaconfire sessions` and `beaconfire why` ask it. Everything is read from the sessions when it is asked for.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from heapq import nsmallest
from typing import Any

from aiohttp import web

from beaconfire_gateway.sessions.beginnings import Beginning
from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.session import Session, State
from beaconfire_gateway.sessions.subscription import Subscription
from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.subjects import InvalidRoom, RoomKey, parse_room
from beaconfire_kit.web import json_answer

SESSIONS_PATH = "/api/v1/ws/sessions"
DEFAULT_SESSIONS = 100
MAX_SESSIONS = 1_000
"""The most sessions in an answer. The next page begins `after` the last one."""
MAX_ROOMS_OF_EACH = 20
"""Rooms listed for each session. An answer about one user lists them all."""
_whole = re.compile("[0-9]{1,6}").fullmatch


class SessionViews:
    """Answers operators about the sessions of this process.

    `gateway` returns None before the broker was reached. `why_not_ready` is what `/readyz` says.
    """

    def __init__(self, gateway: Callable[[], Gateway | None], why_not_ready: Callable[[], str | None]) -> None:
        self._gateway = gateway
        self._why_not_ready = why_not_ready

    def routes(self) -> list[web.RouteDef]:
        return [web.get(SESSIONS_PATH, self.sessions)]

    async def sessions(self, request: web.Request) -> web.Response:
        """Answer with the sessions of `?user=`, in any of `?room=`, or all, sorted by id."""
        asked = request.query
        user, rooms = asked.get("user"), [_parsed(name) for name in asked.getall("room", [])]
        limit, after = _limit(asked.get("limit", str(DEFAULT_SESSIONS))), asked.get("after", "")
        gateway, why_not = self._gateway(), self._why_not_ready()
        if gateway is None:
            return json_answer({"gateways": [{"status": why_not, "sessions": 0}], "total": 0, "sessions": []})
        hub = gateway.hub
        candidates = hub.all_sessions() if user is None else hub.sessions_of(user)
        found = [one for one in candidates if not rooms or _is_in(one, rooms)]
        page = nsmallest(limit, (one for one in found if one.id > after), key=lambda one: one.id)
        most = None if user is not None else MAX_ROOMS_OF_EACH
        answer = {
            "gateways": [_of_gateway(gateway, why_not)],
            "total": len(found),
            "sessions": [_of_session(gateway, one, most_rooms=most) for one in page],
        }
        return json_answer(answer)


def merged(answers: Mapping[int, Mapping[str, Any]], *, limit: int) -> dict[str, Any]:
    """Return the answers of several workers as one. Everything in it names its `worker`."""
    sessions = [{**one, "worker": worker} for worker, answer in answers.items() for one in answer["sessions"]]
    return {
        "gateways": [{**one, "worker": worker} for worker, answer in answers.items() for one in answer["gateways"]],
        "total": sum(answer["total"] for answer in answers.values()),
        "sessions": sorted(sessions, key=lambda one: str(one["sessionId"]))[:limit],
    }


def limit_of(query: Mapping[str, str]) -> int:
    """Return how many sessions are asked for. Raises BeaconfireError."""
    return _limit(query.get("limit", str(DEFAULT_SESSIONS)))


def _of_gateway(gateway: Gateway, why_not: str | None) -> dict[str, Any]:
    return {
        "processId": gateway.process_id,
        "status": why_not or "ready",
        "epoch": gateway.epoch,
        "position": gateway.position,
        "ringFloor": gateway.ring.floor,
        "sessions": gateway.hub.sessions,
    }


def _of_session(gateway: Gateway, session: Session, *, most_rooms: int | None) -> dict[str, Any]:
    offset, claims, rooms = session.offset, session.claims, list(session.rooms.items())
    return {
        "sessionId": session.id,
        "userId": session.user_id,
        "address": session.address,
        "transport": session.connection.transport,
        "dialect": session.wire.dialect_name,
        "state": _state(session),
        "offset": offset,
        "behind": gateway.position - offset,
        "isFull": session.is_full,
        "tokenExpiresAt": None if claims is None else _time(claims.expires_at),
        "roomCount": len(rooms),
        "rooms": [_of_room(gateway, session, name, one) for name, one in rooms[:most_rooms]],
    }


def _of_room(gateway: Gateway, session: Session, name: str, subscription: Subscription) -> dict[str, Any]:
    types = subscription.types
    began = gateway.beginnings.of(session.id, name)
    return {
        "name": name,
        "room": str(subscription.room),
        "role": subscription.role.value,
        "types": None if types is None else sorted(types),
        "began": [_of_beginning(one) for one in began],
    }


def _of_beginning(beginning: Beginning) -> dict[str, Any]:
    return {"how": beginning.how.name.lower(), "after": beginning.after, "position": beginning.position}


def _state(session: Session) -> str:
    """Return `live`, `catching_up`, or `held` while auth is asked what it may hear."""
    if session.behind is not None and session.behind.is_held:
        return "held"
    return "catching_up" if session.state is State.CATCHING_UP else "live"


def _parsed(name: str) -> str:
    """Return a valid name of a room. Raises BeaconfireError."""
    try:
        return str(parse_room(name))
    except InvalidRoom as error:
        raise BeaconfireError(errors.BAD_ROOM, f"room: {error}") from None


def _is_in(session: Session, names: Sequence[str]) -> bool:
    """Whether the session is in a room with one of these names, long or short."""
    return any(name in names_of(one.room) for one in session.rooms.values() for name in names)


def names_of(room: RoomKey) -> Iterable[str]:
    """Return the long and the short name of a room."""
    return (str(room), str(room.pair))


def _limit(text: str) -> int:
    if _whole(text) is None or not 1 <= int(text) <= MAX_SESSIONS:
        raise BeaconfireError(
            errors.BAD_REQUEST, f"limit: expected a number from 1 to {MAX_SESSIONS}, not {text[:20]!r}"
        )
    return int(text)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
