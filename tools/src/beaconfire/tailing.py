"""`beaconfire tail`: print events as a gateway hears them, and go on at another gateway if that one is gone."""

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any
from urllib.parse import urlencode

import aiohttp
from rich.console import Console
from rich.text import Text

from beaconfire.deadletters import without_secrets
from beaconfire.listening import printable

AGAIN_AFTER_S = 1.0
TIMEOUT = aiohttp.ClientTimeout(total=None, connect=5.0, sock_read=30.0)
"""A gateway sends a sign of life every 10 s."""
MAX_LINE_BYTES = 1024 * 1024
_TEMPORARY = frozenset({429, 500, 502, 503, 504})

Printer = Callable[[dict[str, Any]], None]
_notes = Console(stderr=True, highlight=False)


class TailEnded(Exception):
    """The gateway refuses the tail, and another attempt would not help. The text contains the reason."""


async def tail(urls: Sequence[str], query: Sequence[tuple[str, str]], token: str, printer: Printer) -> None:
    """Print events forever. Raises TailEnded."""
    tailing = _Tail(query, printer)
    async with aiohttp.ClientSession(timeout=TIMEOUT, read_bufsize=MAX_LINE_BYTES) as http:
        for url in cycle(urls):
            try:
                await tailing.read_from(http, url, token)
                _notes.print(f"{url} has ended the tail; going on", markup=False)
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                _notes.print(f"{url} does not answer: {error or 'no sign of life'}; going on", markup=False)
            await asyncio.sleep(AGAIN_AFTER_S)


def print_json(line: dict[str, Any]) -> None:
    """Print the event as one line of JSON."""
    print(without_secrets(json.dumps(line, separators=(",", ":"), ensure_ascii=False)), flush=True)


def print_readable(line: dict[str, Any]) -> None:
    """Print the event in one line: offset, time, type, payload, cause, rooms."""
    if "skipped" in line:
        _notes.print(f"{line['skipped']} offsets came too fast to be shown", markup=False)
        return
    event = line["event"]
    metadata = event.get("metadata") or {}
    text = Text(f"{line['offset']:>6}  ", style="dim")
    text.append(f"{str(metadata.get('timestamp', ''))[11:19]:8}  ", "dim").append(line["type"], "bold cyan")
    text.append(f"  {without_secrets(json.dumps(event.get('payload'), ensure_ascii=False))}")
    by = metadata.get("userId") or metadata.get("source") or "unknown"
    audience = f" for {' and '.join(line['audience'])}" if line["audience"] is not None else ""
    text.append(f"  by {by} in {' '.join(line['rooms'])}{audience}", "dim")
    text.plain = printable(text.plain)  # one character for each, so the styles stay in place
    Console(highlight=False).print(text, soft_wrap=True)
    sys.stdout.flush()


class _Tail:
    """Keeps the offset from one gateway to the next."""

    def __init__(self, query: Sequence[tuple[str, str]], printer: Printer) -> None:
        self._query = list(query)
        self._printer = printer
        self._offset: int | None = None

    async def read_from(self, http: aiohttp.ClientSession, url: str, token: str) -> None:
        """Print what one gateway sends, until it ends."""
        query = [*self._query, *([("after", str(self._offset))] if self._offset is not None else [])]
        headers = {"Authorization": f"Bearer {token}"}
        async with http.get(f"{url}/api/v1/ws/tail?{urlencode(query)}", headers=headers) as answer:
            if answer.status != 200:
                await _check(url, answer)
                return
            async for line in answer.content:
                if line.strip():
                    shown = json.loads(line)
                    self._offset = shown.get("offset", self._offset)
                    self._printer(shown)


async def _check(url: str, answer: aiohttp.ClientResponse) -> None:
    """Raise TailEnded unless it is worth another attempt."""
    if answer.status in _TEMPORARY:
        return
    try:
        why = (await answer.json())["error"]["message"]
    except (aiohttp.ClientError, ValueError, LookupError, TypeError):
        why = f"answered with {answer.status}: is this the operations port of a gateway of this version?"
    raise TailEnded(f"{url}: {why}")
