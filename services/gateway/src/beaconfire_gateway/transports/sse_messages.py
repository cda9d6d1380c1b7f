"""Take the messages of clients that have an event stream: `POST /sse/messages`, at any gateway process.

    POST /sse/messages {sessionId, messages}
      └─ the process that the session's id names, over `relay` if it is another one: `Session.receive` for each

The answers come in the stream, as on a WebSocket. So a stream has the same limits as any other session.
"""

import json
import time
from collections.abc import Sequence
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.transports.admission import Admission
from beaconfire_gateway.transports.event_stream import EventStream, process_of
from beaconfire_gateway.transports.relay import OwnerGone, Question, Relay
from beaconfire_gateway.transports.wanted import encode_messages
from beaconfire_gateway.wire.messages import Ping, Select, SetPresence, SetTyping
from beaconfire_gateway.wire.native import SessionId
from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.web import json_answer, read_body

MAX_MESSAGES = 20
"""Messages in one request."""
MAX_BYTES = 65_536
"""Of all messages together, so that a question to another process has place for them."""
TIMEOUT_S = 5.0
"""How long the process of the stream may take to answer."""
TYPES = tuple(sorted(one.TYPE for one in (Ping, Select, SetPresence, SetTyping)))
"""The types that a client of a stream may send. It names its rooms and its token when it opens the stream."""
_CALL = "stream"
_TAKEN, _UNKNOWN = b"taken", b"unknown"


class _Said(BaseModel):
    """The body of the request."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, alias_generator=to_camel)

    session_id: SessionId
    messages: Annotated[tuple[dict[str, Any], ...], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]


class StreamMessages:
    """The route `/sse/messages`."""

    def __init__(self, gateway: Gateway, admission: Admission, relay: Relay) -> None:
        self._gateway = gateway
        self._admission = admission
        self._relay = relay
        relay.answers(_CALL, self._hear)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer 202 once the stream has the messages, or 400, 401, 403, 404, 413, 429 or 503."""
        self._admission.check_origin(request)
        said = await read_body(request, _Said)
        for number, one in enumerate(said.messages):
            if (kind := one.get("type", "")) not in TYPES:
                text = f"messages.{number}.type: {str(kind)[:64]!r} is not one of the types {', '.join(TYPES)}"
                raise BeaconfireError(errors.BAD_REQUEST, text)
        messages = encode_messages(said.messages, max_bytes=self._gateway.limits.max_frame_bytes)
        if sum(map(len, messages)) > MAX_BYTES:
            raise BeaconfireError(errors.TOO_LARGE, f"the messages have at most {MAX_BYTES} bytes together")
        claims = await self._admission.user_of(request)
        if not await self._give(claims.user_id, said.session_id, messages):
            text = "you have no such stream: send the `sessionId` of its `connection.ack`"
            raise BeaconfireError(errors.NOT_FOUND, text)
        return json_answer({}, status=202)

    async def _give(self, user_id: str, session_id: str, messages: Sequence[bytes]) -> bool:
        """Give the messages to a stream of the user, at any process. Returns whether it has them."""
        if self._give_here(user_id, session_id, messages):
            return True
        # A stream counts the messages that it is given. This counts a request that may find no stream.
        self._gateway.users.of(user_id).spend_message(time.monotonic())
        process = process_of(session_id)
        if process is None or process == self._gateway.process_id:
            return False
        fields = {"user": user_id, "session": session_id, "messages": [one.decode() for one in messages]}
        try:
            answer = await self._relay.ask(process, _CALL, json.dumps(fields).encode(), timeout_s=TIMEOUT_S)
        except OwnerGone:
            return False  # the stream ends with its process, and its client connects again
        return answer == _TAKEN

    def _give_here(self, user_id: str, session_id: str, messages: Sequence[bytes]) -> bool:
        for session in self._gateway.hub.sessions_of(user_id):
            if session.id == session_id and isinstance(session, EventStream):
                for message in messages:
                    session.receive(message)
                return True
        return False

    def _hear(self, question: Question) -> None:
        """Take messages that another process was sent for a stream that is here."""
        fields = json.loads(question.body)
        messages = [one.encode() for one in fields["messages"]]
        question.answer(_TAKEN if self._give_here(fields["user"], fields["session"], messages) else _UNKNOWN)
