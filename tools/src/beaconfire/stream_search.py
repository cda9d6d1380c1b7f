"""Find messages of the event stream as an operator: by offset, by id, or along a subject.

Only single messages are asked for, so no consumer is created, and the broker user `operator` needs no other permission
than the doctor does.
"""

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from nats.aio.client import Client

from beaconfire_kit import broker
from beaconfire_kit.broker import MESSAGE_NOT_FOUND, STREAM
from beaconfire_kit.envelope import correlation_of

AT_ONCE = 200
"""Messages asked for at the same time in a search."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the stream."""

    offset: int
    subject: str
    stored_at: datetime
    body: bytes
    message_id: str
    """Its `Nats-Msg-Id`, or empty."""
    event: Mapping[str, Any] = field(default_factory=dict)
    """Its body, if that is a JSON object."""

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> "Message":
        """Read the broker's answer."""
        body = b64decode(message.get("data", ""))
        return cls(
            offset=int(message["seq"]),
            subject=message["subject"],
            stored_at=datetime.fromisoformat(message["time"]).astimezone(UTC),
            body=body,
            message_id=_message_id(b64decode(message.get("hdrs", ""))),
            event=event_of(body),
        )

    def is_called(self, name: str) -> bool:
        """Whether this is its id, or the id of the request that caused it."""
        return name in (self.message_id, self.event.get("id")) or correlation_of(self.body) == name


def event_of(body: bytes) -> Mapping[str, Any]:
    """Return the JSON object in a body, or an empty one."""
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


async def get(nc: Client, offset: int) -> Message | None:
    """Return the message at an offset."""
    return await _ask(nc, {"seq": offset})


async def along(nc: Client, subject: str, *, after: int = 0, most: int) -> AsyncIterator[Message]:
    """Yield the messages of a subject after an offset, in order. The subject may have wildcards."""
    for _ in range(most):
        message = await _ask(nc, {"seq": after + 1, "next_by_subj": subject})
        if message is None:
            return
        yield message
        after = message.offset


async def search(nc: Client, name: str, *, first: int, last: int, most_found: int) -> list[Message]:
    """Return the messages with this id or correlation id between two offsets, in order. It begins with the newest.

    An event id is found once. A correlation id may be that of several events, which lie close together. So the search
    ends once a whole portion behind the first hit has no further one.
    """
    needle, found = name.encode(), list[Message]()
    for end in range(last, first - 1, -AT_ONCE):
        offsets = range(max(first, end - AT_ONCE + 1), end + 1)
        answers = await asyncio.gather(*(_ask(nc, {"seq": offset}, needle=needle) for offset in offsets))
        hits = [one for one in answers if one is not None and one.is_called(name)]
        if found and not hits:
            break
        found = [*hits, *found]
        if len(found) >= most_found:
            break
    return found[-most_found:]


async def _ask(nc: Client, request: Mapping[str, Any], *, needle: bytes = b"") -> Message | None:
    """Return a message, unless the stream has none there, or it does not contain `needle`."""
    answer = await broker.call_api(nc, f"STREAM.MSG.GET.{STREAM}", request, missing=frozenset({MESSAGE_NOT_FOUND}))
    if answer is None:
        return None
    message = answer["message"]
    if needle and needle not in b64decode(message.get("data", "")) and needle not in b64decode(message.get("hdrs", "")):
        return None
    return Message.of(message)


def _message_id(headers: bytes) -> str:
    for line in headers.decode(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.lower() == "nats-msg-id":
            return value.strip()
    return ""
