"""The outbox's table, and what operators ask of it: which events wait, which were refused, send or drop those."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Select,
    String,
    Table,
    Text,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from beaconfire_kit import lease
from beaconfire_kit.database import UtcDateTime
from beaconfire_kit.envelope import correlation_of
from beaconfire_kit.lease import Holder
from beaconfire_kit.subjects import root_name

MAX_ROOTS = 20
MAX_REFUSED = 100
"""What operators are shown of an outbox."""
MAX_FOUND = 20
"""Events that `find` returns."""


def table(metadata: MetaData) -> Table:
    """The outbox table in a service's own schema, and the table of the relay's lease beside it.

    `published_at` is when the relay was done with a row. Such a row has a `stream_offset`, or the broker refused the
    event and `refused` is the reason. The broker knows the event by `event_id`, its `Nats-Msg-Id`.
    """
    lease.table(metadata)
    return Table(
        "outbox",
        metadata,
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        Column("event_id", String(128), nullable=False, unique=True),
        Column("subject", String(1200), nullable=False),
        Column("body", LargeBinary, nullable=False),
        Column("created_at", UtcDateTime, nullable=False),
        Column("published_at", UtcDateTime, index=True),
        Column("stream_offset", BigInteger),
        _refused := Column("refused", Text),
        # Of refused rows only: they are counted all the time, among the rows of eight days.
        Index(
            "outbox_refused",
            "id",
            sqlite_where=_refused.is_not(None),
            postgresql_where=_refused.is_not(None),
        ),
    )


@dataclass(frozen=True, slots=True)
class Waiting:
    """The events that wait in an outbox, of one root or of all."""

    events: int = 0
    oldest: datetime | None = None
    roots: int = 0
    refused: int = 0
    """Events that the broker refused. They do not count as waiting."""

    def age_s(self) -> float:
        """Seconds since the oldest waiting event was committed; 0 if none waits."""
        return (datetime.now(UTC) - self.oldest).total_seconds() if self.oldest else 0.0


@dataclass(frozen=True, slots=True)
class WaitingRoot:
    """A root with committed events that the broker has not acknowledged yet."""

    root: str
    events: int
    oldest_s: float
    event_id: str = ""
    """The first of them. The others wait behind it."""
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """An event that the broker refused."""

    event_id: str
    subject: str
    reason: str
    age_s: float


@dataclass(frozen=True, slots=True)
class Content:
    """What is in an outbox. The lists contain the oldest, at most `MAX_ROOTS` and `MAX_REFUSED`."""

    waiting_events: int
    waiting_roots: int
    waiting: Sequence[WaitingRoot]
    refused_events: int
    refused: Sequence[Refused]
    relay: Holder | None = None
    """The process that sends them. None if no process ever did."""


def by_root(rows: Table) -> Select[str, int, datetime, int]:
    """Return the events that wait in an outbox, by `root`: `events`, `oldest` and the `first` row, the oldest first."""
    oldest, first = func.min(rows.c.created_at).label("oldest"), func.min(rows.c.id).label("first")
    counted = select(root_of(rows.c.subject).label("root"), func.count().label("events"), oldest, first)
    return counted.where(rows.c.published_at.is_(None)).group_by("root").order_by("oldest")


async def survey(connection: AsyncConnection, rows: Table) -> Waiting:
    """Return the events that wait in an outbox, of all roots together."""
    waiting = (await connection.execute(by_root(rows))).all()
    refused = await connection.scalar(select(func.count()).select_from(rows).where(rows.c.refused.is_not(None)))
    return Waiting(
        sum(row.events for row in waiting),
        min((row.oldest for row in waiting), default=None),
        len(waiting),
        refused or 0,
    )


async def look(connection: AsyncConnection, rows: Table) -> Content:
    """Return what waits in an outbox and what was refused, for operators."""
    now = datetime.now(UTC)
    count = await survey(connection, rows)
    waiting = (await connection.execute(by_root(rows).limit(MAX_ROOTS))).all()
    refused = select(rows).where(rows.c.refused.is_not(None)).order_by(rows.c.id).limit(MAX_REFUSED)
    events = (await connection.execute(refused)).all()
    blocking = select(rows.c.id, rows.c.event_id, rows.c.subject).where(rows.c.id.in_([one.first for one in waiting]))
    first = {row.id: (row.event_id, row.subject) for row in await connection.execute(blocking)}
    return Content(
        count.events,
        count.roots,
        [
            WaitingRoot(root_name(one.root), one.events, (now - one.oldest).total_seconds(), *first.get(one.first, ()))
            for one in waiting
        ],
        count.refused,
        [Refused(one.event_id, one.subject, one.refused, (now - one.created_at).total_seconds()) for one in events],
        await lease.holder(connection, rows.metadata),
    )


@dataclass(frozen=True, slots=True)
class Written:
    """An event in an outbox, and what happened to it."""

    event_id: str
    subject: str
    body: bytes
    created_at: datetime
    published_at: datetime | None
    """When the relay was done with it. None: it waits."""
    stream_offset: int | None
    refused: str | None
    """Why the broker refused it."""
    ahead: int
    """Events of the same root that wait and go before it. 0 unless it waits."""
    first_ahead: str | None
    """The id of the event that all of them wait for."""


async def find(
    connection: AsyncConnection,
    rows: Table,
    *,
    event_id: str | None = None,
    offset: int | None = None,
    correlation_id: str | None = None,
) -> list[Written]:
    """Return the events with this id, at this offset, or with this correlation id, the newest last, for operators.

    At most `MAX_FOUND`. A correlation id is searched for in all bodies, which takes seconds in a large outbox.
    """
    wanted = [rows.c.event_id == event_id] if event_id is not None else []
    wanted += [rows.c.stream_offset == offset] if offset is not None else []
    if correlation_id is not None:
        wanted.append(_contains(rows.c.body, literal(correlation_id.encode(), LargeBinary)))
    if not wanted:
        return []
    query = select(rows).where(or_(*wanted)).order_by(rows.c.id.desc()).limit(MAX_FOUND)
    found = [row for row in await connection.execute(query) if _is_wanted(row, event_id, offset, correlation_id)]
    return [await _written(connection, rows, row) for row in reversed(found)]


def _is_wanted(row: Row[Any], event_id: str | None, offset: int | None, correlation_id: str | None) -> bool:
    """Whether the row is meant, and does not only have the correlation id somewhere in its body."""
    if row.event_id == event_id or (offset is not None and row.stream_offset == offset):
        return True
    return correlation_id is not None and correlation_of(row.body) == correlation_id


async def _written(connection: AsyncConnection, rows: Table, row: Row[Any]) -> Written:
    count, first = 0, None
    if row.published_at is None:
        waits = (
            rows.c.published_at.is_(None),
            rows.c.id < row.id,
            root_of(rows.c.subject) == first_pair(row.subject),
        )
        count = await connection.scalar(select(func.count()).select_from(rows).where(*waits)) or 0
        first = await connection.scalar(select(rows.c.event_id).where(*waits).order_by(rows.c.id).limit(1))
    return Written(
        row.event_id,
        row.subject,
        row.body,
        row.created_at,
        row.published_at,
        row.stream_offset,
        row.refused,
        count,
        first,
    )


async def send_again(tx: AsyncConnection, rows: Table, event_ids: Sequence[str] | None) -> int:
    """Let the relay send refused events again, those with these ids or all. Returns how many there are."""
    refused = update(rows).where(rows.c.refused.is_not(None))
    chosen = refused if event_ids is None else refused.where(rows.c.event_id.in_(event_ids))
    return (await tx.execute(chosen.values(refused=None, published_at=None))).rowcount


async def drop(tx: AsyncConnection, rows: Table, event_ids: Sequence[str]) -> int:
    """Forget refused events, so that they are never sent. Returns how many there are."""
    refused = update(rows).where(rows.c.refused.is_not(None), rows.c.event_id.in_(event_ids))
    return (await tx.execute(refused.values(refused=None))).rowcount


def first_pair(subject: str) -> str:
    """A subject's first pair (`campaign.c1`), its root. Events of one root are sent in order."""
    return ".".join(subject.split(".", 2)[:2])


