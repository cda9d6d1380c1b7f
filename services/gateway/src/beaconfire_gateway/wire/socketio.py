"""The dialect of Socket.IO clients, one for each namespace.

What a client emits becomes a request: `subscribe`, `unsubscribe`, `refresh`, `ping` and `select`, which take the
fields of the native protocol (PROTOCOL.md §4), `presence.update`, which takes a status, and `typing.start` and
`typing.stop`, which take a chat or a room. For every kind of room there are `subscribe_campaign` and
`unsubscribe_campaign`, which take an id. Each is answered by its acknowledgement, with `{success, error?}`.

An event is emitted by its type, with the payload as its publisher wrote it and the cursor: `["settlement_updated", {…},
"e:42"]`. That a user is typing is emitted as an event without a cursor (`user_typing`). Anything else that the gateway
sends is emitted as `beaconfire:` and its type in the native protocol.

A Socket.IO client keeps the last argument of each event as its offset if that is a string, and sends the offset when it
connects again. So what ends with a string ends with the cursor of everything before it, and nothing else does.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from beaconfire_gateway.wire import messages, native, user_typing
from beaconfire_gateway.wire.body_parts import payload_of
from beaconfire_gateway.wire.compact_json import to_json
from beaconfire_gateway.wire.dialect import Spliced
from beaconfire_gateway.wire.engineio import SEPARATOR
from beaconfire_gateway.wire.messages import InvalidMessage
from beaconfire_gateway.wire.socketio_packets import (
    RESERVED,
    decode,
    encode_ack,
    encode_connect,
    encode_event,
    prefix,
)
from beaconfire_kit import errors

NAME = "socketio"
"""The dialect of the main namespace. The others have their namespace after a colon."""
MAIN = "/"
NO_ACKNOWLEDGEMENT = ""
"""The id of a request whose client asked for no answer."""
OURS = "beaconfire:"
"""The start of the names of what is no publisher's event. No event type has a colon."""
_CONNECT_FIELDS = ("token", "rooms", "types", "cursor", "client", "presence", "status")
"""Those of the native `connect` that the `auth` of a client may have."""
_MAX_TYPES = 1_000

_per_kind = re.compile(r"(subscribe|unsubscribe)_([A-Za-z0-9_-]{1,64})").fullmatch


class SocketIO:
    """Implements `dialect.Dialect`. Its payloads are packets without Engine.IO's digit (`engineio.MessagePackets`)."""

    def __init__(self, namespace: str = MAIN) -> None:
        self.namespace = namespace
        self._native = native.Native()
        self._heads: dict[str, bytes] = {}

    @property
    def name(self) -> str:
        return NAME if self.namespace == MAIN else f"{NAME}:{self.namespace}"

    def decode(self, data: bytes) -> messages.Request:
        """Read an event of a client, a packet without its attachments. Raises only InvalidMessage.

        The packet must be valid: the connection has checked it.
        """
        packet = decode(data.partition(SEPARATOR)[0])
        name, *arguments = packet.data
        try:
            request = self._read(_to_native(str(name), arguments))
        except InvalidMessage as problem:
            problem.message_id = packet.id
            raise
        return replace(request, id=NO_ACKNOWLEDGEMENT if packet.id is None else packet.id)

    def decode_connect(self, auth: Mapping[str, Any]) -> messages.Connect:
        """Read the `auth` of a client that connects. Raises InvalidMessage."""
        fields = {key: auth[key] for key in _CONNECT_FIELDS if key in auth}
        request = self._read({**fields, "type": messages.Connect.TYPE})
        assert isinstance(request, messages.Connect)
        return replace(request, id=NO_ACKNOWLEDGEMENT, token=request.token.removeprefix("Bearer "))

    def encode(self, message: messages.Message) -> bytes:
        encode = _ENCODERS.get(type(message))
        return encode(self, message) if encode is not None else self._emit(message.TYPE, _fields(message))

    def event(self, event: messages.Event) -> Spliced:
        cursor = event.cursor
        return self._head(event.type), payload_of(event.body), b',"%b"]' % cursor.encode() if cursor else b",null]"

    def _read(self, message: Mapping[str, Any]) -> messages.Request:
        return self._native.decode(to_json({**message, "id": 0}))

    def _emit(self, type_: str, *arguments: Any) -> bytes:
        return encode_event(self.namespace, OURS + type_, *arguments)

    def _head(self, type_: str) -> bytes:
        """What comes before the payload of an event of this type."""
        head = self._heads.get(type_)
        if head is None:
            if len(self._heads) >= _MAX_TYPES:
                self._heads.clear()
            name = f"event:{type_}" if type_ in RESERVED else type_
            head = self._heads[type_] = b"2%b[%b," % (prefix(self.namespace), to_json(name))
        return head

    # Messages to clients.

    def _ack(self, message: messages.Ack) -> bytes:
        """Two packets. The event gives a client a cursor before there is any event, so that it can recover at once."""
        secret = {"pid": message.recovery_secret} if message.recovery_secret else {}
        welcome = encode_connect(self.namespace, {"sid": message.session_id, **secret})
        return welcome + SEPARATOR + self._emit("ack", _fields(message), message.cursor)

    def _reply(self, message: messages.Reply) -> bytes:
        """Two packets after `subscribe`. A client that recovers begins no earlier than its newest room did."""
        place = b"" if message.cursor is None else self._position(messages.Position(message.cursor))
        if not isinstance(message.id, int):
            return place
        rooms = message.rooms or {}
        refused = [(name, answer.error) for name, answer in rooms.items() if answer.error is not None]
        fields = _fields(message)
        if refused:
            name, error = refused[0]
            text = error.message if len(rooms) == 1 else f"{name}: {error.message}"
            fields |= {"success": False, "error": text, "code": error.code.code}
        answer = encode_ack(self.namespace, message.id, fields)
        return place + SEPARATOR + answer if place else answer

    def _refusal(self, message: messages.Refusal | messages.Error) -> bytes:
        body = message.error.body()
        if not isinstance(message.id, int):
            return self._emit("error", body)
        text = body.pop("message")
        return encode_ack(self.namespace, message.id, {"success": False, "error": text, **body})

    def _position(self, message: messages.Position) -> bytes:
        return self._emit(message.TYPE, message.cursor)

    def _restored(self, message: messages.Restored) -> bytes:
        """The events one by one. Their cursors are behind the client's, so they do not end with them."""
        return SEPARATOR.join(
            b"%b%b,%b]" % (self._head(one.type), payload_of(one.body), to_json({"restored": one.cursor}))
            for one in message.events
        )

    def _typing(self, message: messages.Typing) -> bytes:
        """As ephemeral events are: the second argument is no cursor."""
        return encode_event(self.namespace, user_typing.TYPE, user_typing.payload_of(message), None)

    def _nothing(self, _message: messages.GoAway) -> bytes:
        """Clients do not know when to go: the connection ends in time."""
        return b""


