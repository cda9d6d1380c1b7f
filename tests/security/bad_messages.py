"""Messages that a publisher can put into the stream, but that are not events, or that break a client library."""

import json
from dataclasses import dataclass, field

from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.events.campaign import SettlementUpdated


@dataclass(frozen=True, slots=True)
class Bad:
    """A message: the end of its subject, its header block as it is on the wire (if any), its body."""

    name: str
    tail: bytes = b"bad"
    block: bytes = b""
    body: bytes = field(default=b"{}", repr=False)


_SUBJECTS = {
    "no UTF-8": b"\xff",
    "half a letter": b"\xc3(",
    "a surrogate": b"\xed\xa0\x80",
    "an overlong letter": b"\xc0\xae",
    "NUL": b"a\x00b",
    "a vertical tab": b"a\x0bb",
    "a form feed": b"\x0c",
    "only a form feed and a number": b"a\x0c1",
    "an escape sequence": b"\x1b[31m",
    "DEL": b"\x7f",
    "a line separator": "\u2028".encode(),
    "next line": b"\xc2\x85",
    "a no-break space": "\u00a0".encode(),
    "right to left": "\u202e".encode(),
    "a wildcard": b"*",
    "a full wildcard": b">",
    "a quote and a backslash": b'"\\',
    "three thousand letters": b"x" * 3000,
}
_BLOCKS = {
    "inline status 404": b"NATS/1.0 404 No Messages\r\n\r\n",
    "inline status 408": b"NATS/1.0 408 Request Timeout\r\n\r\n",
    "inline status 409": b"NATS/1.0 409 Consumer Deleted\r\n\r\n",
    "inline status 503": b"NATS/1.0 503\r\n\r\n",
    "inline status 100": b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\n\r\n",
    "inline status that is no number": b"NATS/1.0 \xff\xfe\xfd\r\n\r\n",
    "inline status with a broken description": b"NATS/1.0 404 \xff\r\n\r\n",
    "header Status 404": b"NATS/1.0\r\nStatus: 404\r\n\r\n",
    "header Status 503": b"NATS/1.0\r\nStatus:503\r\nDescription: gone\r\n\r\n",
    "header Status 100": b"NATS/1.0\r\n Status : 100\r\nDescription: Flow\r\n\r\n",
    "a line end": b"\r\n",
    "no line end": b"NATS/1.0",
    "another protocol": b"HTTP/1.1 200 OK\r\n\r\n",
    "NULs": b"\x00" * 40,
    "a broken first line": b"NATS/1.0\xff\r\nA: b\r\n\r\n",
    "a broken name and value": b"NATS/1.0\r\n\xff\xfe: \xff\r\n\r\n",
    "no colon": b"NATS/1.0\r\nNats-Msg-Id\r\n\r\n",
    "no name": b"NATS/1.0\r\n: x\r\n:\r\n\r\n",
    "no empty line at its end": b"NATS/1.0\r\nA: b",
    "the same header twice": b"NATS/1.0\r\nNats-Msg-Id: one\r\nNats-Msg-Id: two\r\n\r\n",
    "twelve thousand headers": b"NATS/1.0\r\n" + b"a:b\r\n" * 12_000 + b"\r\n",
    "twelve thousand names": b"NATS/1.0\r\n" + b"".join(b"%x:\r\n" % n for n in range(9_000)) + b"\r\n",
    "a long value": b"NATS/1.0\r\nA: " + b"x" * 60_000 + b"\r\n\r\n",
    "headers of the client library": b"NATS/1.0\r\nreply_to: campaign.c1.state\r\ncontent-type: text/\xff\r\n"
    b"correlation_id: \xff\r\nmessage_id: \x00\r\n\r\n",
    "a lifetime": b"NATS/1.0\r\nNats-TTL: 1h\r\n\r\n",
    "headers of the stream": b"NATS/1.0\r\nNats-Stream: EVENTS\r\nNats-Subject: tick\r\nNats-Sequence: 999999\r\n\r\n",
}
_BODIES = {
    "empty": b"",
    "no UTF-8": b"\xff\xfe",
    "UTF-16": '{"id":"x"}'.encode("utf-16"),
    "UTF-8 with a BOM": b"\xef\xbb\xbf{}",
    "NUL": b"\x00",
    "half an object": b"{",
    "deep lists": b"[" * 60_000,
    "deep objects": b'{"a":' * 10_000,
    "null": b"null",
    "a list": b"[]",
    "sixty thousand spaces": b" " * 60_000,
}


