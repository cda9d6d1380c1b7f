"""`POST /v1/send`, and the same over the broker: send an event to rooms and sessions that a service chooses.

    service ── HTTP, or a request on $BEACONFIRE.send ──▶ publisher ── $BEACONFIRE.sent ──▶ every gateway

The event is ephemeral, so it takes no way through the outbox. A service token says to which rooms its service may send:
those whose own subject, `workspace.w1.team.m1`, is among the patterns of the token.
"""

import asyncio
import json
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any

import nats.errors
from aiohttp import web
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import Field, StringConstraints, ValidationError

from beaconfire_kit import broker, errors, logs, metrics
from beaconfire_kit.broker_requests import is_request
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue_follower import CatalogueFollower
from beaconfire_kit.envelope import EventId, body
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.invalid_event import InvalidEvent
from beaconfire_kit.models import Body, CamelModel
from beaconfire_kit.seams.nats_connection import Connection, PublishDenied
from beaconfire_kit.sending import HTTP_PATH, SENDING_QUEUE
from beaconfire_kit.sent_events import MAX_ROOMS, SentEvent, subject_of_room
from beaconfire_kit.subjects import InvalidRoom, RoomKey
from beaconfire_kit.tokens import MAX_TOKEN_BYTES, Claims, ServiceClaims, may_publish
from beaconfire_kit.web import WHOLE, correlation_id, describe, json_answer, read_bytes
from beaconfire_publisher.access import Access
from beaconfire_publisher.given_events import (
    MAX_ITEM_BYTES,
    GivenMetadata,
    catalogue_with,
    check_item_size,
    check_time,
    metadata_of,
    read_json,
    type_of,
)
from beaconfire_publisher.raw_payloads import raw_payloads

log = logs.get(__name__)

ASKED = metrics.Counter(
    "beaconfire_publisher_sends_total",
    "Requests to send an event to rooms and sessions, by way (HTTP or the broker) and result.",
    ["way", "result"],
)

MAX_ROOM_BYTES = 300
MAX_BYTES = MAX_ITEM_BYTES + MAX_ROOMS * MAX_ROOM_BYTES
BROKER_S = 2.0
"""How long the broker may take to accept an event."""
MAX_ANSWERING = 64
"""Requests over the broker that are answered at one time. Further ones are refused until one is done."""


class GivenSend(Body):
    """An event, and the rooms and sessions that it is sent to."""

    to: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=MAX_ROOM_BYTES)], ...],
        Field(min_length=1, max_length=MAX_ROOMS),
    ]
    id: EventId | None = None
    type: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    version: Annotated[int, Field(ge=1), WHOLE] = 1
    payload: dict[str, Any]
    metadata: GivenMetadata = GivenMetadata()


class SentAnswer(CamelModel):
    """The answer: the event was given to the gateways, and is stored nowhere."""

    id: str
    rooms: int
    """How many rooms and sessions it was sent to, each counted once."""
    ephemeral: bool = True


