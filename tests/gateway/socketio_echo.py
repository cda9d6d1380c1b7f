"""The application of Socket.IO's published test suite: it greets each client with its `auth`, and echoes.

It stands where Beaconfire's dialect and handlers stand. Everything below is the gateway's own: packets, attachments,
namespaces and connections.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from beaconfire_gateway.sessions import requests
from beaconfire_gateway.sessions.gateway import Gateway, Incoming
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.transports.socketio.connection import EngineCarrier
from beaconfire_gateway.transports.socketio.namespaces import Namespaces, SocketIOConnection
from beaconfire_gateway.wire.compact_json import to_json
from beaconfire_gateway.wire.engineio import SEPARATOR, decode_payload, message
from beaconfire_gateway.wire.messages import Ack, Connect, Message, Ping
from beaconfire_gateway.wire.socketio import SocketIO
from beaconfire_gateway.wire.socketio_packets import decode, encode_connect, encode_event, prefix
from beaconfire_gateway.wire.websocket_frames import Opcode, encode


@dataclass(frozen=True, slots=True)
class Echo(Ping):
    """A client's event that is to be answered, and its attachments."""

    TYPE: ClassVar[str] = "echo"

    answer: bytes = b""
    attachments: tuple[bytes, ...] = ()


class EchoDialect(SocketIO):
    """`message` is sent back as `message-back`, and `message-with-ack` as its acknowledgement."""

    def decode(self, data: bytes) -> Echo:
        text, *_ = data.split(SEPARATOR)
        packet = decode(text)
        attachments = tuple(one.data for one in decode_payload(b"4" + data)[1:])
        name, *arguments = packet.data
        kind, number, content = (2, b"", ["message-back", *arguments])
        if name == "message-with-ack":
            kind, number, content = (3, b"%d" % (packet.id or 0), arguments)
        counted = b"%d-" % len(attachments) if attachments else b""
        head = b"%d" % (kind + 3 * bool(attachments)) + counted + prefix(self.namespace) + number
        return Echo(0, answer=head + to_json(content), attachments=attachments)

    def decode_connect(self, auth: Mapping[str, Any]) -> Connect:
        """Let everybody in. The id brings `auth` to `encode`."""
        return Connect(json.dumps(auth), token="anybody")

    def encode(self, message: Message) -> bytes:
        if not isinstance(message, Ack):
            return b""
        welcome = encode_connect(self.namespace, {"sid": message.session_id})
        return welcome + SEPARATOR + encode_event(self.namespace, "auth", json.loads(str(message.id)))


def echo(session: Session, incoming: Incoming) -> None:
    """Answer what a client sent."""
    if isinstance(incoming, Echo):
        session.write(message(incoming.answer))
        for attachment in incoming.attachments:
            session.write(encode(attachment, Opcode.BINARY))
    else:
        requests.handle(session, incoming)


def echo_connection(gateway: Gateway, carrier: EngineCarrier, /, *, address: str) -> SocketIOConnection:
    """Make the connection of a client of this application, which has the namespaces `/` and `/custom`."""
    gateway.handle = echo
    namespaces = Namespaces(gateway, None, ("/custom",), EchoDialect)
    return SocketIOConnection(gateway, carrier, namespaces, address=address, offered_token="")
