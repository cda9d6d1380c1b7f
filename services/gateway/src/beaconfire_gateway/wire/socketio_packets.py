"""Read and write the packets of Socket.IO 5. No I/O.

    <type>[<attachments>-][<namespace>,][<acknowledgement>][JSON]

`2/realtime,7["subscribe",{"rooms":["user:u1"]}]` is an event in the namespace `/realtime`. Its answer is
`3/realtime,7[{"success":true}]`. Binary parts of a packet follow it as attachments, in messages of their own.
"""

import re
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NamedTuple

from pydantic_core import from_json

from beaconfire_gateway.wire.compact_json import to_json
from beaconfire_gateway.wire.engineio import InvalidPacket

MAX_ATTACHMENTS = 10
"""Of one packet. Socket.IO's own bound."""
RESERVED = frozenset({"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"})
"""Events that no packet may have. A client that receives one closes its connection."""


class PacketType(IntEnum):
    CONNECT = 0
    DISCONNECT = 1
    EVENT = 2
    ACK = 3
    CONNECT_ERROR = 4
    BINARY_EVENT = 5
    BINARY_ACK = 6


_BINARY = frozenset({PacketType.BINARY_EVENT, PacketType.BINARY_ACK})
_EVENTS = frozenset({PacketType.EVENT, PacketType.BINARY_EVENT})
_packet = re.compile(
    r"(?P<type>[0-6])(?:(?P<attachments>[0-9]{1,6})-)?(?:(?P<namespace>/[^,]*)(?:,|\Z))?(?P<id>[0-9]{1,15})?"
).match


class Packet(NamedTuple):
    """A client's packet. `data` is an object (or None) of CONNECT, and an array of events and acknowledgements."""

    type: PacketType
    namespace: str = "/"
    id: int | None = None
    data: Any = None
    attachments: int = 0


def decode(text: bytes) -> Packet:
    """Read a client's packet without its attachments. `text` must be valid UTF-8. Raises InvalidPacket."""
    whole = text.decode()
    head = _packet(whole)
    if head is None:
        raise InvalidPacket("a Socket.IO packet starts with a digit from 0 to 6")
    kind = PacketType(int(head["type"]))
    attachments = int(head["attachments"] or 0)
    if (head["attachments"] is not None) != (kind in _BINARY):
        raise InvalidPacket("a packet of type 5 or 6 says how many attachments follow it, and no other does")
    if attachments > MAX_ATTACHMENTS:
        raise InvalidPacket(f"a packet has at most {MAX_ATTACHMENTS} attachments")
    packet = Packet(
        kind,
        (head["namespace"] or "/").partition("?")[0],
        None if head["id"] is None else int(head["id"]),
        _read_json(whole[head.end() :]),
        attachments,
    )
    _check(packet)
    return packet


def _read_json(text: str) -> Any:
    if not text:
        return None
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError:
        raise InvalidPacket("the packet's data is not JSON") from None


def _check(packet: Packet) -> None:
    """Raise InvalidPacket if a packet of this type cannot have this data."""
    kind, data = packet.type, packet.data
    if kind is PacketType.CONNECT_ERROR:
        raise InvalidPacket("a client sends no packet of type 4")
    if kind is PacketType.CONNECT:
        if data is not None and not isinstance(data, dict):
            raise InvalidPacket("the data of a CONNECT packet is an object")
    elif kind is PacketType.DISCONNECT:
        if data is not None:
            raise InvalidPacket("a DISCONNECT packet has no data")
    elif not isinstance(data, list):
        raise InvalidPacket("the data of an event or an acknowledgement is an array")
    elif kind in _EVENTS and not (data and _is_name(data[0])):
        raise InvalidPacket("an event starts with its name, which is none of the reserved ones")


def _is_name(value: Any) -> bool:
    """Whether an event may have this name. Socket.IO also allows numbers."""
    return type(value) in (str, int, float) and value not in RESERVED


def prefix(namespace: str) -> bytes:
    """What stands in a packet for its namespace: nothing for the main one."""
    return b"" if namespace == "/" else namespace.encode() + b","


def encode_connect(namespace: str, data: Mapping[str, Any]) -> bytes:
    """The packet that lets a client into a namespace."""
    return b"0" + prefix(namespace) + to_json(data)


def encode_disconnect(namespace: str) -> bytes:
    """The packet that puts a client out of a namespace. The client does not come back by itself."""
    return b"1" + prefix(namespace)


def encode_connect_error(namespace: str, message: str, data: Mapping[str, Any] | None = None) -> bytes:
    """The packet that refuses a client. `data` is for its program."""
    return (
        b"4" + prefix(namespace) + to_json({"message": message} if data is None else {"message": message, "data": data})
    )


def encode_event(namespace: str, *arguments: Any) -> bytes:
    """An event: its name, and what its handlers are called with."""
    return b"2" + prefix(namespace) + to_json(arguments)


def encode_ack(namespace: str, id_: int, *arguments: Any) -> bytes:
    """The answer to an event that asks for one."""
    return b"3" + prefix(namespace) + b"%d" % id_ + to_json(arguments)
