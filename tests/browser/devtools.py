"""Chromium over its DevTools protocol, without Playwright: pages that are in the background, and that can be frozen.

Playwright keeps every page visible and its timers fast. Chromium never freezes a visible page.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, Literal

import aiohttp

from beaconfire.processes import Process

_LISTENING = "DevTools listening on "
_START_S = 60
_ANSWER_S = 60
_ARGUMENTS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
_LOADED = "() => document.readyState === 'complete' || new Promise((resolve) => addEventListener('load', resolve))"


class DevtoolsError(Exception):
    """The browser refused a command, or a script threw an exception."""


@asynccontextmanager
async def running_chromium(executable: str, folder: Path) -> AsyncIterator["Chromium"]:
    """Start the browser, with a new profile. All its pages are tabs of one window, so only the last one is visible."""
    listens = threading.Event()
    urls: list[str] = []

    def read(_name: str, line: str) -> None:
        if line.startswith(_LISTENING):
            urls.append(line.removeprefix(_LISTENING))
            listens.set()

    command = [
        executable,
        *_ARGUMENTS,
        f"--user-data-dir={folder / 'profile'}",
        "--remote-debugging-port=0",
        "about:blank",
    ]
    process = Process("chromium", command, log_path=folder / "chromium.log", on_line=read)
    process.start()
    try:
        assert await asyncio.to_thread(listens.wait, _START_S), f"Chromium does not listen: {process.last_lines}"
        async with aiohttp.ClientSession() as session, session.ws_connect(urls[0], max_msg_size=0) as socket:
            browser = Chromium(socket)
            reading = asyncio.create_task(browser.read())
            yield browser
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading
    finally:
        process.kill()


class Chromium:
    """Commands and their answers on one WebSocket. Events are ignored."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def read(self) -> None:
        async for message in self._socket:
            answer = json.loads(message.data)
            if waiting := self._waiting.pop(answer.get("id"), None):
                waiting.set_result(answer)

    async def open(self, url: str) -> "BackgroundPage":
        """Open a tab in the foreground. The tab before goes into the background."""
        target = (await self.send("Target.createTarget", url="about:blank"))["targetId"]
        session = (await self.send("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        await self.send("Page.navigate", session=session, url=url)
        page = BackgroundPage(self, session)
        await page.evaluate(_LOADED)
        return page

    async def send(self, method: str, *, session: str | None = None, **parameters: Any) -> Any:
        """Send a command, and return its result. Raises DevtoolsError."""
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": parameters}
        await self._socket.send_json(message if session is None else {**message, "sessionId": session})
        async with asyncio.timeout(_ANSWER_S):
            answer = await self._waiting[number]
        if "error" in answer:
            raise DevtoolsError(f"{method}: {answer['error']['message']}")
        return answer["result"]


class BackgroundPage:
    """A page that may be in the background, and can be frozen."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser = browser
        self._session = session

    async def evaluate(self, expression: str, arg: Any = None) -> Any:
        """Call a function of the page's, and wait for its result."""
        answer = await self._browser.send(
            "Runtime.evaluate",
            session=self._session,
            expression=f"({expression})({json.dumps(arg)})",
            awaitPromise=True,
            returnByValue=True,
        )
        if "exceptionDetails" in answer:
            raise DevtoolsError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    async def set_state(self, state: Literal["frozen", "active"], /) -> None:
        """Freeze the page, as Chromium does to save memory and power, or let it go on."""
        await self._browser.send("Page.setWebLifecycleState", session=self._session, state=state)
