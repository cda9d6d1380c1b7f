"""What operators may ask a gateway, on the operations port only (docs/reference/http.md, "Operations")."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from aiohttp import web
from pydantic.alias_generators import to_camel

from beaconfire_gateway.fanout.hub import Hub
from beaconfire_gateway.sessions.limits import LIMITED, Doorkeeper, Limits, Users
from beaconfire_gateway.sessions.session import Session
from beaconfire_kit import errors, logs
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.web import json_answer

log = logs.get(__name__)

WHOLE_PATH = "/figures"
MAX_ROOMS_LISTED = 1_000
MAX_ADDRESSES_LISTED = 100


@dataclass(frozen=True, slots=True)
class Figures:
    """What a gateway's clients use; of several of its processes, together. Sizes are by name."""

    clients: int
    connecting: int
    users: frozenset[str]
    addresses: Mapping[str, int]
    rooms: Mapping[str, int]
    spent: frozenset[str]
    """The users whose limits are spent in part."""
    refused: Mapping[str, int]
    limits: Mapping[str, int]

    @classmethod
    def read(cls, whole: Mapping[str, Any]) -> Self:
        """From what `whole` made."""
        sets = {name: frozenset(whole[name]) for name in ("users", "spent")}
        return cls(**{**whole, **sets})

    @classmethod
    def together(cls, all_of_them: Iterable[Self]) -> Self:
        """The figures of several processes, at least one. Who is in two of them is counted once."""
        them = list(all_of_them)
        return cls(
            clients=sum(one.clients for one in them),
            connecting=sum(one.connecting for one in them),
            users=frozenset[str]().union(*(one.users for one in them)),
            addresses=_sum(one.addresses for one in them),
            rooms=_sum(one.rooms for one in them),
            spent=frozenset[str]().union(*(one.spent for one in them)),
            refused=_sum(one.refused for one in them),
            limits=them[0].limits,
        )

    def whole(self) -> dict[str, Any]:
        """Everything, as JSON, for another process."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        return {**plain, "users": list(self.users), "spent": list(self.spent)}

    def summary(self) -> dict[str, Any]:
        """Clients, users and rooms; the largest rooms by name; the limits, and how often each refused something."""
        return {
            "clients": self.clients,
            "connecting": self.connecting,
            "users": len(self.users),
            "addresses": len(self.addresses),
            "rooms": len(self.rooms),
            "clientsPerRoom": _largest(self.rooms, MAX_ROOMS_LISTED),
            "clientsPerAddress": _largest(self.addresses, MAX_ADDRESSES_LISTED),
            "limits": {to_camel(name): value for name, value in self.limits.items()},
            "usersWithSpentLimits": len(self.spent),
            "refusedByLimit": dict(self.refused),
        }


def _sum(counts: Iterable[Mapping[str, int]]) -> Mapping[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(total)


def _largest(counts: Mapping[str, int], count: int) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:count])


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

    def routes_of_a_worker(self) -> list[web.RouteDef]:
        """The same for a process that is one of several; `combined` asks them all."""
        return [web.get(WHOLE_PATH, self.whole), *self.routes()]

    def figures(self) -> Figures:
        return Figures(
            clients=sum(1 for _ in self._hub.all_sessions()),
            connecting=self._door.connecting,
            users=frozenset(self._hub.users),
            addresses=self._door.addresses,
            rooms=self._hub.sizes(),
            spent=frozenset(self._users),
            refused={
                sample.labels["limit"]: int(sample.value)
                for metric in LIMITED.collect()
                for sample in metric.samples
                if sample.name.endswith("_total")
            },
            limits=self._limits.model_dump(),
        )

    async def stats(self, _request: web.Request) -> web.Response:
        """The figures, for people."""
        return json_answer(self.figures().summary())

    async def whole(self, _request: web.Request) -> web.Response:
        """The figures, to be put together with others'."""
        return json_answer(self.figures().whole())

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
