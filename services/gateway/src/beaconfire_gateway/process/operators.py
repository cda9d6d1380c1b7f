"""Answer operators about this gateway, on the operations port only (docs/reference/http.md, "Operations")."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from ipaddress import ip_address
from typing import Any, Self

from aiohttp import web
from pydantic.alias_generators import to_camel

from beaconfire_gateway.fanout.hub import Hub
from beaconfire_gateway.sessions.limits import LIMITED, Doorkeeper, Limits, Users
from beaconfire_gateway.sessions.session import Session
from beaconfire_kit import errors, logs
from beaconfire_kit.client_addresses import client_network
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.web import json_answer

log = logs.get(__name__)

WHOLE_PATH = "/figures"
RESET_PATH = "/api/v1/ws/reset-limits"
MAX_ROOMS_LISTED = 1_000
MAX_ADDRESSES_LISTED = 100


@dataclass(frozen=True, slots=True)
class Figures:
    """The use of a gateway by its clients, in one process or summed over several. Sizes are by name."""

    clients: int
    connecting: int
    users: frozenset[str]
    addresses: Mapping[str, int]
    rooms: Mapping[str, int]
    transports: Mapping[str, int]
    dialects: Mapping[str, int]
    spent: frozenset[str]
    """The users that have used part of a limit."""
    refused: Mapping[str, int]
    limits: Mapping[str, int]

    @classmethod
    def read(cls, whole: Mapping[str, Any]) -> Self:
        """Read figures that `whole` made."""
        sets = {name: frozenset(whole[name]) for name in ("users", "spent")}
        return cls(**{**whole, **sets})

    @classmethod
    def together(cls, all_of_them: Iterable[Self]) -> Self:
        """Sum the figures of several processes, at least one. A user in two of them is counted once."""
        them = list(all_of_them)
        return cls(
            clients=sum(one.clients for one in them),
            connecting=sum(one.connecting for one in them),
            users=frozenset[str]().union(*(one.users for one in them)),
            addresses=_sum(one.addresses for one in them),
            rooms=_sum(one.rooms for one in them),
            transports=_sum(one.transports for one in them),
            dialects=_sum(one.dialects for one in them),
            spent=frozenset[str]().union(*(one.spent for one in them)),
            refused=_sum(one.refused for one in them),
            limits=them[0].limits,
        )

    def whole(self) -> dict[str, Any]:
        """Return all figures as JSON, for another process."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        return {**plain, "users": list(self.users), "spent": list(self.spent)}

    def summary(self) -> dict[str, Any]:
        """Return the figures for operators: clients by kind, users, the largest rooms, and each limit's refusals."""
        return {
            "clients": self.clients,
            "connecting": self.connecting,
            "users": len(self.users),
            "addresses": len(self.addresses),
            "rooms": len(self.rooms),
            "clientsPerTransport": dict(sorted(self.transports.items())),
            "clientsPerDialect": dict(sorted(self.dialects.items())),
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


def _network(address: str) -> str:
    """Return what an address is counted under. Raises BeaconfireError."""
    try:
        ip_address(address)
    except ValueError:
        raise BeaconfireError(errors.BAD_REQUEST, f"address: {address[:64]!r} is no IP address") from None
    return client_network(address)


class Operators:
    """Answers operators with this process's figures, and resets the limits of one client."""

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
            web.post("/api/v1/ws/clients/{session_id}/disconnect", self.disconnect),
            web.post(RESET_PATH, self.reset_all),
        ]

    def routes_of_a_worker(self) -> list[web.RouteDef]:
        """The same for a process that is one of several; `combined` asks them all."""
        return [web.get(WHOLE_PATH, self.whole), *self.routes()]

    def figures(self) -> Figures:
        alike = Counter((one.connection.transport, one.wire.dialect_name) for one in self._hub.all_sessions())
        return Figures(
            clients=alike.total(),
            connecting=self._door.connecting,
            users=frozenset(self._hub.users),
            addresses=self._door.addresses,
            rooms=self._hub.sizes(),
            transports=_sum({transport: count} for (transport, _), count in alike.items()),
            dialects=_sum({dialect: count} for (_, dialect), count in alike.items()),
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
        """Answer with the figures for operators."""
        return json_answer(self.figures().summary())

    async def whole(self, _request: web.Request) -> web.Response:
        """Answer with the figures for another process, which sums them."""
        return json_answer(self.figures().whole())

    async def clients(self, request: web.Request) -> web.Response:
        """Answer with a user's clients on this gateway, to find the one that needs a reset."""
        sessions = sorted(self._hub.sessions_of(request.match_info["user_id"]), key=lambda one: one.id)
        clients = [
            {
                "sessionId": one.id,
                "address": one.address,
                "transport": one.connection.transport,
                "dialect": one.wire.dialect_name,
                "rooms": len(one.rooms),
                "remaining": one.remaining(),
            }
            for one in sessions
        ]
        return json_answer({"clients": clients})

    async def reset_all(self, request: web.Request) -> web.Response:
        """Reset the limits of all clients of `?user=`, and the invalid tokens of `?address=`."""
        user, address = request.query.get("user"), request.query.get("address")
        if not user and not address:
            raise BeaconfireError(errors.BAD_REQUEST, "name a user, an address, or both: ?user=USER&address=IP")
        sessions = self._hub.sessions_of(user) if user else ()
        for session in sessions:
            session.reset_limits()
        if user:
            self._users.of(user).reset()
        if address:
            self._door.forget_attempts(_network(address))
        log.info("an operator reset limits", user=user, address=address, clients=len(sessions))
        return json_answer({"clients": len(sessions)})

    async def reset_limits(self, request: web.Request) -> web.Response:
        """Reset the limits of one client and of its user. 404 if this gateway does not have the session."""
        session = self._session(request)
        session.reset_limits()
        log.info("an operator reset limits", session=session.id, user=session.user_id)
        return web.Response(status=204)

    async def disconnect(self, request: web.Request) -> web.Response:
        """Close the connection of one client, which then connects again. 404 if this gateway does not have it."""
        session = self._session(request)
        log.info("an operator disconnected a client", session=session.id, user=session.user_id)
        session.close(BeaconfireError(errors.UNAVAILABLE, "an operator closed this connection: connect again"))
        return web.Response(status=204)

    def _session(self, request: web.Request) -> Session:
        wanted = request.match_info["session_id"]
        session = next((one for one in self._hub.all_sessions() if one.id == wanted), None)
        if session is None:
            raise BeaconfireError(errors.NOT_FOUND, "no such session on this gateway")
        return session
