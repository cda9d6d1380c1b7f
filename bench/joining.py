"""Sessions that join and leave rooms all the time, beside the load that is measured."""

import asyncio
import itertools
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

from bench.load import LoadFailed
from bench.system import CAMPAIGN

SESSIONS = 10
ROOMS = 50
"""Of each session. They are settlements, and no event goes to them."""


class Joining:
    """A context manager: in its block, a few sessions join `per_second` rooms a second, and leave them again.

    With 0 no session joins.
    """

    def __init__(self, port: int, tokens: Path, *, per_second: float) -> None:
        self._url = f"http://127.0.0.1:{port}/ws"
        self._tokens = tokens.read_text().split()[:SESSIONS]
        self._every_s = SESSIONS / per_second if per_second else None
        self._joined = 0
        self._error: BaseException | None = None
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="joining")

    def __enter__(self) -> "Joining":
        if self._every_s is not None:
            self._thread.start()
        return self

    def __exit__(
        self, error: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if self._every_s is None:
            return
        self._ends.set()
        self._thread.join()
        if error is None and (self._error is not None or not self._joined):
            raise LoadFailed(f"sessions could not join and leave: {self._error!r}")

    def _run(self) -> None:
        try:
            asyncio.run(self._join_all(self._every_s or 0.0))
        except Exception as error:
            self._error = error

    async def _join_all(self, every_s: float) -> None:
        async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as sessions:
            for number, token in enumerate(self._tokens):
                sessions.create_task(self._join(http, token, number, every_s))

    async def _join(self, http: aiohttp.ClientSession, token: str, number: int, every_s: float) -> None:
        names = [f"campaign:{CAMPAIGN}/settlement:j{number}-{room}" for room in range(ROOMS)]
        async with http.ws_connect(self._url, protocols=["beaconfire.v1"]) as socket:
            await socket.send_json({"type": "connect", "id": 0, "token": token})
            assert (await socket.receive_json())["type"] == "connection.ack"
            for message_id in itertools.count(1):
                if self._ends.is_set():
                    return
                kind = "subscribe" if message_id % 2 else "unsubscribe"
                room = names[message_id // 2 % ROOMS - (kind == "unsubscribe")]
                await socket.send_json({"type": kind, "id": message_id, "rooms": [room]})
                reply = await self._reply(socket)
                if not reply["success"] or not reply["rooms"][room]["success"]:
                    raise LoadFailed(f"could not {kind}: {reply}")
                self._joined += kind == "subscribe"
                await asyncio.sleep(every_s / 2)

    async def _reply(self, socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
        while (message := dict(await socket.receive_json()))["type"] != "reply":
            pass
        return message
