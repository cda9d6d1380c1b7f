"""The broker: connect, publish with an acknowledgement, and what the streams are called.

nats-py's `js.publish` never retries, and a publish that timed out may still be stored. So `publish` retries with a
stable `Nats-Msg-Id`. Connections never give up.
"""

import asyncio
import contextlib
import json
import secrets
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client

from beaconfire_kit import logs
from beaconfire_kit.invalid_event import MAX_EVENT_BYTES
from beaconfire_kit.seams.nats_connection import Connection, PublishDenied, abort
from beaconfire_kit.settings import Settings
from beaconfire_kit.subjects import matches

log = logs.get(__name__)

STREAM = "EVENTS"
TICK = "tick"
TICK_TTL_S = 120
"""How long the stream keeps a tick."""
ANCHOR = "anchor"
"""An anchor is older than any tick, so the stream's first offset shows what retention removed. Its body, if it has one,
is a new epoch."""
CATALOGUE = "catalogue"
"""A message on it says which revision of the catalogue counts from its offset on (`catalogue_store`)."""
BUILT_IN_ROOTS = ("campaign", "workspace", "user")
"""The kinds of roots that every catalogue begins with."""
STREAM_SUBJECTS = (*(f"{kind}.>" for kind in BUILT_IN_ROOTS), TICK, ANCHOR, CATALOGUE)
"""What the stream stores at least. The roots of the catalogue come on top, and stay while the stream lasts."""
DEADLETTERS = "DEADLETTERS"
DEADLETTER_PREFIX = "deadletter."
LIVE_PREFIX = "live."
EPHEMERAL_PREFIX = "ephemeral."
PRESENCE_PREFIX = "presence."
"""Begins the subjects on which gateways tell each other who is in which room. Nobody else may publish or hear them."""
EPOCH_KEY = "beaconfire-epoch"
GATEWAY_PREFIX = "$BEACONFIRE.gateway."
"""Begins the subjects on which gateway processes speak with each other. No event can have such a subject."""
SEND = "$BEACONFIRE.send"
"""Services ask the publisher here to send an event to rooms and sessions of their choice (`sending`)."""
SENT = "$BEACONFIRE.sent"
"""The publisher alone publishes here what it has checked. Every gateway delivers it (`sent_events`)."""
WAKE = "outbox.wake"
"""A worker publishes here after it committed to an outbox that another process relays."""

MAX_MESSAGE_BYTES = MAX_EVENT_BYTES + 1_024
"""The stream's limit for an event and its headers, which the broker counts in."""
DUPLICATE_WINDOW_S = 15 * 60
"""Longer than a broker outage that a relay may survive without looking up its rows."""
MAX_AGE_S = 7 * 24 * 3600
MAX_BYTES = 8 * 1024**3
DEADLETTERS_MAX_AGE_S = 30 * 24 * 3600
DEADLETTERS_MAX_BYTES = 256 * 1024**2
CLOSE_S = 1.0
CANCEL_AGAIN_S = 0.1
DENIED_S = 2.0
"""The pause after a call that the broker denied."""
NS = 1_000_000_000

C = TypeVar("C", bound=Client)
R = TypeVar("R")
RETRYABLE = (
    nats.errors.TimeoutError,
    nats.errors.NoRespondersError,
    nats.errors.ConnectionClosedError,
    nats.errors.ConnectionReconnectingError,
    nats.errors.OutboundBufferLimitError,
    nats.js.errors.NoStreamResponseError,
    nats.js.errors.ServiceUnavailableError,
    nats.js.errors.ServerError,
)

