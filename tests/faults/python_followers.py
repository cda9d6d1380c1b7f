"""Clients that follow a room with the Python client, as its users do: `async for` and nothing else."""

from typing import Any

import aiohttp

from beaconfire_client import Client, Notice, Resync, State, StateChanged, Transport, connect
from tests.cursors import cursor_of
from tests.faults.checker import Reload
from tests.faults.listener import Listener


class PythonFollower(Listener):
    """Follows over a WebSocket. It never comes back by itself: the client does that."""

    transport: Transport = "websocket"

    async def run(self, _http: aiohttp.ClientSession, url: str, token: str) -> None:
        """Follow forever, with a session of its own that counts connections."""
        (name,) = self.rooms
        connections = aiohttp.TraceConfig()
        connections.on_connection_create_end.append(self._count)
        async with aiohttp.ClientSession(trace_configs=[connections]) as own, self._client(own, url, token) as client:
            assert client.cursor is not None
            self.begin(client.cursor)
            async for event in client.room(name, cursor=client.cursor, on_resync=self._reload):
                assert event.cursor is not None
                self.apply(event.cursor, event.id)

    def _client(self, http: aiohttp.ClientSession, url: str, token: str) -> Client:
        return connect(
            url, token, transport=self.transport, max_attempts=None, max_pause_s=1, http=http, on_notice=self._note
        )

    def _note(self, notice: Notice) -> None:
        match notice:
            case StateChanged(status) if status.state is State.CONNECTING:
                self.lose()
            case StateChanged(status) if status.state is State.CONNECTED:
                self.back()
            case StateChanged(status):
                self.problems.append(f"{status.state}: {status.reason}")

    async def _count(self, *_: Any) -> None:
        self.connects += 1

    def _reload(self, resync: Resync) -> None:
        self.reloads.append(Reload(self._had, cursor_of(resync.cursor).offset, resync.reason))
        self._moved.set()


class PythonEventStreamFollower(PythonFollower):
    transport = "sse"


class PythonPollFollower(PythonFollower):
    transport = "poll"
