"""Parse messages on `live.>`: whether the stream sent them, and their headers. No I/O.

nats-server republishes each stored message with its own headers behind the publisher's. A publisher can forge these
names, so only the last value of each header counts (SECURITY.md, T11).
"""

from datetime import datetime
from functools import lru_cache

from beaconfire_gateway.fanout.checking import Stored, has_ttl, text_of
from beaconfire_kit import broker, metrics

FOREIGN = metrics.Counter(
    "beaconfire_gateway_forged_messages_total", "Messages on live.> that did not come from the stream and were dropped."
)

_STREAM = broker.STREAM.encode()
_LIVE = broker.LIVE_PREFIX.encode()
_BLOCK = b"\r\nNats-Stream: %s\r\nNats-Subject: %%s\r\nNats-Sequence: " % _STREAM
_NONE_GIVEN = len(b"NATS/1.0")
"""Where `_BLOCK` starts if the publisher gave no headers."""
_OFFSET_DIGITS = 19
"""An offset has at most so many: it fits into 63 bits."""


def parse_live(subject: bytes, body: bytes, headers: bytes | None) -> tuple[int, Stored] | None:
    """Return the offset and the message, or None if the stream did not send it."""
    if headers is None:
        return None
    block, length, text = _expected(subject)
    # nats-server writes its headers in one piece: look for that first, which is one search instead of three.
    start = headers.rfind(block)  # what is before it was given by the publisher
    if start >= 0 and text:
        end = headers.find(b"\r\n", start + length)
        digits = headers[start + length : end]
        if digits.isdigit() and len(digits) <= _OFFSET_DIGITS and headers.find(b"Nats-S", end) < 0:
            return int(digits), Stored(text, body, start != _NONE_GIVEN and has_ttl(headers[:start]))
    offset = _find_offset(subject, headers)
    return None if offset is None else (offset, Stored(text, body, has_ttl(headers)))


def stored_at(headers: bytes | None) -> float:
    """Return when the stream stored a live message, in Unix seconds; 0 if its headers do not have the time."""
    stamp = _last_header(headers or b"", b"Nats-Time-Stamp")
    return datetime.fromisoformat(stamp.decode()).timestamp() if stamp else 0.0


@lru_cache(maxsize=10_000)
def _expected(subject: bytes) -> tuple[bytes, int, str]:
    """Return the headers up to the offset that the stream gives this subject, their length, and the stored subject.

    The latter is empty if it is no subject of `live.>`.
    """
    own = subject.removeprefix(_LIVE)
    block = _BLOCK % own
    return block, len(block), text_of(own) if own != subject else ""


def _find_offset(subject: bytes, headers: bytes) -> int | None:
    """Read the offset header by header, wherever each is. None if the stream did not send the message."""
    if _last_header(headers, b"Nats-Stream") != _STREAM:
        return None
    if _LIVE + _last_header(headers, b"Nats-Subject") != subject:
        return None
    return _read_offset(_last_header(headers, b"Nats-Sequence"))


def _read_offset(digits: bytes) -> int | None:
    return int(digits) if digits.isdigit() and len(digits) <= _OFFSET_DIGITS else None


def _last_header(headers: bytes, name: bytes) -> bytes:
    """Return the last value of a header in a raw NATS header block (NATS ADR-4); empty if it is not there."""
    start = headers.rfind(b"\r\n%s:" % name)
    if start < 0:
        return b""
    start += len(name) + 3
    return headers[start : headers.find(b"\r\n", start)].strip()
