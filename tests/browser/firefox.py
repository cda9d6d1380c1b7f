"""Firefox, driven over WebDriver BiDi: as much of the protocol as a `Tab` needs (docs/adr/0078).

The browser itself speaks the protocol, on a WebSocket of its own.
"""

import asyncio
import base64
import json
import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

from beaconfire.processes import Process
from tests.browser.tabs import Tab

FIREFOX = ("firefox-esr", "firefox")
_LISTENING = "WebDriver BiDi listening on "
# After failed WebSockets, Firefox delays further ones to the same address. The tests do not wait for that.
_PREFERENCES = 'user_pref("network.websocket.delay-failed-reconnects", false);'
_START_S = 60
_ANSWER_S = 60
# A function of the page's, with JSON in and out.
_CALL = "async (arg) => JSON.stringify(await ({function})(JSON.parse(arg)))"


class BidiError(Exception):
    """The browser refused a command, or a script threw an exception."""


class Firefox:
    """The program. It starts with its first window, and has a new profile."""

    def __init__(self, folder: Path) -> None:
        executable = next(filter(None, map(shutil.which, FIREFOX)), None)
        assert executable, "Firefox is missing: `make browser` installs it"
        profile = folder / "profile"
        profile.mkdir()
        (profile / "user.js").write_text(_PREFERENCES)
        command = [executable, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0"]
        self._process = Process("firefox", command, log_path=folder / "firefox.log", on_line=self._read)
        self._url = ""
        self._listens = threading.Event()

    def _read(self, _name: str, line: str) -> None:
        if line.startswith(_LISTENING):
            self._url = line.removeprefix(_LISTENING)
            self._listens.set()

    def kill(self) -> None:
        self._process.kill()

    @asynccontextmanager
    async def tab(self, width: int, height: int) -> AsyncIterator["FirefoxTab"]:
        """Open a window with storage of its own."""
        if not self._process.is_running:
            self._process.start()
        is_listening = await asyncio.to_thread(self._listens.wait, _START_S)
        assert is_listening, f"Firefox does not listen: {self._process.last_lines}"
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{self._url}/session", max_msg_size=0) as socket,
            _Commands(socket).running() as commands,
        ):
            await commands.send("session.new", capabilities={})
            window = (await commands.send("browser.createUserContext"))["userContext"]
            try:
                yield await FirefoxTab.opened(commands, window, {"width": width, "height": height})
            finally:
                await commands.send("browser.removeUserContext", userContext=window)
                await commands.send("session.end")


class _Commands:
    """Commands and their answers on one WebSocket. Events are ignored: none was subscribed to."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator["_Commands"]:
        reading = asyncio.create_task(self._read())
        try:
            yield self
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading

    async def _read(self) -> None:
        async for message in self._socket:
            answer = json.loads(message.data)
            if waiting := self._waiting.pop(answer.get("id"), None):
                waiting.set_result(answer)

    async def send(self, method: str, **parameters: Any) -> Any:
        """Send a command, and return its result. Raises BidiError."""
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(_ANSWER_S):
            answer = await self._waiting[number]
        if answer["type"] == "error":
            raise BidiError(f"{method}: {answer['error']}: {answer['message']}")
        return answer["result"]


class FirefoxTab(Tab):
    """A tab of Firefox. It is pressed with the mouse."""

    def __init__(self, commands: _Commands, window: str, size: dict[str, int], context: str) -> None:
        self._commands = commands
        self._window = window
        self._size = size
        self._context = context

    @classmethod
    async def opened(cls, commands: _Commands, window: str, size: dict[str, int]) -> "FirefoxTab":
        context = (await commands.send("browsingContext.create", type="tab", userContext=window))["context"]
        await commands.send("browsingContext.setViewport", context=context, viewport=size)
        return cls(commands, window, size, context)

    async def goto(self, url: str) -> None:
        await self._send("browsingContext.navigate", url=url, wait="complete")

    async def evaluate(self, expression: str, arg: Any = None) -> Any:
        answer = await self._commands.send(
            "script.callFunction",
            functionDeclaration=_CALL.format(function=expression),
            arguments=[{"type": "string", "value": json.dumps(arg)}],
            awaitPromise=True,
            target={"context": self._context},
        )
        if answer["type"] == "exception":
            raise BidiError(answer["exceptionDetails"]["text"])
        return json.loads(answer["result"].get("value", "null"))

    async def set_offline(self, is_offline: bool, /) -> None:
        conditions = {"type": "offline"} if is_offline else None
        await self._commands.send(
            "emulation.setNetworkConditions", networkConditions=conditions, userContexts=[self._window]
        )

    async def another(self) -> "FirefoxTab":
        return await self.opened(self._commands, self._window, self._size)

    async def screenshot(self, path: Path) -> None:
        picture = await self._send("browsingContext.captureScreenshot")
        path.write_bytes(base64.b64decode(picture["data"]))

    async def close(self) -> None:
        await self._send("browsingContext.close")

    async def _press_at(self, x: int, y: int) -> None:
        press = [
            {"type": "pointerMove", "x": x, "y": y},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        mouse = {"type": "pointer", "id": "mouse", "actions": press}
        await self._send("input.performActions", actions=[mouse])

    async def _send(self, method: str, **parameters: Any) -> Any:
        return await self._commands.send(method, context=self._context, **parameters)
