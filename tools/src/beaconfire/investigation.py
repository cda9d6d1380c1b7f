"""Collect what a deployment still knows of an event and of a user, for `beaconfire why` and `beaconfire event`.

The stream is read as the broker user `operator`, outboxes in the services' databases, users at auth's operations port,
and sessions at the gateways' ones. Anything that cannot be asked is named in `unseen`, and the rest is answered.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlencode

import nats.js.errors
from nats.aio.client import Client

from beaconfire import deadletters as letters
from beaconfire import outboxes, stream_search
from beaconfire.api import ApiError, call
from beaconfire.deadletters import Letter
from beaconfire.evidence import Change, Evidence, Revocation, Row, SessionSeen
from beaconfire.gateways import ask_each
from beaconfire.operating import AuthOperator
from beaconfire.stream_search import Message
from beaconfire_kit.broker import BrokerRefused, StreamState, stream_state
from beaconfire_kit.cursor import Cursor
from beaconfire_kit.settings import Settings

TIMEOUT_S = 10.0
SEARCH_S = 120.0
LOOK_BACK = 50_000
"""Messages that a search for an id looks at, the newest first: some ten seconds."""
MAX_EVENTS = 20
"""Events that one correlation id is followed to."""
NEAR = 1_000
"""Offsets around events of a correlation id in which others of it are searched for."""
MAX_CHANGES = 200
MAX_SESSIONS = 1_000
_OFFSET = re.compile(r"(?:EVENTS:)?([0-9]{1,18})").fullmatch
"""Gateways name an event without an id `EVENTS:42`."""


class CannotInvestigate(Exception):
    """The text contains the problem and what to do."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where to look."""

    broker: Settings
    databases: Mapping[str, str]
    """URLs of the services' databases, by a name for each."""
    services: Sequence[str]
    """URLs of the operations ports of services with outboxes, besides those of `databases`."""
    gateways: Sequence[str]
    """URLs of the gateways' operations ports."""
    operator_token: str
    auth: AuthOperator | None = None
    """None: no user is asked about."""
    look_back: int = LOOK_BACK


async def investigate(deployment: Deployment, event: str, user: str | None = None) -> list[Evidence]:
    """Return what is known of each event that the text names: an offset, a cursor, an event id, a correlation id.

    One that was found nowhere is returned, too. Raises CannotInvestigate, CannotRead, ApiError.
    """
    known = await _user(deployment, user) if user is not None else {}
    async with _connected(deployment.broker) as nc:
        async with asyncio.timeout(TIMEOUT_S):
            stream = await stream_state(nc)
        found = await _find(nc, deployment, Evidence(asked=event, user=known, stream=stream))
        found = [await _with_opinion(nc, deployment, one) for one in found]
        if user is None:
            return found
        sessions = await _with_sessions(deployment, known["userId"], found)
        return [await _with_standing(nc, deployment, one) for one in sessions]


@asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[Client]:
    try:
        async with letters.connected(settings) as nc:
            yield nc
    except BrokerRefused as error:
        raise CannotInvestigate(
            f"the broker refuses to show the stream ({error}): connect as operator (BEACONFIRE_NATS_USER, "
            "BEACONFIRE_NATS_PASSWORD)"
        ) from None
    except TimeoutError:
        raise CannotInvestigate(letters.no_answer(settings)) from None


# The event.


async def _find(nc: Client, deployment: Deployment, start: Evidence) -> list[Evidence]:
    offset = _offset_of(start.asked, start.stream)
    start = await _with_rows(deployment, start, offset)
    if offset is not None:
        rows = [one for one in start.rows if one.written.stream_offset == offset]
        return [await _at(nc, replace(start, rows=rows), offset)]
    if not start.rows:
        return await _searched(nc, deployment, start)
    of_rows = [await _of_row(nc, replace(start, rows=(row,))) for row in start.rows]
    if any(row.written.event_id == start.asked for row in start.rows):
        return of_rows
    return await _with_others(nc, start, of_rows)


def _offset_of(name: str, stream: StreamState) -> int | None:
    """Return the offset that a text means, or None if it is an id. Raises CannotInvestigate for another epoch."""
    if (plain := _OFFSET(name)) is not None:
        return int(plain[1])
    cursor = Cursor.parse(name)
    if cursor is None:
        return None
    if cursor.epoch != stream.epoch:
        raise CannotInvestigate(
            f"{name} is a cursor of the epoch {cursor.epoch}, and the stream is in the epoch {stream.epoch}: it was "
            "replaced or restored since. Ask with the event's id"
        )
    return cursor.offset