class _contains(FunctionElement[bool]):  # noqa: N801  (an SQL function)
    """Whether bytes contain others, in SQL."""

    type = Boolean()
    inherit_cache = True


@compiles(_contains, "sqlite")
def _contains_in_sqlite(element: _contains, compiler: SQLCompiler, **more: Any) -> str:
    return f"instr({compiler.process(element.clauses, **more)}) > 0"


@compiles(_contains, "postgresql")
def _contains_in_postgresql(element: _contains, compiler: SQLCompiler, **more: Any) -> str:
    whole, part = (compiler.process(one, **more) for one in element.clauses)
    return f"position({part} in {whole}) > 0"


class root_of(FunctionElement[str]):  # noqa: N801  (an SQL function)
    """`first_pair` in SQL, of a column of subjects."""

    type = String()
    inherit_cache = True


@compiles(root_of, "sqlite")
def _root_in_sqlite(element: root_of, compiler: SQLCompiler, **more: Any) -> str:
    subject = compiler.process(element.clauses, **more)
    rest = f"substr({subject}, instr({subject}, '.') + 1)"
    return f"substr({subject}, 1, instr({subject}, '.') + instr({rest} || '.', '.') - 1)"


@compiles(root_of, "postgresql")
def _root_in_postgresql(element: root_of, compiler: SQLCompiler, **more: Any) -> str:
    subject = compiler.process(element.clauses, **more)
    return f"(split_part({subject}, '.', 1) || '.' || split_part({subject}, '.', 2))"
