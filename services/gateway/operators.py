"""What operators may ask a gateway, on the operations port only (docs/reference/http.md, "Operations")."""

from dataclasses import asdict

from aiohttp import web
from pydantic.alias_generators import to_camel

from services.gateway.hub import Hub
from services.gateway.limits import Doorkeeper, Limits, Users
from services.gateway.session import LIMITED, Session
from shared import errors, logs
from shared.errors import BeaconfireError
from shared.web import json_answer

log = logs.get(__name__)

MAX_ROOMS_LISTED = 1_000
MAX_ADDRESSES_LISTED = 100


class Operators:
    """Figures of this process, and a hand for one client."""

    def __init__(self, hub: Hub[Session], limits: Limits, users: Users, door: Doorkeeper) -> None:
        self._hub = hub
        self._limits = limits
        self._users = users
        self._door = door

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v1/ws/stats", self.stats),
            web.get("/api/v1/ws/users/{user_id}/clients", self.clients),
            web.post("/api/v1/ws/clients/{session_id}/reset-limits", self.reset_limits),
        ]

    async def stats(self, _request: web.Request) -> web.Response:
        """Clients, users and rooms; the largest rooms by name; the limits, and how often each refused something."""
        sizes = sorted(self._hub.sizes().items(), key=lambda room: (-room[1], room[0]))
        return json_answer(
            {
                "clients": sum(1 for _ in self._hub.all_sessions()),
                "connecting": self._door.connecting,
                "users": len(self._hub.users),
                "addresses": self._door.addresses,
                "rooms": len(sizes),
                "clientsPerRoom": dict(sizes[:MAX_ROOMS_LISTED]),
                "clientsPerAddress": dict(self._door.busiest(MAX_ADDRESSES_LISTED)),
                "limits": {to_camel(name): value for name, value in asdict(self._limits).items()},
                "usersWithSpentLimits": len(self._users),
                "refusedByLimit": {
                    sample.labels["limit"]: int(sample.value)
                    for metric in LIMITED.collect()
                    for sample in metric.samples
                    if sample.name.endswith("_total")
                },
            }
        )

    async def clients(self, request: web.Request) -> web.Response:
        """A user's clients on this gateway, to find the one whose limits are to be reset."""
        sessions = sorted(self._hub.sessions_of(request.match_info["user_id"]), key=lambda one: one.id)
        clients = [{"sessionId": one.id, "address": one.address, "rooms": len(one.rooms)} for one in sessions]
        return json_answer({"clients": clients})

    async def reset_limits(self, request: web.Request) -> web.Response:
        """Let one client, and with it its user, start afresh. 404 where no such session is on this gateway."""
        wanted = request.match_info["session_id"]
        session = next((one for one in self._hub.all_sessions() if one.id == wanted), None)
        if session is None:
            raise BeaconfireError(errors.NOT_FOUND, "no such session on this gateway")
        session.reset_limits()
        log.info("an operator reset limits", session=session.id, user=session.user_id)
        return web.Response(status=204)