STREAM_NOT_FOUND = 10059
MESSAGE_NOT_FOUND = 10037
WRONG_SEQUENCE = frozenset({10071, 10164})
"""The subject's last message is not the one that `Nats-Expected-Last-Subject-Sequence` names."""
PASSING = frozenset({10002, 10005, 10109, 10158, 10167})
"""Error codes below 500 that concern every message, until they pass. The account has used up its storage; too few
servers of the cluster are known yet; the stream is sealed; the same message is being stored right now, from an attempt
that looked lost; too much is waiting.
"""
NO_ROOM = frozenset({10002, 10023, 10047, 10077})
"""The server, the account, or the stream has no room for a message. So it was not stored."""
FOR_GOOD = frozenset({10074})
"""Error codes from 500 that do not pass: several replicas were requested from a server that is in no cluster."""
SUBJECT_FULL = "maximum messages per subject exceeded"
"""The only `10077 store failed` that concerns a single subject. A full stream or disk concerns all messages."""


@dataclass(frozen=True, slots=True)
class StreamState:
    """The stream at one moment: its epoch, its oldest and its last offset, and the broker's clock."""

    epoch: str
    first: int
    last: int
    asked_at: float
    """Unix seconds."""

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> "StreamState":
        """Read the answer to STREAM.INFO."""
        return cls(
            epoch=epoch_of(info["config"]),
            first=int(info["state"]["first_seq"]),
            last=int(info["state"]["last_seq"]),
            asked_at=datetime.fromisoformat(info["ts"]).timestamp(),
        )


class BrokerRefused(Exception):
    """The broker answered, and said no: trying again will not help."""


class NoSuchStream(BrokerRefused):
    """There is no stream of that name."""


class MayNotPublish(BrokerRefused):
    """The broker's permissions do not let this user publish on the subject."""


class WrongSequence(BrokerRefused):
    """The subject's last message is not the one that the publisher expected. Nothing was stored."""


class NotAcknowledged(Exception):
    """The broker did not answer, or cannot store messages now. Retryable. The text contains which it was."""


class CannotStore(NotAcknowledged):
    """The broker answered that it cannot store messages now, or no stream was there to store it. Nothing was stored."""


def options(settings: Settings, name: str) -> dict[str, Any]:
    """Return the options of every connection to the broker, for nats-py and FastStream alike.

    The connection never gives up, and notices a hung broker within 9 s. Replies go to an inbox that no other service
    may read.
    """
    chosen: dict[str, Any] = {
        "servers": settings.nats_servers,
        "name": name,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": 0.2,
        "ping_interval": 3,
        "max_outstanding_pings": 2,
        "connect_timeout": 2,
    }
    if settings.nats_user:
        chosen["user"] = settings.nats_user
        # From a file, it is read for each connection: the broker may have got a new password since.
        in_file = settings.is_in_file("nats_password")
        chosen["password"] = (
            partial(settings.current, "nats_password") if in_file else settings.current("nats_password")
        )
        chosen["inbox_prefix"] = f"_INBOX_{settings.nats_user}"
    return chosen


async def connect(
    settings: Settings,
    name: str,
    *,
    client: C | None = None,
    on_closed: Callable[[], None],
    on_disconnected: Callable[[], None] | None = None,
    on_reconnected: Callable[[], Awaitable[None]] | None = None,
) -> C | Client:
    """Connect. Wait for a broker that is not there yet; the caller reports itself not ready until then.

    `on_closed` is called if the client gave up forever: the process must end. Our own `close` does not call it.
    """
    nc = client if client is not None else Connection()

    async def disconnected() -> None:
        if getattr(nc, "closing_on_purpose", False):
            return
        log.warning("lost the broker")
        if on_disconnected:
            on_disconnected()

    async def reconnected() -> None:
        log.info("broker is back")
        if on_reconnected:
            await on_reconnected()

    async def closed() -> None:
        if not getattr(nc, "closing_on_purpose", False):
            log.error("broker connection closed for good")
            on_closed()

    try:
        connecting = nc.connect(
            **options(settings, name),
            error_cb=report,
            disconnected_cb=disconnected,
            reconnected_cb=reconnected,
            closed_cb=closed,
        )
        await cancellable(connecting)
    except BaseException:
        await close(nc)
        raise
    return nc