async def _with_rows(deployment: Deployment, found: Evidence, offset: int | None) -> Evidence:
    """Look into the outboxes, of which some may not be there."""
    wanted: dict[str, Any] = (
        {"offset": offset} if offset is not None else {"event_id": found.asked, "correlation_id": found.asked}
    )
    rows: list[Row] = []
    seen: list[str] = []
    unseen = list(found.unseen)
    for service, url in deployment.databases.items():
        try:
            rows += [Row(service, one) for one in await outboxes.find(url, **wanted)]
            seen.append(service)
        except outboxes.CannotLook as error:
            unseen.append(f"the outbox of {service}: {error}")
    for url in deployment.services:
        try:
            service, written = await asyncio.to_thread(outboxes.find_over_http, url, **wanted)
            rows += [Row(service, one) for one in written]
            seen.append(service)
        except ApiError as error:
            unseen.append(f"an outbox: {url}: {error}")
    if not deployment.databases and not deployment.services:
        unseen.append("no outbox: name the services with --service-ops")
    rows.sort(key=lambda one: one.written.created_at)
    return replace(found, rows=rows, outboxes=seen, unseen=unseen)


async def _of_row(nc: Client, found: Evidence) -> Evidence:
    """Look for the message of a row, which may have been sent to a stream that was replaced since."""
    row = found.rows[0].written
    if row.published_at is None:
        return await _of_unmarked(nc, found)
    if row.stream_offset is None:
        return found
    there = await _at(nc, found, row.stream_offset)
    if there.message is None or there.message.is_called(row.event_id):
        return there
    gone = f"offset {row.stream_offset} has another event now: the stream was replaced since the event was sent"
    return replace(there, message=None, unseen=(*there.unseen, gone))


async def _of_unmarked(nc: Client, found: Evidence) -> Evidence:
    """Look among the newest messages for a row that waits: the relay marks rows a moment after the broker has them."""
    (row,), stream = found.rows, found.stream
    first = max(stream.first, stream.last - NEAR)
    hits = await stream_search.search(nc, row.written.event_id, first=first, last=stream.last, most_found=1)
    if not hits:
        return found
    sent = replace(row.written, published_at=hits[0].stored_at, stream_offset=hits[0].offset, ahead=0, first_ahead=None)
    return await _with_next(
        nc, replace(found, rows=(replace(row, written=sent),), offset=hits[0].offset, message=hits[0])
    )


async def _at(nc: Client, found: Evidence, offset: int) -> Evidence:
    message = await stream_search.get(nc, offset)
    rows = [one for one in found.rows if message is None or message.is_called(one.written.event_id)]
    return await _with_next(nc, replace(found, offset=offset, message=message, rows=rows))


async def _searched(nc: Client, deployment: Deployment, found: Evidence) -> list[Evidence]:
    """Search the stream for an id, the newest messages first."""
    stream = found.stream
    first = max(stream.first, stream.last - deployment.look_back + 1)
    try:
        async with asyncio.timeout(SEARCH_S):
            messages = await stream_search.search(nc, found.asked, first=first, last=stream.last, most_found=MAX_EVENTS)
    except TimeoutError:
        raise CannotInvestigate(
            f"the search took more than {SEARCH_S:.0f} s: ask with an offset, or with a smaller --look-back"
        ) from None
    found = replace(found, searched_from=first)
    if not messages:
        return [found]
    return [await _with_next(nc, replace(found, offset=one.offset, message=one)) for one in messages]


async def _with_others(nc: Client, start: Evidence, of_rows: list[Evidence]) -> list[Evidence]:
    """Add events of the same correlation id that are in no outbox. They lie close to the others in the stream."""
    known = [one.offset for one in of_rows if one.offset is not None]
    if not known:
        return of_rows
    first, last = max(start.stream.first, min(known) - NEAR), min(start.stream.last, max(known) + NEAR)
    near = await stream_search.search(nc, start.asked, first=first, last=last, most_found=MAX_EVENTS)
    others = [replace(start, rows=(), offset=one.offset, message=one) for one in near if one.offset not in known]
    found = sorted([*of_rows, *others], key=lambda one: start.stream.last + 1 if one.offset is None else one.offset)
    return [await _with_next(nc, one) for one in found[-MAX_EVENTS:]]


