"""Clients of the plain protocol that follow rooms, as the program of PROTOCOL.md does."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import aiohttp

from tests.cursors import cursor_of
from tests.faults.checker import Reload
from tests.faults.http_followers import SILENCE_S, HttpFollower

PASSING = frozenset({1006, 4503})
"""The close codes of faults: the connection broke off, or the gateway stops."""


class PlainFollower(HttpFollower):
    """Names its rooms in its address. `late` ones subscribe after the ack, as clients of the existing system do."""

    is_late = False

    async def _ask(self, http: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> None:
        query = {"token": headers["Authorization"].removeprefix("Bearer "), "cursor": self.cursor}
        if not self.is_late:
            query["rooms"] = ",".join(sorted(self.rooms))
        async with http.ws_connect(f"{url}/ws?{urlencode(query)}") as socket:
            while (message := await socket.receive(SILENCE_S)).type is aiohttp.WSMsgType.TEXT:
                await self._hear(socket, json.loads(message.data))
        if socket.close_code is not None and socket.close_code not in PASSING:
            self.problems.append(f"closed with {socket.close_code}")
        raise aiohttp.ClientError("the connection ended")

    async def _hear(self, socket: aiohttp.ClientWebSocketResponse, message: Mapping[str, Any]) -> None:
        match message["type"]:
            case "connection.ack":
                if self.is_late:
                    await socket.send_json({"type": "subscribe", "payload": {"rooms": sorted(self.rooms)}})
                else:
                    self._follow(message["cursor"])
            case "subscribe.ack":
                self._follow(message["payload"]["cursor"])
            case "error":
                self.problems.append(str(message["payload"]))
            case "resync":
                self.reloads.append(
                    Reload(self._had, cursor_of(message["cursor"]).offset, message["payload"]["reason"])
                )
            case _ if "offset" in message:
                self.apply(message["cursor"], message["id"])
        self.cursor = message.get("cursor", self.cursor)

    def _follow(self, cursor: str) -> None:
        self.connect()
        if self.started_at is None:
            self.begin(cursor)


class LatePlainFollower(PlainFollower):
    is_late = True
