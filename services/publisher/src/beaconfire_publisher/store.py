"""The publisher's tables, and its transactions, in which what users publish is counted."""

import json
import time
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Dialect,
    Executable,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    case,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeDecorator

from beaconfire_kit import idempotency, inbox, outbox_table, store
from beaconfire_kit.database import Database, UtcDateTime
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.idempotency import Earlier, Key
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.store import CURSOR_WAIT_S, INSERT, Row, inside, things
from beaconfire_publisher import limits
from beaconfire_publisher.fields import Clock
from beaconfire_publisher.limits import PublishingLimits

TABLES = MetaData()


class ClockColumn(TypeDecorator[Clock]):
    """A clock as JSON, or NULL."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_bind_param(self, value: Clock | None, dialect: Dialect) -> dict[str, int] | None:
        return None if value is None else value.model_dump()

    def process_result_value(self, value: dict[str, int] | None, dialect: Dialect) -> Clock | None:
        return None if value is None else Clock.model_validate(value)


OUTBOX = outbox_table.table(TABLES)
INBOX = inbox.table(TABLES)
KEYS = idempotency.table(TABLES)
USAGE = limits.table(TABLES)


def _table(name: str, *columns: Column[Any], word: str | None = None) -> Table:
    """Return a table of things with names."""
    return things(TABLES, name, *columns, Column("name", String(200), nullable=False), word=word)


CAMPAIGNS = _table(
    "campaigns",
    Column("description", Text, nullable=False),
    Column("world_time", UtcDateTime, nullable=False),
    Column("clock", ClockColumn),
)
CLOCKS = Table(
    "clocks",
    TABLES,
    Column("campaign_id", ForeignKey(CAMPAIGNS.c.id, ondelete="CASCADE"), primary_key=True),
    Column("due_at", UtcDateTime, nullable=False, index=True),
    Column("set_by", String(64), nullable=False),
)
"""When each running clock is due next, and the user that set it. The clock itself is a field of its campaign."""
KINGDOMS = _table("kingdoms", inside("campaign_id", CAMPAIGNS), Column("description", Text, nullable=False))
SETTLEMENTS = _table(
    "settlements",
    inside("campaign_id", CAMPAIGNS),
    Column("kingdom_id", String(64), index=True),
    Column("kind", String(64), nullable=False),
    Column("level", Integer, nullable=False),
    Column("population", Integer, nullable=False),
    Column("description", Text, nullable=False),
    Column("variables", JSON, nullable=False),
    Column("variable_schemas", JSON, nullable=False, server_default="{}"),
)
"""`kingdom_id` is no foreign key: taking a settlement out of its kingdom is a change, with a revision and an event."""
STRUCTURES = _table(
    "structures",
    inside("campaign_id", CAMPAIGNS),
    inside("settlement_id", SETTLEMENTS),
    Column("kind", String(64), key="type", nullable=False),
    Column("level", Integer, nullable=False),
    Column("variables", JSON, nullable=False),
    Column("variable_schemas", JSON, nullable=False, server_default="{}"),
)
"""A structure's type is in a column with its name of before, which processes of that release use during an upgrade."""
ENTITIES = _table(
    "entities",
    inside("campaign_id", CAMPAIGNS),
    Column("type", String(64), nullable=False),
    Column("data", JSON, nullable=False),
    word="entity",
)


class Writing(store.Writing):
    """A transaction of the publisher."""

    async def claim(self, key: Key, outcome: Row, *, is_done: bool = True) -> Earlier | None:
        if (before := await self._created_before(key)) is not None:
            return before
        return await super().claim(key, outcome, is_done=is_done)

    async def published_before(self, event_ids: Iterable[str]) -> dict[str, Row]:
        """Return outbox rows by event id. Releases before the table of keys stored an event's own id there.

        Such a row does not contain the caller that chose the id, so compare its body.
        """
        if not (wanted := list(event_ids)):
            return {}
        found = await self._connection.execute(select(OUTBOX).where(OUTBOX.c.event_id.in_(wanted)))
        return {row["event_id"]: dict(row) for row in found.mappings()}

    async def _created_before(self, key: Key) -> Earlier | None:
        """Return what a release before the table of keys made under this key, or None.

        Both the thing and its event had an id derived from the key. Its request is not known, so any request counts as
        a repeat.
        """
        row = (await self.published_before([key.before])).get(key.before)
        if row is None:
            return None
        said = json.loads(row["body"])
        is_callers = (said["metadata"].get("source"), said["metadata"].get("userId")) == ("api", self._metadata.user_id)
        is_creation = said["payload"].get("operation") == "create"
        return Earlier({"id": key.before}, True, key.fingerprint) if is_callers and is_creation else None


class Store(store.Store[Writing]):
    """Opens transactions on the publisher's database."""

    def __init__(
        self,
        database: Database,
        events: Outbox,
        limits: PublishingLimits | None = None,
        *,
        cursor_wait_s: float = CURSOR_WAIT_S,
    ) -> None:
        """`limits` limit what users publish. Without them events are not counted."""
        super().__init__(database, events, KEYS, Writing, cursor_wait_s=cursor_wait_s)
        self._limits = limits

    async def check_allowance(self, user_id: str) -> None:
        """Raise BeaconfireError `too_many` if this user may not publish now. Call it before any side effect."""
        if self._limits is None:
            return
        mine = select(USAGE).where(USAGE.c.scope == f"user:{user_id}")
        async with self._database.reading() as connection:
            row = (await connection.execute(mine)).one_or_none()
        if row is not None:
            self._limits.user.check(row, None, time.time())

    async def count(
        self, tx: AsyncConnection, metadata: Metadata, envelopes: Sequence[Envelope], sizes: Sequence[int]
    ) -> None:
        """Count events for their user and their roots. Raises BeaconfireError `too_many`; such events do not count."""
        if self._limits is None or not sizes:
            return
        now = time.time()
        added: dict[str, Row] = {}
        for scope, (count, size) in limits.totals(metadata.user_id, envelopes, sizes).items():
            added[scope] = self._limits.of_scope(scope).row(scope, count, size, now)
        # In order, so that two transactions with some of the same rows wait for one another, and do not deadlock.
        rows = await tx.execute(_count_usage(tx.dialect.name), [added[scope] for scope in sorted(added)])
        for row in rows.all():
            self._limits.of_scope(row.scope).check(row, added[row.scope], now)

    async def forget(self) -> None:
        """Delete old idempotency keys and old counts of what was published."""
        await super().forget()
        now = time.time()
        is_empty = (USAGE.c.events < now) & (USAGE.c.bytes < now) & (USAGE.c.share < now)
        await self.forget_rows(USAGE, is_empty & (USAGE.c.at < now - limits.REMEMBERED_S))


@cache  # building a statement takes as long as the rest of its transaction
def _count_usage(dialect: str) -> Executable:
    """Return a statement that adds the given rows (`limits.Stored.row`) to `stream_usage`, and returns the sums."""
    add = INSERT[dialect](USAGE)
    now = add.excluded.at
    sums = {
        name: case((USAGE.c[name] > now, USAGE.c[name]), else_=now) + (add.excluded[name] - now)
        for name in ("events", "bytes", "share")
    }
    return add.on_conflict_do_update(index_elements=["scope"], set_={**sums, "at": now}).returning(USAGE)
