"""Start a service with a database, report whether it is ready, and stop it in order.

    def build(settings: Settings, *, on_fatal: Callable[[], None]) -> web.Application:
        service = Service("quests", settings, MIGRATIONS, look_at=QUESTS, on_fatal=on_fatal)
        access = service.asks_auth(Access(settings, root_kind="campaign", source="quests"))
        outbox = service.publishes(Outbox(service.database, OUTBOX))
        app = service.application()
        app.add_routes(Quests(service.database, outbox, access).routes())
        return app

    if __name__ == "__main__":
        run("quests", Settings, build)

It starts in this order:

1. the database, which `migrate_on_start` may migrate
2. `at_start`
3. the tasks of `always`
4. once the broker is there, `on_connected` and the tasks of `while_connected`

HTTP does not wait for the broker. Until the broker is there, the service is alive and answers what it can, but is not
ready.

It stops in this order:

1. HTTP, so that no request is being answered any more
2. all tasks
3. `at_stop`
4. the last events of the outbox
5. the broker
6. `at_end`
7. the database
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import aiohttp
import nats.errors
import uvloop
from aiohttp import web
from nats.aio.client import Client
from nats.aio.msg import Msg
from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from beaconfire_kit import broker, http_traces, logs, outbox_answers, tracing
from beaconfire_kit.access import Access
from beaconfire_kit.database import LOCK_TIMEOUT_S, Database, DatabaseUnusable
from beaconfire_kit.migrations import Migrations, open_database
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.relay import POLL_S, UNAWAITED, Relay
from beaconfire_kit.serving import serve, serve_worker
from beaconfire_kit.settings import DatabaseSettings, read_settings
from beaconfire_kit.web import FOR_OPERATORS, SERVICE, WARNINGS, application, worker_application

WATCH_EVERY_S = 1.0

A = TypeVar("A", bound=Access)
S = TypeVar("S", bound=DatabaseSettings)


class Service:
    """A service's parts, and their life. Name them all before the application starts."""

    def __init__(
        self,
        name: str,
        settings: DatabaseSettings,
        migrations: Migrations,
        *,
        look_at: Table,
        on_fatal: Callable[[], None],
        one_writer: bool = False,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
    ) -> None:
        """`look_at` is a table that is read every second, to know whether the database can be used.

        `on_fatal` is called if the broker connection has ended for good: the process must exit with an error. For
        `one_writer` and `lock_timeout_s` see `Database`.
        """
        self.database = Database(
            settings.database_url,
            pool_size=settings.database_connections,
            one_writer=one_writer,
            lock_timeout_s=lock_timeout_s,
        )
        self.nc: Client | None = None
        """The connection to the broker, once there is one."""
        self._name = name
        self._settings = settings
        self._migrations = migrations
        self._look_at = look_at
        self._on_fatal = on_fatal
        self._outbox: Outbox | None = None
        self._relay: Relay | None = None
        self._why_not: str | None = "starting"
        self._at_start: list[Callable[[aiohttp.ClientSession], Awaitable[None]]] = []
        self._always: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._on_connected: list[Callable[[Client], Awaitable[None]]] = []
        self._while_connected: list[Callable[[Client], Coroutine[Any, Any, None]]] = []
        self._checks: list[Callable[[Client], Awaitable[str | None]]] = []
        self._reasons: list[Callable[[], str | None]] = []
        self._at_stop: list[Callable[[], Awaitable[None]]] = []
        self._at_end: list[Callable[[], Awaitable[None]]] = []

    def publishes(self, outbox: Outbox, *, wake: str | None = None, poll_s: float = POLL_S) -> Outbox:
        """Relay this outbox. Other processes on its database publish on `wake` when they have committed something."""

        async def hear(message: Msg) -> None:
            outbox.woken(is_awaited=message.data != UNAWAITED)

        async def subscribe(nc: Client) -> None:
            assert wake is not None
            await nc.subscribe(wake, cb=hear)

        self._outbox = outbox
        self._relay = relay = Relay(outbox, service=self._name, poll_s=poll_s)
        if wake is not None:
            self.on_connected(subscribe)
        self.while_connected(lambda nc: relay.run(nc, wake=wake))
        self.check(relay.check_stream)
        self.unless(relay.why_stuck)
        return outbox

    def asks_auth(self, access: A) -> A:
        """Verify tokens with this, and ask auth: over the broker, or over HTTP while the broker is away."""

        async def start(http: aiohttp.ClientSession) -> None:
            access.start(http)

        async def connected(nc: Client) -> None:
            access.connected(nc)

        self.at_start(start)
        self.on_connected(connected)
        self.always(access.watch)
        return access

    def at_start(self, begin: Callable[[aiohttp.ClientSession], Awaitable[None]]) -> None:
        """Await this when the database was opened. It may be away still. The HTTP client is closed at the end."""
        self._at_start.append(begin)

    def always(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run this from start to stop, whether the broker is there or not. It must not end or raise."""
        self._always.append(work)

    def on_connected(self, begin: Callable[[Client], Awaitable[None]]) -> None:
        """Await this when the broker is connected for the first time. Until it is done, the service is not ready."""
        self._on_connected.append(begin)

    def while_connected(self, work: Callable[[Client], Coroutine[Any, Any, None]]) -> None:
        """Run this from the first connection to the stop. It must not end or raise, also while the broker is away."""
        self._while_connected.append(work)

    def check(self, why_not: Callable[[Client], Awaitable[str | None]]) -> None:
        """Ask this every second why the service is not ready; None if it is."""
        self._checks.append(why_not)

    def unless(self, why_not: Callable[[], str | None]) -> None:
        """Add a question that `/readyz` asks each time: why the service is not ready, or None if it is."""
        self._reasons.append(why_not)

    def at_stop(self, end: Callable[[], Awaitable[None]]) -> None:
        """Await this when all tasks have ended, before the last events are sent."""
        self._at_stop.append(end)

    def at_end(self, end: Callable[[], Awaitable[None]]) -> None:
        """Await this when the broker connection was closed, before the database is."""
        self._at_end.append(end)

    def application(self) -> web.Application:
        """The application for clients. The operations port is added when it is served."""
        app = application(self._settings, ready=self.why_not_ready)
        app[SERVICE] = self._name
        app[WARNINGS] = self._relay.warnings if self._relay is not None else list
        app[FOR_OPERATORS] = outbox_answers.routes(self._outbox, service=self._name) if self._outbox is not None else []
        app.cleanup_ctx.append(self._live)
        if (spans := tracing.active()) is not None:
            app.middlewares.insert(0, http_traces.middleware(spans, self._settings.client_traces_per_s))
        return app

    def worker_application(self) -> web.Application:
        """The application of a service that has an operations port only."""
        app = worker_application(ready=self.why_not_ready)
        app[SERVICE] = self._name
        app.cleanup_ctx.append(self._live)
        return app

    def why_not_ready(self) -> str | None:
        """Return the reason that `/readyz` gives, or None if the service is ready."""
        if self.database.why_not is not None:
            return self.database.why_not
        if self.nc is None:
            return "starting: waiting for the broker"
        if not self.nc.is_connected:
            return "the broker is not reachable"
        return self._why_not or next((why for reason in self._reasons if (why := reason()) is not None), None)

    async def wake(self, subject: str) -> None:
        """Wake the process that relays our outbox after a commit whose cursor nobody waits for here.

        Without this, it looks every second.
        """
        if self.nc is not None:
            with contextlib.suppress(nats.errors.Error):
                await self.nc.publish(subject, UNAWAITED)

    async def _live(self, _app: web.Application) -> AsyncIterator[None]:
        """Start, run, and stop. When it goes on after its `yield`, no request is being answered any more."""
        await open_database(self.database, self._migrations, migrate=self._settings.migrate_on_start)
        try:
            async with aiohttp.ClientSession() as http:
                for begin in self._at_start:
                    await begin(http)
                async with asyncio.TaskGroup() as tasks:
                    running = [tasks.create_task(work()) for work in (self._stay_connected, *self._always)]
                    yield
                    for task in running:
                        task.cancel()
        finally:
            # Not in a task that was cancelled: whatever asks the broker there ends at once (`broker.check_cancelled`).
            await self._leave()

    async def _stay_connected(self) -> None:
        self.nc = nc = await broker.connect(self._settings, self._name, on_closed=self._on_fatal)
        for begin in self._on_connected:
            await begin(nc)
        async with asyncio.TaskGroup() as tasks:
            for work in (*self._while_connected, self._watch):
                tasks.create_task(work(nc))

    async def _watch(self, nc: Client) -> None:
        """Keep finding out why the service is not ready."""
        while True:
            broker.check_cancelled()
            why_not = await self.database.check(self._look)
            for check in self._checks:
                why_not = why_not or await check(nc)
            self._why_not = why_not
            await asyncio.sleep(WATCH_EVERY_S)

    async def _look(self, connection: AsyncConnection) -> None:
        await connection.execute(select(*self._look_at.primary_key).limit(1))

    async def _leave(self) -> None:
        for end in self._at_stop:
            await end()
        if self.nc is not None:
            if self._relay is not None:
                await self._relay.finish(self.nc)
            await broker.close(self.nc)
        for end in self._at_end:
            await end()
        await self.database.close()


Build = Callable[..., web.Application]
"""`build(settings, on_fatal=…)`: a service's application, not started."""


def run(name: str, settings_class: type[S], build: Build, *, is_worker: bool = False) -> None:
    """Run a service until SIGTERM or SIGINT, with settings from `BEACONFIRE_…`. A worker has an operations port only.

    Exit code 2: the settings, or the database that they name, cannot be used. Exit code 1: the broker connection ended
    for good, and a supervisor must start the service again.
    """
    settings, traces = read_settings(settings_class), tracing.read_settings()
    logs.configure(name, level=settings.log_level, format=settings.log_format)
    settings.warn_of_readable_files()
    try:
        with tracing.running(name, traces):
            app = build(settings, on_fatal=lambda: os._exit(1))
            uvloop.run(serve_worker(app, settings, name=name) if is_worker else serve(app, settings, name=name))
    except DatabaseUnusable as error:
        print(f"BEACONFIRE_DATABASE_URL: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None
