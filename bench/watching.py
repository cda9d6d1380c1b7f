"""A client that is told who is in a room, beside the load that is measured. So the gateway counts its sessions."""

import asyncio
import threading
from pathlib import Path
from types import TracebackType

import aiohttp

from bench.load import LoadFailed
from bench.system import CAMPAIGN

WAIT_S = 30.0


class Watching:
    """A context manager: in its block, a client is told who is in the campaign, if `is_wanted`."""

    def __init__(self, port: int, tokens: Path, *, is_wanted: bool) -> None:
        self._url = f"http://127.0.0.1:{port}/ws"
        self._token = tokens.read_text().split()[0]
        self._is_wanted = is_wanted
        self._is_in = threading.Event()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._watch()), name="watching")
        self.count = 0
        """The number of users in the room, as it was told last."""

    def __enter__(self) -> "Watching":
        if self._is_wanted:
            self._thread.start()
            if not self._is_in.wait(WAIT_S):
                raise LoadFailed("no client could ask who is here")
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if self._is_wanted:
            self._ends.set()
            self._thread.join()

    async def _watch(self) -> None:
        room = f"campaign:{CAMPAIGN}"
        hello = {"type": "connect", "id": 1, "token": self._token, "rooms": [room], "presence": True}
        hello["types"] = {room: ["user.typing"]}  # so that it does not hear the load
        async with aiohttp.ClientSession() as http, http.ws_connect(self._url, protocols=["beaconfire.v1"]) as socket:
            await socket.send_json(hello)
            self.count = (await socket.receive_json())["rooms"][room]["presence"]["count"]
            self._is_in.set()
            while not self._ends.is_set():
                try:
                    message = await socket.receive_json(timeout=0.2)
                except TimeoutError:
                    continue
                if message["type"] == "presence":
                    self.count = message["count"]
