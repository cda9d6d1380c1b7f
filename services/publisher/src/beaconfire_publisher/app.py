"""The publisher put together: the only place that knows every part, and the order in which they stop."""

import asyncio
from collections.abc import AsyncIterator, Callable

import aiohttp
from aiohttp import web
from nats.aio.client import Client
from nats.aio.msg import Msg
from sqlalchemy.exc import SQLAlchemyError

from beaconfire_kit import broker, logs
from beaconfire_kit.authorization import Auth
from beaconfire_kit.database import Database, DatabaseAway
from beaconfire_kit.migrations import open_database
from beaconfire_kit.openapi import PATH, served
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.relay import Relay
from beaconfire_kit.verifier import Verifier
from beaconfire_kit.web import WARNINGS, application
from beaconfire_publisher import openapi
from beaconfire_publisher.access import Access
from beaconfire_publisher.campaigns import Campaigns
from beaconfire_publisher.clock import Clocks
from beaconfire_publisher.entities import Entities
from beaconfire_publisher.events_api import Events
from beaconfire_publisher.migrations import MIGRATIONS
from beaconfire_publisher.settings import Settings
from beaconfire_publisher.settlements import Settlements
from beaconfire_publisher.store import OUTBOX, Store, look
from beaconfire_publisher.structures import Structures
from beaconfire_publisher.world_time import WorldTime

log = logs.get(__name__)

WATCH_EVERY_S = 1.0
WATCH_TIMEOUT_S = 2.0
FORGET_EVERY_S = 600.0


def build(settings: Settings, *, on_fatal: Callable[[], None]) -> web.Application:
    """The publisher's application. `on_fatal` is called where the broker connection ended for good: exit non-zero.

    Its start raises DatabaseUnusable. It does not wait for the broker: until then it is alive and not ready.
    """
    publisher = _Publisher(settings, on_fatal)
    app = application(settings, ready=publisher.why_not_ready)
    app[WARNINGS] = publisher.relay.warnings
    app.middlewares.append(publisher.access.count_body)
    app.cleanup_ctx.append(publisher.run)
    for calls in (Campaigns, WorldTime, Clocks, Settlements, Structures, Entities, Events):
        app.add_routes(calls(publisher.access, publisher.store).routes())
    app.router.add_get(PATH, served(openapi.document()))
    return app


class _Publisher:
    def __init__(self, settings: Settings, on_fatal: Callable[[], None]) -> None:
        self._settings = settings
        self._on_fatal = on_fatal
        self._database = Database(settings.database_url, pool_size=settings.database_connections)
        self.outbox = Outbox(self._database, OUTBOX)
        self.relay = Relay(self.outbox, service="publisher")
        self._nc: Client | None = None
        self._why_not: str | None = "starting"
        self.access = Access(settings.requests())
        self.access.service_token = settings.shown_token
        self.store = Store(self._database, self.outbox, settings.publishing_limits())

    def why_not_ready(self) -> str | None:
        if self._database.why_not is not None:
            return self._database.why_not
        if self._nc is None:
            return "starting: waiting for the broker"
        if not self._nc.is_connected:
            return "the broker is not reachable"
        return self._why_not or self.relay.why_stuck()

    async def run(self, _app: web.Application) -> AsyncIterator[None]:
        """Everything that lives beside HTTP. When it stops, no request is being answered any more."""
        settings = self._settings
        await open_database(self._database, MIGRATIONS, migrate=self._settings.migrate_on_start)
        try:
            async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as tasks:
                self.access.verifier = Verifier(
                    http,
                    settings.jwks_url,
                    issuer=settings.issuer,
                    audience=settings.audience,
                    outside=settings.outside_issuers,
                )
                self.access.auth = Auth(http, settings.auth_at)
                running = [
                    tasks.create_task(self._run(), name="publisher"),
                    tasks.create_task(self.access.auth.watch(), name="watch the broker"),
                    tasks.create_task(self._forget(), name="forget"),
                ]
                yield
                for task in running:
                    task.cancel()
        finally:
            await self._leave()

    async def _run(self) -> None:
        nc = await broker.connect(self._settings, "publisher", on_closed=self._on_fatal)
        self._nc = self.access.auth.nc = nc
        await nc.subscribe(broker.WAKE, cb=self._wake)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.relay.run(nc, wake=broker.WAKE), name="relay")
            tasks.create_task(self._watch(nc), name="watch")

    async def _wake(self, _said: Msg) -> None:
        self.outbox.woken()

    async def _leave(self) -> None:
        """Send the events of the last requests, leave the broker, close the database."""
        if self._nc is not None:
            await self.relay.finish(self._nc)
            await broker.close(self._nc)
        await self._database.close()

    async def _forget(self) -> None:
        """Delete now and then what is kept for a time only."""
        while True:
            try:
                await self.store.forget()
            except (DatabaseAway, SQLAlchemyError) as error:
                log.warning("could not forget old idempotency keys", error=type(error).__name__)
            await asyncio.sleep(FORGET_EVERY_S)

    async def _watch(self, nc: Client) -> None:
        """Keep saying why we are not ready."""
        while True:
            broker.check_cancelled()
            self._why_not = await self._database.check(look) or await self._check_stream(nc)
            await asyncio.sleep(WATCH_EVERY_S)

    async def _check_stream(self, nc: Client) -> str | None:
        try:
            async with asyncio.timeout(WATCH_TIMEOUT_S):
                known = self.outbox.position.offset
                state = await broker.stream_state(nc)
                self.outbox.position.seen(state.epoch, state.last, known=known)
        except TimeoutError:
            return f"the stream {broker.STREAM} is not there, or does not answer"
        return None