async def _with_next(nc: Client, found: Evidence) -> Evidence:
    """Add the next event on the same subject, which may have replaced it."""
    message = found.message
    if message is None or not found.rooms:
        return found
    async for later in stream_search.along(nc, message.subject, after=message.offset, most=1):
        return replace(found, next_on_subject=later)
    return found


async def _with_opinion(nc: Client, deployment: Deployment, found: Evidence) -> Evidence:
    """Add what the first gateway that answers says of the message, and its dead letter."""
    if found.message is None or found.offset is None:
        return found
    unseen = list(found.unseen)
    for url in deployment.gateways:
        try:
            opinion = await asyncio.to_thread(
                call, "GET", f"{url}/api/v1/ws/events/{found.offset}", token=deployment.operator_token
            )
        except ApiError as error:
            unseen.append(f"whether the event is valid: {url}: {error}")
            continue
        found = replace(found, opinion=opinion)
        break
    else:
        found = replace(found, unseen=unseen)
    if found.opinion is None or found.opinion.get("isValid") is False:
        found = replace(found, letter=await _letter(nc, deployment, found))
    return found


async def _letter(nc: Client, deployment: Deployment, found: Evidence) -> Letter | None:
    """Return the dead letter about a message."""
    cursor = str(Cursor(found.stream.epoch, found.offset or 0))
    with suppress(nats.js.errors.NotFoundError), letters.explaining(deployment.broker):
        async for message in letters.there(nc, None):
            if (message.headers or {}).get("Nats-Msg-Id") == cursor:
                return Letter.of(message)
    return None


# The user.


async def _user(deployment: Deployment, name: str, rooms: Sequence[str] = ()) -> Mapping[str, Any]:
    """Return the user as auth knows it, and whether it may hear these rooms now. Raises ApiError."""
    assert deployment.auth is not None
    query = urlencode([("room", one) for one in rooms])
    answer = await asyncio.to_thread(deployment.auth.get, f"users/{quote(name, safe='')}?{query}")
    user: Mapping[str, Any] = answer["user"]
    return user


async def _with_sessions(deployment: Deployment, user_id: str, found: Sequence[Evidence]) -> list[Evidence]:
    """Add the user's sessions on all gateways."""
    query = urlencode({"user": user_id, "limit": MAX_SESSIONS})

    def ask(url: str) -> dict[str, Any]:
        return call("GET", f"{url}/api/v1/ws/sessions?{query}")

    answers, failed = await asyncio.to_thread(ask_each, deployment.gateways, ask)
    processes = [{**one, "gateway": url} for url, answer in answers.items() for one in answer["gateways"]]
    by_worker = {(one["gateway"], one.get("worker")): one for one in processes}
    sessions = [
        SessionSeen(url, by_worker.get((url, one.get("worker")), {}), one)
        for url, answer in answers.items()
        for one in answer["sessions"]
    ]
    missed = [f"sessions: {sentence}" for sentence in failed]
    return [replace(one, processes=processes, sessions=sessions, unseen=(*one.unseen, *missed)) for one in found]


async def _with_standing(nc: Client, deployment: Deployment, found: Evidence) -> Evidence:
    """Add the user's membership in the event's root, then and now, and the revocations of the user."""
    if not found.rooms:
        return found
    user_id, root = found.user["userId"], found.rooms[0].root
    user = await _user(deployment, user_id, [str(one) for one in found.rooms])
    changes = [
        Change(one.offset, one.stored_at, _payload(one).get("role"))
        async for one in stream_search.along(nc, f"{root.kind}.{root.id}.member.{user_id}", most=MAX_CHANGES)
    ]
    revocations = [
        Revocation(one.offset, one.stored_at, str(_payload(one).get("reason")), _payload(one).get("root"))
        async for one in stream_search.along(nc, f"user.{user_id}.access", most=MAX_CHANGES)
    ]
    return replace(found, user=user, history=changes, revocations=revocations)


def _payload(message: Message) -> Mapping[str, Any]:
    payload = message.event.get("payload")
    return payload if isinstance(payload, dict) else {}