async def report(problem: Exception) -> None:
    """Log what nats-py reports about a connection."""
    log.warning("broker client reports", error=type(problem).__name__, detail=str(problem)[:200])


async def close(nc: Client) -> None:
    """Close a connection without calling `on_closed`. Wait only briefly for a broker that does not read."""
    nc.closing_on_purpose = True  # type: ignore[attr-defined]
    try:
        # Without the broker, nats-py writes pending data to a transport that is gone. We can do no more about it.
        with contextlib.suppress(RuntimeError, OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await nc.close()
    finally:
        # nats-py leaves its socket open if that write failed, or if it was still connecting.
        abort(nc)


async def cancellable(connecting: Awaitable[R]) -> R:
    """Await something that goes on while the broker is away, and end it when the caller is cancelled.

    It may lose a cancellation, as `check_cancelled` explains, and then never end. So cancel it until it ends.
    """
    task = asyncio.ensure_future(connecting)
    try:
        await asyncio.wait((task,))
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait((task,), timeout=CANCEL_AGAIN_S)
    return task.result()


def check_cancelled() -> None:
    """Raise CancelledError if the current task was cancelled and something swallowed the cancellation.

    Call it in every loop that asks the broker. On Python 3.11, `asyncio.wait_for` loses a cancellation that arrives
    together with the answer, and nats-py waits with it.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def stream_config(
    *, replicas: int, epoch: str, max_age_s: int = MAX_AGE_S, max_bytes: int = MAX_BYTES
) -> dict[str, Any]:
    """Return the configuration of the stream (docs/topics/delivery.md), in the JSON of the JetStream API."""
    return {
        "name": STREAM,
        "subjects": list(STREAM_SUBJECTS),
        "retention": "limits",
        "discard": "old",
        "storage": "file",
        "num_replicas": replicas,
        "max_age": max_age_s * NS,
        "max_bytes": max_bytes,
        "max_msgs": -1,
        "max_consumers": -1,
        "max_msg_size": MAX_MESSAGE_BYTES,
        "duplicate_window": DUPLICATE_WINDOW_S * NS,
        "allow_direct": False,
        "allow_msg_ttl": True,
        "allow_atomic": True,
        "republish": {"src": ">", "dest": f"{LIVE_PREFIX}>"},
        "metadata": {EPOCH_KEY: epoch},
    }


def deadletters_config(*, replicas: int) -> dict[str, Any]:
    """Return the configuration of the stream of dead letters.

    Its duplicate window is as long as that of the events, because every gateway sets the same message aside.
    """
    return {
        "name": DEADLETTERS,
        "subjects": [f"{DEADLETTER_PREFIX}>"],
        "retention": "limits",
        "discard": "old",
        "storage": "file",
        "num_replicas": replicas,
        "max_age": DEADLETTERS_MAX_AGE_S * NS,
        "max_bytes": DEADLETTERS_MAX_BYTES,
        "duplicate_window": DUPLICATE_WINDOW_S * NS,
    }


def epoch_of(config: Mapping[str, Any]) -> str:
    """Read the epoch from a stream's configuration; empty if it has none."""
    return str((config.get("metadata") or {}).get(EPOCH_KEY, ""))


async def config_of(nc: Client, stream: str) -> dict[str, Any]:
    """Return how a stream is declared; empty if it does not exist."""
    info = await _api(nc, f"STREAM.INFO.{stream}", {})
    return dict(info["config"]) if info else {}


async def renew_epoch(nc: Client, *, timeout_s: float = 30.0) -> tuple[str, str]:
    """Give the stream a new epoch, so that all cursors given out so far become invalid. Its messages stay.

    An anchor carries the epoch to the gateways. They hear the whole stream, so none misses it. Returns the old epoch
    and the new one. Needs the permissions of `setup`. Raises TimeoutError, BrokerRefused.
    """
    async with asyncio.timeout(timeout_s):
        config, epoch = await config_of(nc, STREAM), uuid.uuid4().hex[:12]
        if not config:
            raise BrokerRefused(f"there is no stream {STREAM}: `beaconfire setup` declares it, with an epoch")
        # The server adds metadata of its own, which is not part of a configuration.
        metadata = {key: value for key, value in config.get("metadata", {}).items() if not key.startswith("_nats.")}
        config["metadata"] = metadata | {EPOCH_KEY: epoch}
        await _api(nc, f"STREAM.UPDATE.{STREAM}", config, required=True)
        await publish(nc, ANCHOR, epoch.encode(), message_id=f"anchor-{epoch}")
        return epoch_of({"metadata": metadata}), epoch


async def stream_state(nc: Client) -> StreamState:
    """Ask the stream for its state. Needs STREAM.INFO.

    Waits without limit until the stream is declared and answers. Limit it with `asyncio.timeout`. In a cluster do not
    use `last` as a boundary, because the answering server may lag. Use a `tick`.
    """
    while True:
        info = await _api(nc, f"STREAM.INFO.{STREAM}", {})
        if info is not None:
            return StreamState.of(info)
        await asyncio.sleep(0.2)


async def tick(nc: Client, *, timeout_s: float) -> int:
    """Publish a tick once. Return its offset: a read up to it ends, because the stream reaches it.

    Every tick has another body. So a tick that a backup brings back is not taken for the one that was heard at its
    offset. Raises NotAcknowledged if the broker does not acknowledge it within `timeout_s` seconds, although it may
    store it. Raises BrokerRefused if the broker refuses this tick and may accept other messages.
    """
    headers = {"Nats-TTL": f"{TICK_TTL_S}s"}
    try:
        async with asyncio.timeout(timeout_s):
            return await _publish_once(nc, TICK, secrets.token_bytes(8), headers, timeout_s)
    except (nats.errors.Error, TimeoutError) as error:
        raise NotAcknowledged("no answer from the broker") from error


async def publish(
    nc: Client,
    subject: str,
    body: bytes,
    *,
    message_id: str,
    headers: Mapping[str, str] | None = None,
    attempt_timeout_s: float = 2.0,
) -> int:
    """Publish to the stream and wait for its acknowledgement, as long as it takes. Returns the offset.

    Bound it with `asyncio.timeout` if the caller cannot wait. A repeat within the duplicate window is stored once.
    Raises BrokerRefused if the broker refuses this message (see `try_to_publish`).
    """
    while True:
        if not nc.is_connected and not nc.is_closed:  # the message would wait in the client's buffer
            await asyncio.sleep(0.1)
            continue
        try:
            return await try_to_publish(
                nc, subject, body, message_id=message_id, headers=headers, timeout_s=attempt_timeout_s
            )
        except NotAcknowledged as error:
            log.warning("publish not acknowledged, trying again", subject=subject, error=str(error)[:200])
        await asyncio.sleep(0.1)


async def try_to_publish(
    nc: Client,
    subject: str,
    body: bytes,
    *,
    message_id: str,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 2.0,
) -> int:
    """Publish to the stream once and wait for its acknowledgement. Returns the offset.

    Raises BrokerRefused if the broker refuses this message and may accept others. Then the user may not publish on its
    subject, the stream does not have the subject, or the message is too large. Raises NotAcknowledged if no message can
    be stored now, or if no answer comes. Then the broker is away or starting, or JetStream is off. Or the stream is
    missing, sealed or full, or the account or disk has no room. A message that was not acknowledged may still be
    stored, unless the exception is CannotStore.
    """
    try:
        return await _publish_once(nc, subject, body, {**(headers or {}), "Nats-Msg-Id": message_id}, timeout_s)
    except _NoStreamAnswers:
        await _refuse_unknown_subject(nc, subject)
        raise


class _NoStreamAnswers(CannotStore):
    """No stream takes the subject now."""


async def _publish_once(nc: Client, subject: str, body: bytes, headers: dict[str, str], timeout_s: float) -> int:
    try:
        ack = await nc.jetstream(timeout=timeout_s).publish(subject, body, headers=headers)
        return ack.seq
    except PublishDenied as error:
        raise MayNotPublish(f"{error}: see deploy/nats for what it may publish") from None
    except nats.js.errors.NoStreamResponseError:
        raise _NoStreamAnswers(
            "no stream answers: JetStream is off, or the stream is missing or has no leader"
        ) from None
    except nats.js.errors.APIError as error:
        if error.err_code in WRONG_SEQUENCE:
            raise WrongSequence(f"publish on {subject}: {error.description}") from error
        if _concerns_all(error):
            kind = CannotStore if error.err_code in NO_ROOM else NotAcknowledged
            raise kind(f"{error.description} ({error.err_code})") from error
        raise BrokerRefused(f"publish on {subject}: {error.description}") from error
    except RETRYABLE as error:
        raise NotAcknowledged("no answer from the broker") from error
    except (nats.errors.MaxPayloadError, nats.errors.BadSubjectError) as error:
        raise BrokerRefused(f"publish on {subject}: {error}") from error


def _concerns_all(error: nats.js.errors.APIError) -> bool:
    if SUBJECT_FULL in (error.description or ""):
        return False
    return error.code is None or error.code >= 500 or error.err_code in PASSING


async def _refuse_unknown_subject(nc: Client, subject: str) -> None:
    """Raise BrokerRefused if the stream exists and does not take this subject."""
    try:
        answer = json.loads((await nc.request(f"$JS.API.STREAM.INFO.{STREAM}", b"", timeout=2)).data)
    except nats.errors.Error:
        return
    subjects = answer.get("config", {}).get("subjects")
    if subjects and not any(matches(pattern, subject) for pattern in subjects):
        raise BrokerRefused(f"the stream {STREAM} does not take {subject}: `beaconfire setup` brings it up to date")


async def _api(nc: Client, call: str, body: dict[str, Any], *, required: bool = False) -> dict[str, Any] | None:
    """Call the JetStream API until it answers, also while the broker's permissions do not allow it.

    Returns None for "stream not found" unless `required`.
    """
    missing = frozenset[int]() if required else frozenset({STREAM_NOT_FOUND})
    while True:
        try:
            return await call_api(nc, call, body, missing=missing)
        except MayNotPublish as problem:  # until the broker's users are brought up to date
            log.warning("the broker denies a request, trying again", call=call, reason=str(problem))
        await asyncio.sleep(DENIED_S)


async def call_api(
    nc: Client, call: str, body: Mapping[str, Any], *, missing: frozenset[int] = frozenset()
) -> dict[str, Any] | None:
    """Call the JetStream API until it answers. Returns None if it answers with one of the codes in `missing`.

    Bound it with `asyncio.timeout`. Raises MayNotPublish if this user may not make the call, NoSuchStream, and
    BrokerRefused if the broker refuses it.
    """
    while True:
        try:
            answer = json.loads((await nc.request(f"$JS.API.{call}", json.dumps(body).encode(), timeout=2)).data)
        except PublishDenied as denied:
            raise MayNotPublish(f"{denied}: see deploy/nats for what it may publish") from None
        except RETRYABLE as problem:
            log.debug("the broker did not answer, asking again", call=call, error=type(problem).__name__)
            await asyncio.sleep(0.2)
            continue
        error = answer.get("error")
        if error is None:
            return dict(answer)
        if error.get("err_code") in missing:
            return None
        if error.get("err_code") == STREAM_NOT_FOUND:
            raise NoSuchStream(f"{call}: there is no such stream. `beaconfire setup` declares it")
        if error.get("err_code") in FOR_GOOD or (error.get("code", 0) < 500 and error.get("err_code") not in PASSING):
            raise BrokerRefused(f"{call}: {error.get('description')} ({error.get('err_code')})")
        await asyncio.sleep(0.2)
