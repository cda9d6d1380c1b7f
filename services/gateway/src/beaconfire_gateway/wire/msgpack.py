"""The native protocol in MessagePack, `beaconfire.v1.msgpack` (PROTOCOL.md, "MessagePack").

Messages have the fields of the native protocol. In events, texts that the catalogue declares as base64 are bytes. The
publisher's JSON is transcoded once for all sessions of the wire, as other wires' bytes are made once.
"""

from typing import Any, Protocol

import msgspec
import orjson

from beaconfire_gateway.wire import messages
from beaconfire_gateway.wire.dialect import Spliced
from beaconfire_gateway.wire.messages import InvalidMessage
from beaconfire_gateway.wire.native import Native, read_id
from beaconfire_kit import errors

SUBPROTOCOL = "beaconfire.v1.msgpack"

_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode


class BinaryFields(Protocol):
    """Knows which texts of events stand for bytes."""

    def with_bytes(self, message: dict[str, Any]) -> dict[str, Any]:
        """Return a publisher's message with bytes in the place of base64. It may change the message itself."""
        ...


class Msgpack:
    """Implements `dialect.Dialect`."""

    name = SUBPROTOCOL

    def __init__(self, binary_fields: BinaryFields) -> None:
        self._binary_fields = binary_fields
        self._native = Native()

    def decode(self, data: bytes) -> messages.Request:
        """Read a client's message. Raises only InvalidMessage (`bad_request` or `unknown_type`).

        It is checked as JSON, by the rules of the native protocol. MessagePack that JSON cannot express is refused.
        """
        try:
            found = _decode(data)
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError):
            raise InvalidMessage(errors.BAD_REQUEST, "a message is one MessagePack map") from None
        if not isinstance(found, dict):
            raise InvalidMessage(errors.BAD_REQUEST, "a message is one MessagePack map")
        try:
            as_json = orjson.dumps(found, option=orjson.OPT_PASSTHROUGH_DATETIME)
        except (orjson.JSONEncodeError, RecursionError):
            text = "a message has only what JSON has: no bytes, no extensions, and only texts as keys"
            raise InvalidMessage(errors.BAD_REQUEST, text, read_id(found.get("id"))) from None
        return self._native.decode(as_json)

    def encode(self, message: messages.Message) -> bytes:
        """A message as MessagePack."""
        if isinstance(message, messages.Restored):
            head = {"type": message.TYPE, "id": message.id, "rooms": list(message.rooms)}
            events = [msgspec.Raw(b"".join(self.event(one))) for one in message.events]
            return _encode({**head, "events": events})
        return _encode(orjson.loads(self._native.encode(message)))

    def event(self, event: messages.Event) -> Spliced:
        """An event message around the publisher's JSON, transcoded."""
        fields: dict[str, Any] = {"type": event.TYPE}
        if event.offset:
            fields["offset"] = event.offset
        elif event.cursor is not None:
            fields["cursor"] = event.cursor
        fields["rooms"] = [str(room) for room in event.route.rooms]
        published = self._binary_fields.with_bytes(orjson.loads(event.body))
        return _encode({**fields, "event": published}), b"", b""
