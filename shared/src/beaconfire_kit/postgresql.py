"""Interpret PostgreSQL's errors, and repeat statements that failed only because of their connection.

A prepared statement is stale once a migration has changed the type of a column that it returns. It is gone once another
client of the pooler has deallocated it. A connection is gone after a restart, and useless after a failover that made
its server read-only. A statement that fails for such a reason is executed once more on a fresh connection, if that
loses no earlier changes.
"""

from typing import Any

from sqlalchemy import ExceptionContext, Executable, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from beaconfire_kit import logs, metrics

log = logs.get(__name__)

REPEATED = metrics.Counter(
    "beaconfire_database_statements_repeated_total",
    "Database statements that were repeated on a new connection, by reason.",
    ["reason"],
)

# SQLSTATEs (PostgreSQL, appendix A) after which this connection is useless, while another one may work. They mean:
# connection lost, ended by an administrator or a crash, read-only since a failover, idle in a transaction for too long.
# With a pooler in between, or after `DEALLOCATE`, a prepared statement may also be missing or exist already.
_CONNECTION_IS_USELESS = ("08", "57P01", "57P02", "57P05", "25006", "25P03", "26000", "42P05")
_STALE = (
    (
        "0A000",
        "cached",
    ),  # "cached plan must not change result type", in asyncpg's words "cached statement plan is invalid"
    ("XX000", "cache lookup failed"),
    ("XX000", "could not open relation"),
)


def sqlstate(error: BaseException) -> str | None:
    """Return PostgreSQL's error code, or None if the error is not PostgreSQL's."""
    link: BaseException | None = error
    while link is not None:
        state = getattr(link, "sqlstate", None)
        if isinstance(state, str):
            return state
        link = getattr(link, "orig", None) or link.__cause__
    return None


def is_stale(error: BaseException) -> bool:
    """Return whether a statement failed only because the tables were changed after it was prepared."""
    state, said = sqlstate(error), str(getattr(error, "orig", None) or error)  # without the statement's own words
    return any(state == code and words in said for code, words in _STALE) or "OutdatedSchemaCacheError" in said


def is_lost(error: BaseException) -> bool:
    """Return whether the connection has ended or is useless, while another one may work."""
    state = sqlstate(error)
    if state is not None:
        return state.startswith(_CONNECTION_IS_USELESS)
    return isinstance(error, DBAPIError) and (error.connection_invalidated or _says_lost(error))


def _says_lost(error: DBAPIError) -> bool:
    return "connection" in str(error.orig) and ("closed" in str(error.orig) or "lost" in str(error.orig))


def watch(engine: AsyncEngine) -> None:
    """Empty the engine's pool when a connection is useless: the others probably are, too."""

    @event.listens_for(engine.sync_engine, "handle_error")
    def _judge(context: ExceptionContext) -> None:
        state = sqlstate(context.original_exception)
        if state is not None and state.startswith(_CONNECTION_IS_USELESS):
            context.is_disconnect = True


class RepeatingConnection(AsyncConnection):
    """Repeat a statement on a fresh connection if it failed only because of its connection.

    In a writing transaction only the first statement is repeated, because a fresh connection would lose the earlier
    ones. A later statement raises, as does any that fails twice. Then the caller has to start the transaction again. In
    a reading transaction every statement can be repeated. Each sees the changes that were committed before it starts
    (READ COMMITTED).
    """

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine)
        self._opening: tuple[Executable, ...] | None = None
        self._is_written = False

    async def open_transaction(self, *opening: Executable) -> None:
        """Open a writing transaction with these statements. A connection that replaces this one does the same."""
        self._opening = opening
        await self.begin()
        for statement in opening:
            await self.execute(statement)
        self._is_written = False

    async def execute(self, *args: Any, **options: Any) -> Any:
        """Execute as AsyncConnection does. Its other methods (`scalar`, …) call this one."""
        try:
            result = await super().execute(*args, **options)
        except DBAPIError as error:
            stale = is_stale(error)
            if self._is_written or not (stale or is_lost(error)):
                raise
            result = await self._repeat("stale" if stale else "lost", *args, **options)
        self._is_written = self._opening is not None
        return result

    async def _repeat(self, reason: str, *args: Any, **options: Any) -> Any:
        REPEATED.labels(reason).inc()
        log.info("repeating a statement on a fresh connection", reason=reason)
        await self.invalidate()
        await self.rollback()
        if self._opening is not None:
            await self.begin()
            for statement in self._opening:
                await super().execute(statement)
        return await super().execute(*args, **options)
