"""Answer backends who is in a room, and operators how many users each room has.

    GET /v1/presence?room=workspace:w1        on the port for clients, with a service token
    GET /api/v1/ws/occupancy                  on the operations port

Both are about the whole deployment, whichever gateway answers.
"""

import re
from collections.abc import Callable
from heapq import nsmallest
from typing import Any

from aiohttp import web

from beaconfire_gateway.presence.attendance import GatewayAttendance
from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.transports.admission import Admission
from beaconfire_gateway.wire.messages import Person
from beaconfire_kit import errors
from beaconfire_kit.access import TokenRefused, refusing_invalid_tokens
from beaconfire_kit.authorization import Auth, AuthorizeRequest, offer
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.sent_events import subject_of_room
from beaconfire_kit.subjects import InvalidRoom, RoomKey, parse_room
from beaconfire_kit.tokens import ServiceClaims, may_publish
from beaconfire_kit.verifier import Verifier
from beaconfire_kit.web import bearer_token, json_answer

ROUTE = "GET /v1/presence"
OCCUPANCY_PATH = "/api/v1/ws/occupancy"
MAX_USERS = 1_000
"""The most users in an answer. The next page begins `after` the last one."""
DEFAULT_USERS = 100
MAX_ROOMS_LISTED = 1_000
_whole = re.compile("[0-9]{1,6}").fullmatch


class ForBackends:
    """Answers services. Their token must allow publishing on the room's own subject."""

    def __init__(
        self, gateway: Gateway, attendance: GatewayAttendance, admission: Admission, verifier: Verifier, auth: Auth
    ) -> None:
        self._gateway = gateway
        self._attendance = attendance
        self._admission = admission
        self._verifier = verifier
        self._auth = auth

    async def handle(self, request: web.Request) -> web.Response:
        """The aiohttp handler. Raises BeaconfireError: 400, 401, 403, 404, 429 or 503."""
        claims = await self._service(request)
        room = self._room(request.query.get("room", ""))
        if not may_publish(claims, subject_of_room(room)):
            text = f"this token may not ask about {room}: it needs {subject_of_room(room)}"
            raise BeaconfireError(errors.FORBIDDEN, text)
        limit, after = _limit(request.query.get("limit", str(DEFAULT_USERS))), request.query.get("after", "")
        self._attendance.activate()
        if not self._attendance.is_settled:
            text = "this gateway has only just begun to count who is here: ask again"
            raise BeaconfireError(errors.UNAVAILABLE, text, retry_after_ms=1_000)
        roster, name = self._attendance.node.roster, str(room)
        found = nsmallest(limit + 1, (user for user in roster.users(name) if user > after))
        people = [roster.person(name, user) for user in found[:limit]]
        answer: dict[str, Any] = {
            "room": name,
            "count": roster.count(name),
            "users": [_plain(one) for one in people if one is not None],
        }
        if len(found) > limit:
            answer["after"] = found[limit - 1]
        return json_answer(answer)

    async def _service(self, request: web.Request) -> ServiceClaims:
        """The service that asks. Its token is valid and was not revoked."""
        token = bearer_token(request)
        try:
            with refusing_invalid_tokens(token):
                claims = await self._verifier.verify_service(token)
        except TokenRefused as refused:
            self._admission.count_attempt(request, refused)
            raise
        offer(claims, token)
        asked = AuthorizeRequest(user_id=claims.service, service_token=claims.token_id)
        if (await self._auth.authorize(asked)).revoked:
            raise BeaconfireError(errors.TOKEN_INVALID, "the service's token was revoked")
        return claims

    def _room(self, name: str) -> RoomKey:
        catalogue = self._gateway.catalogue.known
        try:
            room = parse_room(name).key(catalogue.root_kinds)
        except InvalidRoom as error:
            raise BeaconfireError(errors.BAD_ROOM, f"room: {error}") from None
        if room is None:
            raise BeaconfireError(errors.BAD_ROOM, f"room: name its root, as in workspace:w1/{name}")
        if not self._attendance.covers(room):
            text = f"room: roots of the kind {room.root.kind} have no presence in the catalogue"
            raise BeaconfireError(errors.NOT_FOUND, text)
        return room


def occupancy(attendance: Callable[[], GatewayAttendance | None]) -> web.RouteDef:
    """The route for operators. `attendance` returns None before the gateway has started."""

    async def answer(_request: web.Request) -> web.Response:
        known = attendance()
        roster = None if known is None else known.node.roster
        sizes = [] if roster is None else sorted(roster.sizes(), key=lambda one: (-one[1], one[0]))
        return json_answer(
            {
                "isCounting": known is not None and known.is_active,
                "isComplete": known is not None and known.is_settled,
                "gateways": 0 if known is None else len(known.node.peers) + known.is_active,
                "rooms": len(sizes),
                "usersPerRoom": dict(sizes[:MAX_ROOMS_LISTED]),
            }
        )

    return web.get(OCCUPANCY_PATH, answer)


def _plain(person: Person) -> dict[str, Any]:
    return {"userId": person.user_id, "status": person.status, "devices": person.devices}


def _limit(text: str) -> int:
    if _whole(text) is None or not 1 <= int(text) <= MAX_USERS:
        raise BeaconfireError(errors.BAD_REQUEST, f"limit: expected a number from 1 to {MAX_USERS}, not {text[:20]!r}")
    return int(text)
