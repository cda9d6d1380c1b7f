"""Read from an HTTP request which rooms a client wants, and from which cursor: in its query, or in its JSON body.

`encode_messages` makes the messages in a body those that a session takes.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Tag, ValidationError
from pydantic.alias_generators import to_camel

from beaconfire_gateway.wire.messages import Connect, Status
from beaconfire_gateway.wire.native import (
    MAX_CURSOR,
    AwayMs,
    ClientFields,
    CloseCode,
    CursorText,
    RoomNames,
    SessionId,
    StatusName,
    TypeNames,
    TypesByRoom,
)
from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.web import describe, read_body

_LISTS = ("rooms", "types")
_REQUEST_ID = 0
"""Of the `connect` that stands for the whole request. Its client never sees it."""

_Types = Annotated[
    Annotated[TypeNames, Tag("of all rooms")] | Annotated[TypesByRoom, Tag("by room")],
    Discriminator(lambda given: "by room" if isinstance(given, dict) else "of all rooms"),
]
_DIGITS = re.compile("[0-9]{1,9}")
WHOLE_IN_TEXT = BeforeValidator(
    lambda given: int(given) if isinstance(given, str) and _DIGITS.fullmatch(given) else given
)
"""Takes a whole number from a query, where it is text."""
_BOOLEANS = {"true": True, "false": False}
BOOLEAN_IN_TEXT = BeforeValidator(lambda given: _BOOLEANS.get(given, given) if isinstance(given, str) else given)
"""Takes a boolean from a query, where it is text."""


class Wanted(BaseModel):
    """What a `connect` message would say. A transport with further fields makes a subclass."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, alias_generator=to_camel)

    rooms: RoomNames = ()
    types: _Types | None = None
    """The wanted event types of all rooms, or of each room by its name."""
    cursor: CursorText | None = None
    client: ClientFields | None = None
    last_close: Annotated[CloseCode | None, WHOLE_IN_TEXT] = None
    away_ms: Annotated[AwayMs | None, WHOLE_IN_TEXT] = None
    replaces: SessionId | None = None
    presence: Annotated[bool, BOOLEAN_IN_TEXT] = False
    """Whether to tell who is in the rooms."""
    status: StatusName | None = None
    """How the user is. None: online."""

    def connect(self, token: str, *, last_event_id: str | None = None) -> Connect:
        """The request to a session. `last_event_id` is newer than the cursor: an `EventSource` sends it.

        Raises BeaconfireError.
        """
        if last_event_id is not None and len(last_event_id) > MAX_CURSOR:
            text = f"Last-Event-ID: a cursor has at most {MAX_CURSOR} characters"
            raise BeaconfireError(errors.BAD_REQUEST, text)
        types: Mapping[str, TypeNames] = {}
        if isinstance(self.types, dict):
            types = self.types
        elif self.types is not None:
            types = dict.fromkeys(self.rooms, self.types)
        if stray := types.keys() - set(self.rooms):
            raise BeaconfireError(errors.BAD_REQUEST, f"types: {min(stray)!r} is not among `rooms`")
        return Connect(
            _REQUEST_ID,
            token=token,
            rooms=self.rooms,
            types=types,
            cursor=last_event_id or self.cursor,
            client=None if self.client is None else self.client.client(),
            last_close=self.last_close,
            away_ms=self.away_ms,
            replaces=self.replaces,
            presence=self.presence,
            status=Status(self.status or Status.ONLINE),
        )


def encode_messages(messages: Sequence[Mapping[str, Any]], *, max_bytes: int) -> Sequence[bytes]:
    """Return the messages of a body as they are on a WebSocket.

    Raises BeaconfireError `too_large` if one has more than `max_bytes` bytes.
    """
    encoded = [json.dumps(one).encode() for one in messages]
    for number, one in enumerate(encoded):
        if len(one) > max_bytes:
            text = f"messages.{number}: it has {len(one)} bytes, and a message may have {max_bytes}"
            raise BeaconfireError(errors.TOO_LARGE, text)
    return encoded


W = TypeVar("W", bound=Wanted)


async def read_wanted(request: web.Request, model: type[W]) -> W:
    """Read the body of a POST, or the query of a GET: `?rooms=campaign:c1,settlement:s1&types=…&cursor=…`.

    Raises BeaconfireError.
    """
    if request.method == "POST":
        return await read_body(request, model)
    if "token" in request.query:
        text = "send the token in the Authorization header: a token in an address ends in the logs of proxies"
        raise BeaconfireError(errors.BAD_REQUEST, text)
    return read_query(request, model)


def read_query(request: web.Request, model: type[W]) -> W:
    """Read a query. A list is written with commas, or with its parameter several times. Raises BeaconfireError."""
    query = request.query
    fields: dict[str, object] = dict(query)
    for name in _LISTS:
        if name in fields:
            given = ",".join(query.getall(name)).split(",")
            fields[name] = tuple(one.strip() for one in given if one.strip())
    try:
        return model.model_validate(fields, by_name=False, by_alias=True)
    except ValidationError as error:
        raise BeaconfireError(errors.BAD_REQUEST, describe(error)) from None
