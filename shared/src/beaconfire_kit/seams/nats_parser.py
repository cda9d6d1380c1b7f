"""Cut the bytes of a connection to the broker into messages, so that no publisher can make one unreadable.

nats-py decodes subject, reply and headers in its read loop. One bad message ends the loop or the connection. It has
a byte that is not UTF-8, a broken header block, or a vertical tab in its subject. A durable consumer is given such a
message again and again, and its service never goes on. nats-py also takes a stored message for an answer of the server
if its publisher wrote a `Status` header. Here every message is cut by its lengths alone, whatever is in it. Everything
else on the connection (INFO, PING, PONG, -ERR) still goes to nats-py's own parser.

A subscription can have a plain function (`Direct`) that is called with the bytes, which costs 1 µs. nats-py uses a
queue and a task, which costs 14 to 18 µs. It also spreads the messages of one read over many turns of the event loop.

This leans on private names of nats-py: `_ps` (the parser that its read loop feeds, with `parse` and `reset`),
`_process_msg`, and the socket (`_transport`, with its `_io_writer`). tests/kit/seams/test_nats_parser.py fails when a
release changes the first three, and test_nats_direct.py when it changes the socket.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

from nats.aio.client import DEFAULT_BUFFER_SIZE
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from beaconfire_kit import logs, metrics

log = logs.get(__name__)

UNREADABLE = metrics.Counter(
    "beaconfire_broker_messages_unreadable_total", "Messages from the broker that the client library failed to parse."
)

Direct: TypeAlias = Callable[[bytes, bytes, bytes, bytes | None], None]
"""Called with subject, reply, body, and raw headers or None. It cannot await."""

Headers: TypeAlias = dict[str, str]

STORED_REPLY = b"$JS.ACK."
"""Start of the reply subject of a message that a consumer delivers from a stream."""

_WORDS = {b"MSG": 4, b"HMSG": 5}
"""Words in the first line of a message without a reply: `MSG <subject> <id> [reply] <bytes>`. HMSG has `<bytes of
headers>` before the last word."""


class MessageParser(Parser):
    """Hand messages of `direct` subscriptions (by their ids as on the wire) to their functions, and others to nats-py.

    nats-py is given those in a form that cannot fail.
    """

    def __init__(self, nc: Any, direct: dict[bytes, Direct]) -> None:
        self._direct = direct
        super().__init__(nc)

    def reset(self) -> None:
        """Forget a message that arrived only in part, because the next bytes are a new connection's."""
        super().reset()
        self._rest = bytearray()
        self._wanted = 0  # bytes that `_rest` needs to be a whole message

    async def parse(self, data: bytes = b"") -> None:
        """Parse what was read from the socket, in order. Raises ProtocolError, on which nats-py reconnects."""
        # A full buffer means that more has arrived, which is read before the rest.
        if len(data) < DEFAULT_BUFFER_SIZE and (rest_s := self.nc.rest_s()) > 0:
            await self._stop_reading(rest_s)
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return
            data = bytes(self._rest)
            self._rest.clear()
        position = 0
        while position < len(data):
            position, other = self._take(data, position)
            if other is None:
                self._rest += data[position:]
                return
            await (self._hand_over(*other) if isinstance(other, tuple) else self._parse_other(other))

    async def _stop_reading(self, seconds: float) -> None:
        """Leave what the server sends in the kernel for so long: one large read costs less than many small ones."""
        transport = self.nc._transport._io_writer.transport
        if not transport.is_reading():  # its reader is full, and resumes it, or the connection has ended
            return
        transport.pause_reading()
        try:
            await asyncio.sleep(seconds)
        finally:
            if not transport.is_closing():
                transport.resume_reading()
        await asyncio.sleep(0)  # the loop reads before anything is parsed

    def _take(self, data: bytes, position: int) -> tuple[int, tuple[Any, ...] | bytes | None]:
        """Call the functions for the messages from `position` on, up to a message or line that is for nats-py.

        Returns where to continue, and that message or line. None at the end, or if the next message is not whole.
        """
        find, direct = data.find, self._direct
        while (line := find(b"\r\n", position)) >= 0:
            # Only at spaces, as the server separates words: a subject may contain other white space, except tabs.
            words = data[position:line].split(b" ")
            start = end = line + 2
            least = _WORDS.get(words[0])
            if least is None:
                return end, data[position:end]
            try:
                end += int(words[-1]) + 2
                body = start + int(words[-2]) if least == 5 else start
            except ValueError:
                raise ProtocolError from None
            if not least <= len(words) <= least + 1:
                raise ProtocolError
            if end > len(data):
                self._wanted = end - position
                return position, None
            reply = words[3] if len(words) > least else b""
            callback = direct.get(words[2])
            if callback is None:
                return end, (words[2], words[1], reply, data[body : end - 2], data[start:body] or None)
            try:
                callback(words[1], reply, data[body : end - 2], data[start:body] or None)
            except Exception:
                # If it left this function, it would end nats-py's read loop, and the connection with it.
                UNREADABLE.inc()
                log.exception("could not read a message from the broker")
            position = end
        self._wanted = 0
        return position, None

    async def _hand_over(self, sid: bytes, subject: bytes, reply: bytes, body: bytes, block: bytes | None) -> None:
        headers = read_headers(block, is_stored=reply.startswith(STORED_REPLY)) if block is not None else None
        try:
            await self.nc._process_msg(int(sid), _utf8(subject), _utf8(reply), body, headers)
        except Exception:
            UNREADABLE.inc()
            log.exception("could not read a message from the broker")

    async def _parse_other(self, line: bytes) -> None:
        try:
            await super().parse(_utf8(line))  # an error names the subject that was refused, byte for byte
        except (ProtocolError, OSError):
            raise
        except Exception as error:
            log.exception("the broker sent a line that could not be parsed, reconnecting")
            raise ProtocolError from error


def read_headers(block: bytes, *, is_stored: bool) -> Headers | None:
    """Return the headers in a raw block (NATS ADR-4). Of several with one name the first counts, as for the server.

    The server writes a `Status` in the block's first line. A message that `is_stored` has none: its publisher wrote
    what looks like one. Lines that are not headers are skipped, and bytes that are not UTF-8 are replaced.
    """
    first, *lines = block.split(b"\r\n")
    headers: Headers = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon and name and name.isascii() and name.split() == [name]:
            headers.setdefault(name.decode(), value.strip().decode(errors="replace"))
    headers.pop("Status", None)
    version, _, status = first.partition(b" ")
    if status and version == b"NATS/1.0" and not is_stored and status[:3].isdigit():
        headers["Status"] = status[:3].decode()
        if description := status[3:].strip():
            headers["Description"] = description.decode(errors="replace")
    return headers or None


def _utf8(text: bytes) -> bytes:
    """Return the text with U+FFFD for each byte that is not UTF-8. No subject, room or id of ours contains U+FFFD."""
    return text if text.isascii() else text.decode(errors="replace").encode()
