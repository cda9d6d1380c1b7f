"""Unmodified clients of socket.io that follow rooms, in one process of Node (`tests/socketio/followers.mjs`)."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.faults.listener import Listener
from tests.javascript import install_from_lock, node
from tests.socketio.clients import FOLDER

PROGRAM = FOLDER / "followers.mjs"
MAX_LINE = 1_000_000


class SocketIOFollower(Listener):
    """One client. `way` are its transports, in the order in which it tries them."""

    def __init__(self, name: str, rooms: frozenset[str], way: Sequence[str]) -> None:
        super().__init__(name, rooms)
        self.way = tuple(way)
        self.recoveries = 0
        self.upgrades = 0
        self.lost: list[str] = []
        """Why it lost each connection, in the words of its library."""

    def take(self, report: dict[str, Any], id_of: Callable[[dict[str, Any]], str]) -> None:
        """Take a line that the program printed."""
        match report["is"]:
            case "connected":
                self.recoveries += report["recovered"]
                self.connect()
            case "subscribed":
                self.begin(report["cursor"])
            case "event":
                self.apply(report["cursor"], id_of(report["payload"]))
            case "upgraded":
                self.upgrades += 1
            case "lost":
                self.lost.append(report["why"])
            case "failed":
                if not report["again"]:
                    self.problems.append(f"refused for good: {report['why']}")
            case other:
                self.problems.append(f"{other}: {report}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the clients connect, and how each of them signs in."""

    url: str
    token: Callable[[str], str]
    id_of: Callable[[dict[str, Any]], str]
    """The id of the event that has this payload: Socket.IO's events have no id."""


@asynccontextmanager
async def running(followers: Sequence[SocketIOFollower], place: Place) -> AsyncIterator[None]:
    """Run the clients while the block runs."""
    await asyncio.to_thread(install_from_lock, FOLDER)
    clients = [
        {
            "name": one.name,
            "url": place.url,
            "token": place.token(one.name),
            "transports": one.way,
            "rooms": sorted(one.rooms),
        }
        for one in followers
    ]
    process = await asyncio.create_subprocess_exec(
        node(), PROGRAM, json.dumps(clients), stdout=asyncio.subprocess.PIPE, limit=MAX_LINE
    )
    reading = asyncio.create_task(_read(process, {one.name: one for one in followers}, place.id_of))
    try:
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


async def _read(
    process: asyncio.subprocess.Process,
    followers: dict[str, SocketIOFollower],
    id_of: Callable[[dict[str, Any]], str],
) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        report = json.loads(line)
        followers[report["name"]].take(report, id_of)
