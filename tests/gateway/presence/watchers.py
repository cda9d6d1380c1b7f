"""Clients that are told who is in a room, and what they know of it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from tests.client import SocketClient, open_socket
from tests.gateway.conftest import Gateway

ROOM = "campaign:c1"


class Seen:
    """What a client knows of a room, by the rules of PROTOCOL.md."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self.users: dict[str, Mapping[str, Any]] = {}
        self.apply(answer)

    def apply(self, told: Mapping[str, Any]) -> None:
        if "users" in told:
            self.users = {one["userId"]: one for one in told["users"]}
        else:
            for one in (*told["joined"], *told["changed"]):
                self.users[one["userId"]] = one
            for user in told["left"]:
                del self.users[user]
        assert told["count"] == len(self.users)

    async def until(self, client: SocketClient, users: Mapping[str, tuple[str, int]]) -> None:
        """Read until these users are there, each with a status and a number of devices."""
        while {user: (one["status"], one["devices"]) for user, one in self.users.items()} != users:
            self.apply(await client.next("presence"))


@asynccontextmanager
async def watching(gateway: Gateway, user: str = "viewer") -> AsyncIterator[tuple[SocketClient, Seen]]:
    """A client that is told who is in the room."""
    async with open_socket(gateway.url) as client:
        ack = await client.connect(gateway.auth.token(user), [ROOM], presence=True)
        yield client, Seen(ack["rooms"][ROOM]["presence"])