def _event(**changes: object) -> bytes:
    """A settlement's event with some members of its envelope or payload replaced by raw JSON."""
    event = SettlementUpdated(campaign_id="c1", settlement_id="bad", operation="update", changed_fields=("level",))
    whole = json.loads(Envelope(event, Metadata(source="api", user_id="u1"), "bad-1").encode())
    for name, value in changes.items():
        where, _, key = name.rpartition("__")
        (whole[where] if where else whole)[key] = value
    return json.dumps(whole).encode()


def _raw(raw: bytes, **changes: object) -> bytes:
    """The same with RAW in place of a value."""
    return _event(**dict.fromkeys(changes, "RAW")).replace(b'"RAW"', raw)


_EVENTS = {
    "version 1e400": _raw(b"1e400", version=1),
    "version 10**5000": _raw(b"1" + b"0" * 5_000, version=1),
    "version -1e400": _raw(b"-1e400", version=1),
    "an unknown member 1e400": _raw(b"1e400", more=1),
    "an unknown member 10**5000": _raw(b"9" * 5_000, payload__more=1),
    "an unknown member NaN": _raw(b"NaN", more=1),
    "an unknown member Infinity beside a long number": _raw(b"[Infinity," + b"9" * 5_000 + b"]", more=1),
    "a lone surrogate": _raw(b'"\\ud800"', payload__more=1),
    "a lone surrogate as a name": _raw(b'{"\\udfff":1}', more=1),
    "NUL as an id": _raw(b'"\\u0000"', payload__settlementId=1),
    "NUL in the event's id": _raw(b'"\\u0000"', id=1),
    "an id of sixty thousand letters": _raw(b'"' + b"x" * 60_000 + b'"', id=1),
    "a type of sixty thousand letters": _raw(b'"' + b"x" * 60_000 + b'"', type=1),
    "a type that is an object": _raw(b'{"a":{}}', type=1),
    "deep in an unknown member": _raw(b"[" * 30_000 + b"]" * 30_000, more=1),
    "many fields": _event(payload__changedFields=[f"f{n}" for n in range(6_000)]),
    "fields with NUL": _event(payload__changedFields=["\0", "level"]),
    "fields that colour a terminal": _event(payload__changedFields=["\x1b[31m", "\x07\x08\r"]),
    "the first moment of time": _event(metadata__timestamp="0001-01-01T00:00:00+14:00"),
    "the last moment of time": _event(metadata__timestamp="9999-12-31T23:59:59.999999-14:00"),
    "a moment beyond time": _event(metadata__timestamp=1e300),
    "an audience of thousands": _event(metadata__audience=["owner"] * 5_000),
    "a correlation id of NULs": _event(metadata__correlationId="\0" * 10),
    "a member twice": b'{"id":"a","id":"b","type":"settlement_updated","type":7}',
    "nothing but numbers": b"9" * 60_000,
    "a fraction of sixty thousand digits": b"0." + b"9" * 60_000,
    "an exponent of sixty thousand digits": b"1e" + b"9" * 60_000,
}

BAD = (
    *(Bad(f"subject: {name}", tail=tail) for name, tail in _SUBJECTS.items()),
    *(Bad(f"headers: {name}", block=block) for name, block in _BLOCKS.items()),
    *(Bad(f"body: {name}", body=body) for name, body in _BODIES.items()),
    *(Bad(f"event: {name}", body=body) for name, body in _EVENTS.items()),
    Bad("all at once", tail=b"\xff\x00\x0b", block=b"NATS/1.0 503 \xff\r\nStatus: 404\r\n\xff", body=b"\xff\x00"),
)
