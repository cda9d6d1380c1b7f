"""Publish events from service code that has no outbox, over NATS or over HTTP.

    publisher = NatsPublisher(nc, source="tracker")
    publisher = HttpPublisher(http, "https://publisher.example", token=service_token)

    await publisher.publish(IssueUpdated(workspace_id="w1", team_id="m1", id="i1", changes={"status": "done"}))

`beaconfire_kit.broadcast` has a function for each event of workspaces and trackers. A service that changes rows of a
database uses `beaconfire_kit.outbox` instead: only then are a change and its event never one without the other.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
from nats.aio.client import Client

from beaconfire_kit import broker, tracing
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.event import Event
from beaconfire_kit.fetching import Answer, FetchFailed, post
from beaconfire_kit.roles import Role
from beaconfire_kit.trace_context import Context

TIMEOUT_S = 30.0
PAUSE_S = 0.25
MAX_EVENTS = 500
"""Events in one call."""
MAX_ANSWER_BYTES = 256 * 1024
_TEMPORARY = frozenset({408, 429, 502, 503, 504})
_REPLACED = "api"
"""A source that is not sent: over HTTP, the service token names the source."""


class NotPublished(Exception):
    """The event was refused, or it is not known whether it was stored. The text contains the reason."""


@dataclass(frozen=True, slots=True)
class Published:
    """An event that is stored, or certain to be."""

    id: str
    offset: int | None
    """Its offset in the stream. None for an ephemeral event, and while the publisher service cannot tell yet."""


class Publisher(Protocol):
    """Publishes events. Repeats each until it is stored, so an event is stored once."""

    async def publish(
        self,
        event: Event,
        *,
        user_id: str | None = None,
        correlation_id: str | None = None,
        audience: Sequence[Role] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Published:
        """Publish an event, and wait until it is stored. Raises NotPublished.

        `user_id` is the user who caused it, and `audience` are the roles that may see it. Raises MissingId if an id of
        the subject is missing.
        """

    async def publish_all(
        self,
        events: Sequence[Event],
        *,
        user_id: str | None = None,
        correlation_id: str | None = None,
        audience: Sequence[Role] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Sequence[Published]:
        """Publish up to `MAX_EVENTS` events, such as one for each of several rooms. The last arguments count for each.

        Events of one root keep their order. Raises NotPublished if any is refused. The others may be stored then.
        """


class NatsPublisher:
    """Publishes onto the broker."""

    def __init__(self, nc: Client, *, source: str) -> None:
        """`source` is the name of the service, in the metadata of its events."""
        self._nc = nc
        self._source = source

    async def publish(
        self,
        event: Event,
        *,
        user_id: str | None = None,
        correlation_id: str | None = None,
        audience: Sequence[Role] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Published:
        envelope = _envelope(event, self._source, user_id, correlation_id, audience)
        try:
            async with asyncio.timeout(timeout_s):
                with tracing.sending(envelope.subject, envelope.about()) as context:
                    return Published(envelope.id, await self._send(envelope.encode_with(context), envelope, context))
        except broker.BrokerRefused as error:
            raise NotPublished(f"the broker refused the event: {error}") from error
        except TimeoutError:
            raise NotPublished(f"the broker did not confirm within {timeout_s:.0f} s that it has the event") from None

    async def publish_all(
        self,
        events: Sequence[Event],
        *,
        user_id: str | None = None,
        correlation_id: str | None = None,
        audience: Sequence[Role] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Sequence[Published]:
        _check_count(events)
        ends_at = asyncio.get_running_loop().time() + timeout_s
        return [
            await self.publish(
                event,
                user_id=user_id,
                correlation_id=correlation_id,
                audience=audience,
                timeout_s=max(0.0, ends_at - asyncio.get_running_loop().time()),
            )
            for event in events
        ]

    async def _send(self, body: bytes, envelope: Envelope, headers: Context | None) -> int | None:
        if isinstance(envelope.event, Event) and envelope.event.ephemeral:
            await self._nc.publish(envelope.subject, body)
            await self._nc.flush()
            return None
        return await broker.publish(self._nc, envelope.subject, body, message_id=envelope.message_id, headers=headers)


class HttpPublisher:
    """Publishes over `POST /v1/events` of the publisher service. It takes no ephemeral events."""

    def __init__(self, http: aiohttp.ClientSession, url: str, *, token: str) -> None:
        """`url` is the publisher's address. `token` is a service token, whose service is the source of the events."""
        self._http = http
        self._url = url.rstrip("/") + "/v1/events"
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    async def publish(
        self,
        event: Event,
        *,
        user_id: str | None = None,
        correlation_id: str | None = None,
        audience: Sequence[Role] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Published:
        given = _given(_envelope(event, _REPLACED, user_id, correlation_id, audience))
        return _published(await self._post(given, timeout_s))

    async def publish_all(
        self,
        events: Sequence[Event],
        *,
        user_id: str | None = None,
        correlation_id: str | None = None,
        audience: Sequence[Role] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Sequence[Published]:
        _check_count(events)
        given = [_given(_envelope(event, _REPLACED, user_id, correlation_id, audience)) for event in events]
        results = (await self._post(given, timeout_s)).get("events", [])
        refused = [one["error"]["message"] for one in results if "error" in one]
        if refused:
            raise NotPublished(f"the publisher refused {len(refused)} of {len(events)} events; the first: {refused[0]}")
        return [_published(one) for one in results]

    async def _post(self, given: Any, timeout_s: float) -> Mapping[str, Any]:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._repeat(json.dumps(given))
        except TimeoutError:
            raise NotPublished(f"the publisher did not answer within {timeout_s:.0f} s that it has taken it") from None

    async def _repeat(self, body: str) -> Mapping[str, Any]:
        """Send the request until it is taken or refused. The ids of its events make a repeat harmless."""
        while True:
            try:
                answer = await post(
                    self._http,
                    self._url,
                    body,
                    headers={**self._headers, **tracing.outgoing()},
                    max_bytes=MAX_ANSWER_BYTES,
                    timeout_s=TIMEOUT_S,
                )
            except FetchFailed:
                await asyncio.sleep(PAUSE_S)
                continue
            said = _parsed(answer)
            if answer.status in (200, 201):
                return said
            error = said.get("error", {})
            if answer.status not in _TEMPORARY:
                raise NotPublished(f"the publisher refused the event: {error.get('message', answer.status)}")
            await asyncio.sleep(max(PAUSE_S, error.get("retryAfterMs", 0) / 1_000))


def _envelope(
    event: Event, source: str, user_id: str | None, correlation_id: str | None, audience: Sequence[Role] | None
) -> Envelope:
    roles = None if audience is None else tuple(audience)
    return Envelope(event, Metadata(source=source, user_id=user_id, correlation_id=correlation_id, audience=roles))


def _given(envelope: Envelope) -> dict[str, Any]:
    """Return an event as the publisher service takes it."""
    given: dict[str, Any] = json.loads(envelope.encode()) | {"subject": envelope.subject}
    del given["metadata"]["source"]
    return given


def _check_count(events: Sequence[Event]) -> None:
    if not 0 < len(events) <= MAX_EVENTS:
        raise ValueError(f"publish_all takes 1 to {MAX_EVENTS} events, not {len(events)}")


def _parsed(answer: Answer) -> Mapping[str, Any]:
    try:
        said = json.loads(answer.body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _published(said: Mapping[str, Any]) -> Published:
    offset = str(said.get("offset", "")).rpartition(":")[2]
    return Published(str(said.get("id", "")), int(offset) if offset else None)
