"""Unmodified clients of socket.io that follow rooms, in one process of Node (`tests/socketio/followers.mjs`)."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

from tests.faults.listener import Listener
from tests.javascript import install_from_lock, node
from tests.socketio.clients import FOLDER

PROGRAM = FOLDER / "followers.mjs"
MAX_LINE = 1_000_000
IdOf: TypeAlias = Callable[[dict[str, Any]], str]
"""The id of the event that has this payload."""


class SocketIOFollower(Listener):
    """One client. `way` are its transports, in the order in which it tries them."""

    def __init__(self, name: str, rooms: frozenset[str], way: Sequence[str]) -> None:
        super().__init__(name, rooms)
        self.way = tuple(way)
        self.recoveries = 0
        self.upgrades = 0
        self.lost: list[str] = []
        """Why it lost each connection, in the words of its library."""

    def take(self, report: dict[str, Any], id_of: IdOf) -> None:
        """Take a line that the program printed."""
        match report["is"]:
            case "connected":
                self.recoveries += report["recovered"]
                if not report["recovered"]:
                    self.start_over()
                self.connect()
            case "subscribed":
                self.begin(report["cursor"])
            case "event":
                self.apply(report["cursor"], id_of(report["payload"]))
            case "upgraded":
                self.upgrades += 1
            case "lost":
                self.lost.append(report["why"])
                self.lose()
            case "failed":
                if not report["again"]:
                    self.problems.append(f"refused for good: {report['why']}")
            case other:
                self.problems.append(f"{other}: {report}")


@asynccontextmanager
async def running(
    followers: Sequence[SocketIOFollower],
    url: str,
    tokens: Mapping[str, str],
    *,
    id_of: IdOf,
    certificate: Path | None = None,
) -> AsyncIterator[None]:
    """Run the clients while the block runs. `id_of` knows the ids of events, which Socket.IO does not have.

    `certificate` is the file with the authorities of an address with TLS.
    """
    await asyncio.to_thread(install_from_lock, FOLDER)
    clients = [
        {
            "name": one.name,
            "url": url,
            "token": tokens[one.name],
            "transports": one.way,
            "rooms": sorted(one.rooms),
        }
        for one in followers
    ]
    process = await asyncio.create_subprocess_exec(
        node(),
        PROGRAM,
        json.dumps(clients),
        stdout=asyncio.subprocess.PIPE,
        limit=MAX_LINE,
        env={**os.environ, **({"NODE_EXTRA_CA_CERTS": str(certificate)} if certificate else {})},
    )
    reading = asyncio.create_task(_read(process, {one.name: one for one in followers}, id_of))
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
    id_of: IdOf,
) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        report = json.loads(line)
        followers[report["name"]].take(report, id_of)
