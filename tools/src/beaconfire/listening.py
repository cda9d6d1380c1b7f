"""Listen to rooms from the command line: a small client of PROTOCOL.md that keeps its cursor."""

import asyncio
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import aiohttp
from rich.console import Console
from rich.text import Text

from beaconfire.sign_in import Tokens
from beaconfire_kit.cursor import Cursor
from beaconfire_kit.errors import TABLE, Retry
from beaconfire_kit.subjects import parse_room

SUBPROTOCOL = "beaconfire.v1"
AGAIN_AFTER_S = 1.0
HANDSHAKE_TIMEOUT_S = 10.0

Printer = Callable[[dict[str, Any]], None]
_notes = Console(stderr=True, highlight=False)


class ListeningEnded(Exception):
    """The connection ended, and another attempt would not help. The text contains the reason."""


async def listen(gateway_url: str, rooms: Sequence[str], tokens: Tokens, printer: Printer) -> None:
    """Print events forever. If the connection is lost, reconnect with the cursor.

    Raises ListeningEnded, ApiError, InvalidRoom.
    """
    for room in rooms:
        parse_room(room)
    listener = _Listener(list(rooms), tokens, printer)
    async with aiohttp.ClientSession() as http:
        while True:
            try:
                await listener.listen_once(http, f"{gateway_url.rstrip('/')}/ws")
            except (aiohttp.ClientError, TimeoutError) as error:
                _note(f"cannot reach {gateway_url}: {error or 'no answer in time'}; retrying")
            await asyncio.sleep(AGAIN_AFTER_S)


def print_json(frame: dict[str, Any]) -> None:
    """Print the message as one line of JSON."""
    print(json.dumps(frame, separators=(",", ":"), ensure_ascii=False), flush=True)


def print_readable(frame: dict[str, Any]) -> None:
    """Print the event in one line: offset, time, type, payload, user, rooms."""
    event = frame["event"]
    metadata, payload = event["metadata"], event["payload"]
    text = Text()
    text.append(f"{frame.get('offset', '-'):>6}  ", style="dim")
    text.append(f"{str(metadata.get('timestamp', ''))[11:19]:8}  ", style="dim")
    text.append(event["type"], style="bold cyan")
    for name, value in payload.items():
        text.append(f"  {name}=", style="dim")
        text.append(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    text.append(f"  by {metadata.get('userId') or metadata['source']} in {' '.join(frame['rooms'])}", style="dim")
    text.plain = printable(text.plain)  # one character for each, so the styles stay in place
    Console(highlight=False).print(text, soft_wrap=True)
    sys.stdout.flush()


class _Listener:
    """Keep the cursor from one connection to the next."""

    def __init__(self, rooms: list[str], tokens: Tokens, printer: Printer) -> None:
        self._rooms = rooms
        self._tokens = tokens
        self._printer = printer
        self._cursor = Cursor("", -1)
        """Its epoch is empty before the first ack."""

    async def listen_once(self, http: aiohttp.ClientSession, url: str) -> None:
        """Listen until the connection ends. Raises ListeningEnded if another connection would end in the same way."""
        timeout = aiohttp.ClientWSTimeout(ws_close=5)
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            socket = await http.ws_connect(url, protocols=(SUBPROTOCOL,), timeout=timeout)
        async with socket:
            await socket.send_json(await self._connect_message())
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    await self._handle(socket, read_frame(message.data))
        self._closed(socket.close_code)

    async def _connect_message(self) -> dict[str, Any]:
        token = await asyncio.to_thread(self._tokens.fresh)
        message = {"type": "connect", "id": 1, "token": token, "rooms": self._rooms}
        if self._cursor.epoch:
            message["cursor"] = str(self._cursor)
        return message

    async def _handle(self, socket: aiohttp.ClientWebSocketResponse, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "event":
                self._event(frame)
            case "connection.ack":
                self._acknowledged(frame)
            case "position":
                self._move(frame["cursor"])
            case "resync":
                self._cursor = replace(self._cursor, epoch="")  # now the cursor may go back
                self._move(frame["cursor"])
                _note(f"events may be missing here ({frame['reason']}): reload {', '.join(frame['rooms'])}")
            case "token.expiring" if self._tokens.can_renew:
                await socket.send_json(
                    {"type": "refresh", "id": 2, "token": await asyncio.to_thread(self._tokens.fresh)}
                )
            case "room.left":
                _note(f"no longer in {frame['room']}: {frame['reason']}")
            case "role.changed":
                _note(f"the role in {frame['root']} is now {frame['role']}")
            case "degraded":
                _note("the broker is away: events may be late, but none is lost")
            case "live":
                _note("events arrive again")
            case "error":
                _note(f"{frame['code']}: {frame['message']}")

    def _event(self, frame: dict[str, Any]) -> None:
        offset = frame.get("offset")
        if offset is not None:
            if offset <= self._cursor.offset:
                return
            self._cursor = replace(self._cursor, offset=offset)
        self._printer(frame)

    def _acknowledged(self, frame: dict[str, Any]) -> None:
        self._move(frame["cursor"])
        refused = {room: answer["error"]["message"] for room, answer in frame["rooms"].items() if not answer["success"]}
        for room, why in refused.items():
            _note(f"cannot listen to {room}: {why}")
        if len(refused) == len(frame["rooms"]):
            raise ListeningEnded("no room is left to listen to")
        _note(f"listening to {', '.join(room for room in frame['rooms'] if room not in refused)}")

    def _move(self, text: str) -> None:
        """Move to the cursor of a message: only forward, except in another epoch."""
        cursor = Cursor.parse(text)
        if cursor is None:
            raise ListeningEnded(f"the gateway sent an invalid cursor: {printable(text[:64])}")
        if cursor.epoch != self._cursor.epoch or cursor.offset > self._cursor.offset:
            self._cursor = cursor

    def _closed(self, code: int | None) -> None:
        row = next((row for row in TABLE if row.close == code), None)
        hopeless = row is not None and (
            row.retry is Retry.NO or (row.retry is Retry.TOKEN and not self._tokens.can_renew)
        )
        if row is not None and hopeless:
            raise ListeningEnded(f"the gateway closed the connection: {row.meaning} ({code})")
        _note(f"connection lost ({code}); reconnecting")


def printable(text: str) -> str:
    """Replace every character that is not printable with a dot: it could change the terminal or end the line."""
    return "".join(letter if letter.isprintable() else "·" for letter in text)


def read_frame(text: str) -> dict[str, Any]:
    """Parse a message of the gateway. A number that Python cannot represent (`1e400`) stays text."""
    frame: dict[str, Any] = json.loads(text, parse_float=_number, parse_int=_integer)
    return frame


def _number(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text


def _integer(text: str) -> int | str:
    return int(text) if len(text) < sys.int_info.default_max_str_digits else text


def _note(sentence: str) -> None:
    _notes.print(Text(f"· {printable(sentence)}", style="dim"), soft_wrap=True)
