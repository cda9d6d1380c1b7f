"""What operators may ask a gateway, on the operations port only (docs/reference/http.md, "Operations")."""

from aiohttp import web

from services.gateway.hub import Hub
from services.gateway.session import LIMITED, Session
from shared import errors
from shared.errors import BeaconfireError
from shared.web import json_answer

MAX_ROOMS_LISTED = 1_000


class Operators:
    """Figures of this process, and a hand for one client."""

    def __init__(self, hub: Hub[Session]) -> None:
        self._hub = hub

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v1/ws/stats", self.stats),
            web.post("/api/v1/ws/clients/{session_id}/reset-limits", self.reset_limits),
        ]

    async def stats(self, _request: web.Request) -> web.Response:
        """Clients, users and rooms; the largest rooms by name; how often each limit refused something."""
        sizes = sorted(self._hub.sizes().items(), key=lambda room: (-room[1], room[0]))
        return json_answer(
            {
                "clients": sum(1 for _ in self._hub.all_sessions()),
                "users": len(self._hub.users),
                "rooms": len(sizes),
                "clientsPerRoom": dict(sizes[:MAX_ROOMS_LISTED]),
                "refusedByLimit": {
                    sample.labels["limit"]: int(sample.value)
                    for metric in LIMITED.collect()
                    for sample in metric.samples
                    if sample.name.endswith("_total")
                },
            }
        )

    async def reset_limits(self, request: web.Request) -> web.Response:
        """Let one client start afresh. 404 where no such session is on this gateway."""
        wanted = request.match_info["session_id"]
        session = next((one for one in self._hub.all_sessions() if one.id == wanted), None)
        if session is None:
            raise BeaconfireError(errors.NOT_FOUND, "no such session on this gateway")
        session.reset_limits()
        return web.Response(status=204)
