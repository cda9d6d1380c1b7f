"""The bytes of a connection to the broker, cut into messages that no publisher can make unreadable.

nats-py decodes subject, reply and headers in its read loop, so one message with a byte that is not UTF-8, a broken
header block, or a vertical tab in its subject ends the loop or the connection. A durable consumer gets such a message
again and again, and its service never goes on. It also takes a stored message for an answer of the server's if its
publisher wrote a `Status` header. Here every message is cut by its lengths alone, whatever is in it. Everything else
on the connection (INFO, PING, PONG, -ERR) still goes to nats-py's own parser.

A subscription can also have a plain function (`Direct`) that is called with the bytes, for 1 µs. nats-py's way of a
queue and a task takes 14-18 µs, and spreads the messages of one read over many turns of the loop.

This leans on private names of nats-py: `_ps` (the parser that its read loop feeds, with `parse` and `reset`),
`_process_msg` and `_process_headers`. `tests/shared/test_parsing.py` fails when a release changes them.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from beaconfire_kit import logs, metrics

log = logs.get(__name__)

UNREADABLE = metrics.Counter(
    "beaconfire_broker_messages_unreadable_total", "Messages from the broker that the client library failed to parse."
)

Direct: TypeAlias = Callable[[bytes, bytes, bytes, bytes | None], None]
"""(subject, reply, body, raw headers or None). Cannot wait."""

Headers: TypeAlias = dict[str, str]

STORED_REPLY = b"$JS.ACK."
"""How the reply subject of a message begins that a consumer delivers from a stream."""

_WORDS = {b"MSG": 4, b"HMSG": 5}
"""Words of a message's line: `MSG <subject> <id> [reply] <bytes>`, HMSG with `<bytes of headers>` before the last."""


class MessageParser(Parser):
    """Hands messages of `direct` subscriptions (by id, as on the wire) to their functions, and all others to nats-py
    in a form it can take."""

    def __init__(self, nc: Any, direct: dict[bytes, Direct]) -> None:
        self._direct = direct
        super().__init__(nc)

    def reset(self) -> None:
        """Forget a message of which only a part came: the connection is another one."""
        super().reset()
        self._rest = bytearray()
        self._wanted = 0  # bytes without which `_rest` is no whole message

    async def parse(self, data: bytes = b"") -> None:
        """Take what was read from the socket, in order. Raises ProtocolError, on which nats-py connects again."""
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

    def _take(self, data: bytes, position: int) -> tuple[int, tuple[Any, ...] | bytes | None]:
        """Call for the messages from `position` on, up to something that is nats-py's.

        Returns where to go on, and that: a message or a line. None at the end, or if the next one is not whole.
        """
        find, direct = data.find, self._direct
        while (line := find(b"\r\n", position)) >= 0:
            # At spaces alone, as the server separates them: a subject may contain any other white space but tabs.
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
                # Out of here it would end nats-py's read loop, and the connection with it.
                UNREADABLE.inc()
                log.exception("a message could not be taken in")
            position = end
        self._wanted = 0
        return position, None

    async def _hand_over(self, sid: bytes, subject: bytes, reply: bytes, body: bytes, block: bytes | None) -> None:
        headers = read_headers(block, is_stored=reply.startswith(STORED_REPLY)) if block is not None else None
        try:
            await self.nc._process_msg(int(sid), _utf8(subject), _utf8(reply), body, headers)
        except Exception:
            UNREADABLE.inc()
            log.exception("a message could not be taken in")

    async def _parse_other(self, line: bytes) -> None:
        try:
            await super().parse(_utf8(line))  # an error names the subject that was refused, byte for byte
        except (ProtocolError, OSError):
            raise
        except Exception as error:
            log.exception("the broker said something that could not be understood, connecting again")
            raise ProtocolError from error


def read_headers(block: bytes, *, is_stored: bool) -> Headers | None:
    """The headers in a raw block (NATS ADR-4): of several with one name the first, as the server reads them.

    A `Status` is the server's own, in the block's first line. A message that `is_stored` has none: what looks like one
    was written by its publisher. Lines that are no header are passed over, and bytes that are not UTF-8 replaced.
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
    """The same, with what is not UTF-8 replaced (by U+FFFD, which is in no subject, room or id of ours)."""
    return text if text.isascii() else text.decode(errors="replace").encode()