class Sending:
    """The call that sends events, over HTTP and over the broker."""

    def __init__(self, access: Access, catalogues: CatalogueFollower) -> None:
        self._access = access
        self._catalogues = catalogues
        self._nc: Client | None = None

    def routes(self) -> list[web.RouteDef]:
        return [web.post(HTTP_PATH, self._send_over_http)]

    async def run(self, nc: Client) -> None:
        """Answer requests over the broker, forever. Owned by the service."""
        self._nc = nc
        answering: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as tasks:

            async def hear(message: Msg) -> None:
                if not is_request(message, broker.SEND):
                    ASKED.labels("broker", "no_request").inc()
                    log.warning("ignored a message that is not a request", reply=message.reply[:200])
                elif len(answering) >= MAX_ANSWERING:
                    await _refuse(message, _too_busy())
                else:
                    task = tasks.create_task(self._send_over_broker(message))
                    answering.add(task)
                    task.add_done_callback(answering.discard)

            subscription = await nc.subscribe(broker.SEND, queue=SENDING_QUEUE, cb=hear)
            try:
                await asyncio.Event().wait()
            finally:
                with suppress(nats.errors.Error):
                    await subscription.unsubscribe()

    async def _send_over_http(self, request: web.Request) -> web.Response:
        try:
            author = await self._access.author(request, max_body_bytes=MAX_BYTES)
            if isinstance(author, Claims):
                raise BeaconfireError(errors.FORBIDDEN, "only a service may send to rooms: use a service token")
            content = await read_bytes(request, limit=MAX_BYTES)
            answer = await self._send(read_json(content), content, author, correlation_id(request))
        except BeaconfireError as error:
            ASKED.labels("http", error.code.code).inc()
            raise
        ASKED.labels("http", "sent").inc()
        return json_answer(answer, status=202)

    async def _send_over_broker(self, message: Msg) -> None:
        try:
            answer = (await self._answer(message.data)).model_dump(by_alias=True)
        except BeaconfireError as error:
            refusal = error
        except Exception:
            log.exception("could not answer", subject=broker.SEND)
            refusal = BeaconfireError(errors.INTERNAL, "something went wrong in the publisher, see its log")
        else:
            ASKED.labels("broker", "sent").inc()
            await _reply(message, answer)
            return
        await _refuse(message, refusal)

    async def _answer(self, content: bytes) -> SentAnswer:
        if len(content) > MAX_BYTES + MAX_TOKEN_BYTES:
            raise BeaconfireError(errors.TOO_LARGE, f"a request has at most {MAX_BYTES + MAX_TOKEN_BYTES} bytes")
        given = read_json(content)
        token = given.pop("serviceToken", None) if isinstance(given, dict) else None
        if not isinstance(token, str):
            raise BeaconfireError(errors.TOKEN_INVALID, "serviceToken: give a service token")
        author = await self._access.service(token)
        return await self._send(given, content, author, uuid.uuid4().hex)

    async def _send(self, given: Any, content: bytes, author: ServiceClaims, correlation: str) -> SentAnswer:
        """Check the event and give it to the gateways. `content` has the payload as the caller wrote it."""
        if not isinstance(given, dict):
            raise BeaconfireError(errors.BAD_REQUEST, "expected one event")
        catalogue = await catalogue_with(self._catalogues, [given])
        sent, rooms, answer = _prepare(given, content, catalogue, author, correlation)
        self._access.count_send({str(room.root) for room in rooms})
        await self._give_to_gateways(sent)
        log.info("sent an event", type=given["type"], rooms=answer.rooms, sender=author.service, id=answer.id)
        return answer

    async def _give_to_gateways(self, sent: SentEvent) -> None:
        nc = self._nc
        if not isinstance(nc, Connection) or not nc.is_connected:  # it would be sent late, when it means nothing
            raise _broker_away()
        try:
            await nc.publish_and_wait(broker.SENT, sent.encode(), timeout_s=BROKER_S)
        except PublishDenied as error:
            log.error("the broker's users are out of date: see deploy/nats", reason=str(error))
            raise BeaconfireError(
                errors.INTERNAL, "the publisher may not send to the gateways: its broker user is out of date"
            ) from None
        except nats.errors.Error:
            raise _broker_away() from None


def _prepare(
    item: Mapping[str, Any], content: bytes, catalogue: Catalogue, author: ServiceClaims, correlation: str
) -> tuple[SentEvent, Sequence[RoomKey], SentAnswer]:
    """Return the event as the gateways get it, its rooms, and the answer. Raises BeaconfireError."""
    check_item_size({name: value for name, value in item.items() if name != "to"})
    try:
        given = GivenSend.model_validate_json(json.dumps(item), by_name=False, by_alias=True)
        check_time("metadata.timestamp", item.get("metadata", {}).get("timestamp"))
        type_of(given.type, given.version, catalogue)
        metadata = metadata_of(given.metadata, author, correlation)
        payload = raw_payloads(content.decode())[0]
        assert payload is not None
        id_ = given.id or uuid.uuid4().hex
        said = metadata.model_dump(mode="json", exclude_none=True)
        sent = SentEvent(
            given.to, body(id_=id_, type_=given.type, version=given.version, payload=payload, metadata=said)
        )
        rooms = sent.check(catalogue).rooms
    except ValidationError as error:
        raise BeaconfireError(errors.BAD_REQUEST, describe(error)) from None
    except InvalidRoom as error:
        raise BeaconfireError(errors.BAD_ROOM, f"to: {error}") from None
    except InvalidEvent as error:
        code = errors.TOO_LARGE if error.reason == "too_large" else errors.BAD_REQUEST
        raise BeaconfireError(code, error.detail) from None
    for room in rooms:
        if not may_publish(author, subject_of_room(room)):
            raise BeaconfireError(
                errors.FORBIDDEN, f"to: this token may not send to {room}: it needs {subject_of_room(room)}"
            )
    return sent, rooms, SentAnswer(id=id_, rooms=len(rooms))


def _broker_away() -> BeaconfireError:
    why = "the message broker does not answer: try again"
    return BeaconfireError(errors.BROKER_UNAVAILABLE, why, retry_after_ms=1_000)


def _too_busy() -> BeaconfireError:
    return BeaconfireError(errors.UNAVAILABLE, "the publisher is busy, try again", retry_after_ms=1_000)


async def _refuse(message: Msg, error: BeaconfireError) -> None:
    ASKED.labels("broker", error.code.code).inc()
    await _reply(message, {"error": error.body()})


async def _reply(message: Msg, answer: Mapping[str, Any]) -> None:
    try:
        await message.respond(json.dumps(answer).encode())
    except nats.errors.Error as error:
        log.warning("could not send an answer", subject=broker.SEND, error=type(error).__name__)
