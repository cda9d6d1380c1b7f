"""Publish several events to the stream in one atomic batch: either all are stored, one behind the other, or none is.

    first = await atomic_batch.publish(nc, [Message(subject, body, message_id), …], timeout_s=5)

A server that syncs its disk for each message syncs it four times for a batch, whatever its size. See NATS ADR-50
(nats-server 2.12 or later, and `allow_atomic` in the stream's configuration) and docs/adr/0083.
"""

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import nats.errors
from nats.aio.client import Client

MAX_MESSAGES = 500
"""The server's own limit is 1,000."""
MAX_BYTES = 1_048_576
"""Of bodies. nats-py buffers 2 MiB before it waits for the socket."""

_UNAVAILABLE = frozenset({10174, 10210})
"""Error codes: the stream allows no batches, or too many are open."""


class Message(NamedTuple):
    """A message of a batch. `message_id` is its `Nats-Msg-Id`."""

    subject: str
    body: bytes
    message_id: str
    headers: Mapping[str, str] | None = None


class NotStored(Exception):
    """The server did not say that the batch is stored. Publish each message by itself, with the same id.

    One of them may be denied, too large, or stored already. If no answer came, all may be stored.
    """


class Unavailable(NotStored):
    """The server takes no batches now. So another batch would fail, too."""


def fitting(messages: Iterable[Message]) -> list[Message]:
    """Return as many of the first messages as fit into a batch, at least one."""
    chosen: list[Message] = []
    size = 0
    for one in messages:
        size += len(one.body)
        if chosen and (len(chosen) == MAX_MESSAGES or size > MAX_BYTES):
            break
        chosen.append(one)
    return chosen


async def publish(nc: Client, messages: Sequence[Message], *, timeout_s: float) -> int:
    """Publish 2 to `MAX_MESSAGES` messages in one batch. Returns the offset of the first; the others follow it.

    `timeout_s` counts for each of the two answers, to the first message and to the last. Raises NotStored.
    """
    batch = uuid.uuid4().hex
    try:
        # The first answer is awaited, so a server that takes no batches is not sent the rest.
        _check_begun(await _ask(nc, messages[0], _headers(batch, 1, messages[0]), timeout_s))
        for number, one in enumerate(messages[1:-1], 2):
            await nc.publish(one.subject, one.body, headers=_headers(batch, number, one))
        end = _headers(batch, len(messages), messages[-1]) | {"Nats-Batch-Commit": "1"}
        stored = _read(await _ask(nc, messages[-1], end, timeout_s))
    except nats.errors.Error as error:
        raise NotStored(str(error) or type(error).__name__) from error
    return int(stored["seq"]) - len(messages) + 1


def _headers(batch: str, number: int, message: Message) -> dict[str, str]:
    return {
        **(message.headers or {}),
        "Nats-Batch-Id": batch,
        "Nats-Batch-Sequence": str(number),
        "Nats-Msg-Id": message.message_id,
    }


async def _ask(nc: Client, message: Message, headers: dict[str, str], timeout_s: float) -> bytes:
    return (await nc.request(message.subject, message.body, headers=headers, timeout=timeout_s)).data


def _check_begun(answer: bytes) -> None:
    """Check the answer to a batch's first message. It is empty if the server has begun the batch."""
    if answer:
        _read(answer)
        raise Unavailable("this nats-server does not know batches, which need 2.12 or later")


def _read(answer: bytes) -> dict[str, Any]:
    """Return an acknowledgement. Raises NotStored if it is an error."""
    said: dict[str, Any] = json.loads(answer)
    error = said.get("error")
    if error is None:
        return said
    kind = Unavailable if error.get("err_code") in _UNAVAILABLE else NotStored
    raise kind(f"{error.get('description')} ({error.get('err_code')})")
