"""`beaconfire outbox`: list the events of a service's database that wait for the broker, or that it refused."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

from rich.console import Console
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from beaconfire.api import call
from beaconfire.migrate import database_urls
from beaconfire.tables import listing, print_table
from beaconfire_auth.store import OUTBOX as AUTH
from beaconfire_demo.tracker.store import OUTBOX as TRACKER
from beaconfire_demo.workspace.store import OUTBOX as WORKSPACE
from beaconfire_kit import logs, outbox_table
from beaconfire_kit.database import Database, DatabaseAway, cause
from beaconfire_kit.lease import Holder
from beaconfire_kit.outbox_answers import EVENTS_PATH
from beaconfire_kit.outbox_table import Refused, WaitingRoot, Written
from beaconfire_publisher.store import OUTBOX as PUBLISHER

OUTBOXES = {"auth": AUTH, "publisher": PUBLISHER, "workspace": WORKSPACE, "tracker": TRACKER}

log = logs.get(__name__)

T = TypeVar("T")


class CannotLook(Exception):
    """The text contains the problem and what to do."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The content of one service's outbox. The lists contain only the oldest."""

    service: str
    waiting_roots: int
    waiting: Sequence[WaitingRoot]
    refused_events: int
    refused: Sequence[Refused]
    relay: Holder | None = None
    """The process that sends them. None if no process ever did."""
    skew_s: float | None = None
    """How far the clock of the database's server is ahead of this machine's. None for SQLite, which has no server."""


def look(service: str | None, url: str | None, folder: Path) -> list[Seen]:
    """Return what waits and what was refused, for one service or all. Raises CannotLook."""
    return [asyncio.run(look_at(name, where)) for name, where in _wheres(service, url, folder).items()]


async def look_at(service: str, url: str) -> Seen:
    """Return the same for a service and the URL of its database."""
    return await _with(url, partial(_look, service))


def find_over_http(url: str, **wanted: Any) -> tuple[str, list[Written]]:
    """Return the name of the service with this operations port, and what `find` returns, without payloads.

    Raises ApiError.
    """
    names = {"event_id": "id", "correlation_id": "correlation"}
    query = urlencode({names.get(name, name): value for name, value in wanted.items()})
    answer = call("GET", f"{url.rstrip('/')}{EVENTS_PATH}?{query}")
    return str(answer["service"]), [_written(one) for one in answer["events"]]


def _written(event: Mapping[str, Any]) -> Written:
    body = {name: event[name] for name in ("id", "type", "version", "metadata") if name in event}
    sent = event["publishedAt"]
    return Written(
        event_id=event["eventId"],
        subject=event["subject"],
        body=json.dumps(body).encode(),
        created_at=datetime.fromisoformat(event["createdAt"]),
        published_at=None if sent is None else datetime.fromisoformat(sent),
        stream_offset=event["streamOffset"],
        refused=event["refused"],
        ahead=event["ahead"],
        first_ahead=event["firstAhead"],
    )


async def find(
    url: str, *, event_id: str | None = None, offset: int | None = None, correlation_id: str | None = None
) -> list[Written]:
    """Return the events of an outbox with one of these, the newest last. Raises CannotLook.

    The outboxes of all services that are built on the kit are alike, so the service need not be known.
    """

    async def work(database: Database) -> list[Written]:
        async with database.reading() as connection:
            return await outbox_table.find(
                connection, PUBLISHER, event_id=event_id, offset=offset, correlation_id=correlation_id
            )

    return await _with(url, work)


def send_again(service: str | None, url: str | None, folder: Path, event_ids: Sequence[str] | None) -> int:
    """Send refused events again, or all of them without ids. Return how many. Raises CannotLook."""

    async def work(tx: AsyncConnection, name: str) -> int:
        return await outbox_table.send_again(tx, OUTBOXES[name], event_ids)

    return _change(_wheres(service, url, folder), work)


def drop(service: str | None, url: str | None, folder: Path, event_ids: Sequence[str], *, why: str, by: str) -> int:
    """Delete refused events for good, and log `why`, and `by` which operator. Return how many. Raises CannotLook."""

    async def work(tx: AsyncConnection, name: str) -> int:
        return await outbox_table.drop(tx, OUTBOXES[name], event_ids)

    dropped = _change(_wheres(service, url, folder), work)
    if dropped:
        log.info("an operator dropped refused events", events=[*event_ids], dropped=dropped, why=why, by=by)
    return dropped


def print_json(seen: Sequence[Seen]) -> None:
    """Print everything as one JSON object."""
    print(json.dumps({one.service: asdict(one) for one in seen}))


def print_readable(seen: Sequence[Seen], console: Console) -> None:
    """Print a table of what waits and a table of what was refused, for each service."""
    for one in seen:
        if not one.waiting and not one.refused:
            console.print(f"{one.service}: no event waits, and none was refused")
        if one.waiting:
            waiting = [(root.root, str(root.events), f"{root.oldest_s:.0f} s", root.event_id) for root in one.waiting]
            title = f"{one.service}: events that wait for the broker"
            print_table(
                listing(["root", "events", "oldest has waited", "first event"], waiting, whole=["root"], title=title),
                console,
            )
            _print_rest(console, one.waiting_roots - len(one.waiting), "roots")
        if one.refused:
            refused = [(event.event_id, event.subject, event.reason) for event in one.refused]
            title = f"{one.service}: events that the broker refused"
            print_table(listing(["event", "subject", "reason"], refused, whole=["event"], title=title), console)
            _print_rest(console, one.refused_events - len(one.refused), "events")


def _print_rest(console: Console, count: int, what: str) -> None:
    if count > 0:
        console.print(f"… and {count} more {what}")


def _wheres(service: str | None, url: str | None, folder: Path) -> Mapping[str, str]:
    if service is not None and service not in OUTBOXES:
        raise CannotLook(f"there is no service {service!r} with an outbox. It is one of {' or '.join(OUTBOXES)}")
    try:
        return database_urls(service, url, folder)
    except ValueError as error:
        raise CannotLook(str(error)) from None


def _change(wheres: Mapping[str, str], work: Callable[[AsyncConnection, str], Awaitable[int]]) -> int:
    async def change(name: str, database: Database) -> int:
        async with database.writing() as tx:
            return await work(tx, name)

    return sum(asyncio.run(_with(url, partial(change, name))) for name, url in wheres.items())


async def _look(service: str, database: Database) -> Seen:
    async with database.reading() as connection:
        content = await outbox_table.look(connection, OUTBOXES[service])
        skew_s = None if database.is_sqlite else await _skew(connection)
    content_of = (content.waiting_roots, content.waiting, content.refused_events, content.refused, content.relay)
    return Seen(service, *content_of, skew_s)


async def _skew(connection: AsyncConnection) -> float:
    began = time.time()
    theirs: datetime = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
    return theirs.timestamp() - (began + time.time()) / 2


async def _with(url: str, work: Callable[[Database], Awaitable[T]]) -> T:
    database = Database(url)
    try:
        if database.is_sqlite and not Path(database.url.database or "").is_file():
            raise CannotLook(f"{database.where}: this database does not exist")
        return await work(database)
    except DatabaseAway as error:
        raise CannotLook(f"{database.where}: {error.message} ({cause(error)})") from None
    except SQLAlchemyError as error:
        raise CannotLook(
            f"{database.where} has no outbox of this version: run `beaconfire migrate` ({cause(error)})"
        ) from None
    finally:
        await database.close()