_ENCODERS: Mapping[type, Callable[[SocketIO, Any], bytes]] = {
    messages.Ack: SocketIO._ack,
    messages.Reply: SocketIO._reply,
    messages.Refusal: SocketIO._refusal,
    messages.Error: SocketIO._refusal,
    messages.Position: SocketIO._position,
    messages.Restored: SocketIO._restored,
    messages.Typing: SocketIO._typing,
    messages.GoAway: SocketIO._nothing,
}


def _fields(message: messages.Message) -> dict[str, Any]:
    """Its fields in the native protocol, without the id, which is the acknowledgement's."""
    return {key: value for key, value in native.fields_of(message).items() if key != "id"}


# What clients emit, as messages of the native protocol.


def _to_native(name: str, arguments: Sequence[Any]) -> Mapping[str, Any]:
    """Raises InvalidMessage if there is no such event."""
    first = arguments[0] if arguments else None
    if name in ("subscribe", "unsubscribe"):
        return {**_rooms(first), "type": name}
    if found := _per_kind(name):
        return {"type": found[1], "rooms": [f"{found[2]}:{_id(name, first)}"]}
    if name == "refresh":
        return {**(first if isinstance(first, dict) else {"token": first}), "type": name}
    if name == "presence.update":
        return {**(first if isinstance(first, dict) else {"status": first}), "type": messages.SetPresence.TYPE}
    if name in _TYPING:
        return {**_typing_in(name, first), "typing": _TYPING[name]}
    if name == messages.Select.TYPE:
        if not isinstance(first, dict):
            raise InvalidMessage(errors.BAD_REQUEST, "select takes a room and items: {room: NAME, items: [ID]}")
        return {**first, "type": name}
    if name == messages.Ping.TYPE:
        return {**(first if isinstance(first, dict) else {}), "type": name}
    raise InvalidMessage(errors.UNKNOWN_TYPE, f"there is no event {name[:64]!r}")


_TYPING = {"typing.start": True, "typing.stop": False}


def _typing_in(name: str, argument: Any) -> Mapping[str, Any]:
    """The fields of a message about typing: of an object with a room or a chat, or of the id of a chat."""
    found = user_typing.as_native(argument if isinstance(argument, dict) else {"chatId": argument})
    if "room" not in found:
        raise InvalidMessage(errors.BAD_REQUEST, f"{name} takes a chat or a room: {{chatId: ID}} or {{room: NAME}}")
    return found


def _rooms(argument: Any) -> Mapping[str, Any]:
    """The fields of a `subscribe`: of an object, a list of rooms, or a room."""
    if isinstance(argument, dict):
        return {"rooms": [argument["room"]], **argument} if "room" in argument else argument
    return {"rooms": argument if isinstance(argument, list) else [argument]}


def _id(name: str, argument: Any) -> str:
    if type(argument) in (str, int):
        return str(argument)
    raise InvalidMessage(errors.BAD_REQUEST, f"{name} takes an id")
