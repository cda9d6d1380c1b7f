"""The plain protocol, as JSON text (PROTOCOL.md §10): every message is `{type, payload, timestamp, userId}`.

Clients of an existing system speak it as they are. `id`, `offset` and `cursor` are beside these four, for clients that
want to resume.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson

from beaconfire_gateway.wire import messages, user_typing
from beaconfire_gateway.wire.body_parts import payload_of
from beaconfire_gateway.wire.compact_json import to_json
from beaconfire_gateway.wire.dialect import Spliced
from beaconfire_gateway.wire.messages import InvalidMessage
from beaconfire_gateway.wire.native import Native, fields_of, read_id
from beaconfire_kit import errors

NAME = "plain"
NO_ID = ""
"""The id of a message that has none. The answer has none either."""
_AROUND = frozenset({"type", "payload", "timestamp", "userId", "id"})
_TYPING = (user_typing.TYPE, messages.SetTyping.TYPE)
_WITH_ROOMS = (messages.Subscribe.TYPE, messages.Unsubscribe.TYPE)


class Plain:
    """Implements `dialect.Dialect`. Only clients that resume are sent `position`, which others would not know."""

    name = NAME

    def __init__(self, *, resumes: bool) -> None:
        self._resumes = resumes
        self._native = Native()

    def decode(self, data: bytes) -> messages.Request:
        """Read a client's message: the fields of the native protocol are in its payload. Raises only InvalidMessage."""
        try:
            found = json.loads(data)
            if not isinstance(found, dict):
                raise ValueError
            fields = _fields(found)
            has_id = found.get("id") is not None
            if found.get("type") in _TYPING:
                fields = user_typing.as_native(fields)
            as_native = json.dumps({"type": found.get("type"), **fields, "id": found["id"] if has_id else 0})
        except (ValueError, RecursionError):
            text = 'a message is one JSON object, such as {"type": "ping"}'
            raise InvalidMessage(errors.BAD_REQUEST, text) from None
        if found.get("type") in _WITH_ROOMS and "rooms" not in fields:
            text = f'name the rooms: {{"type": "{found["type"]}", "payload": {{"rooms": ["team:t1"]}}}}'
            raise InvalidMessage(errors.BAD_REQUEST, text, read_id(found.get("id")))
        try:
            request = self._native.decode(as_native.encode())
        except InvalidMessage as problem:
            problem.message_id = problem.message_id if has_id else None
            raise
        return request if has_id else replace(request, id=NO_ID)

    def encode(self, message: messages.Message) -> bytes:
        if isinstance(message, messages.Refusal | messages.Error):
            return _message("error", message.error.body(), id=message.id)
        if isinstance(message, messages.GoAway | messages.Restored):
            return b""
        if isinstance(message, messages.Position) and not self._resumes:
            return b""
        if isinstance(message, messages.Typing):
            return _message(user_typing.TYPE, user_typing.payload_of(message), user_id=message.user_id)
        payload = dict(fields_of(message))
        if isinstance(message, messages.Reply):
            type_ = "pong" if message.to == messages.Ping.TYPE else f"{message.to}.ack"
            return _message(type_, payload, id=payload.pop("id"))
        user_id = message.user_id if isinstance(message, messages.Ack) else None
        payload.pop("id", None)
        return _message(message.TYPE, payload, user_id=user_id, cursor=payload.pop("cursor", None))

    def event(self, event: messages.Event) -> Spliced:
        body = event.body
        message = orjson.loads(body)
        metadata = message["metadata"]
        after = {"timestamp": metadata["timestamp"], "userId": metadata.get("userId")}
        if "id" in message:
            after["id"] = message["id"]
        if event.cursor is not None:
            after |= {"offset": event.offset} if event.offset else {}
            after["cursor"] = event.cursor
        before = b'{"type":%b,"payload":' % orjson.dumps(event.type)
        return before, payload_of(body), b"," + orjson.dumps(after)[1:]


def _fields(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of a client's message, which may be in its payload or beside it. A single room stands for a list."""
    payload = found.get("payload")
    fields = {name: value for name, value in found.items() if name not in _AROUND}
    if isinstance(payload, dict):
        fields |= payload
    elif payload is not None:
        fields["rooms"] = payload
    if "rooms" not in fields and "room" in fields:
        fields["rooms"] = fields["room"]
    if isinstance(fields.get("rooms"), str):
        fields["rooms"] = [fields["rooms"]]
    return fields


def _message(
    type_: str,
    payload: Mapping[str, Any],
    *,
    user_id: str | None = None,
    id: messages.MessageId | None = None,  # noqa: A002  (what the protocol calls it)
    cursor: str | None = None,
) -> bytes:
    """A message of the gateway's own. Its user is the session's, or none."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    fields: dict[str, Any] = {"type": type_, "payload": payload, "timestamp": now, "userId": user_id}
    if id is not None and id != NO_ID:
        fields["id"] = id
    if cursor is not None:
        fields["cursor"] = cursor
    return to_json(fields)
