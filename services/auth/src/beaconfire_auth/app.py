"""Auth put together: the only place that knows every part, and the order in which they stop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import aiohttp
import nats.errors
from aiohttp import web
from nats.aio.client import Client
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from beaconfire_auth import openapi
from beaconfire_auth.accounts import Accounts
from beaconfire_auth.attempts import Attempts
from beaconfire_auth.hashing import Hashing
from beaconfire_auth.http import Calls
from beaconfire_auth.keys import Keys
from beaconfire_auth.members import Members
from beaconfire_auth.migrations import MIGRATIONS
from beaconfire_auth.operators import Operators
from beaconfire_auth.outsiders import Outsiders
from beaconfire_auth.projection import Projection
from beaconfire_auth.rpc import Rpc
from beaconfire_auth.seal import KeysUnusable, Seal
from beaconfire_auth.service_tokens import ServiceTokens
from beaconfire_auth.settings import Settings
from beaconfire_auth.store import MEMBERSHIP_VERSION, OUTBOX, counter
from beaconfire_auth.successors import Successors
from beaconfire_kit import broker, logs
from beaconfire_kit.consumer import faststream_options
from beaconfire_kit.database import LOOK_AGAIN_S, Database, DatabaseAway
from beaconfire_kit.forwarding import ClientAddresses
from beaconfire_kit.migrations import open_database
from beaconfire_kit.openapi import PATH, served
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.relay import Relay
from beaconfire_kit.seams.faststream_broker import FastStreamBroker
from beaconfire_kit.web import FOR_OPERATORS, WARNINGS, application

log = logs.get(__name__)

WATCH_EVERY_S = 1.0
WATCH_TIMEOUT_S = 2.0
TEND_EVERY_S = 5.0
RPC_STOP_S = 1.0
"""For answers under way, when auth stops."""


def build(settings: Settings, *, on_fatal: Callable[[], None]) -> web.Application:
    """Auth's application. `on_fatal` is called where the broker connection ended for good: exit non-zero.

    Its start raises DatabaseUnusable and KeysUnusable. It does not wait for the broker: until then it is alive,
    signs people in, and is not ready.
    """
    auth = _Auth(settings, on_fatal)
    app = application(settings, ready=auth.why_not_ready)
    app[WARNINGS] = auth.relay.warnings
    calls = Calls(
        auth.accounts, auth.members, auth.keys, auth.attempts, ClientAddresses(settings), auth.decisions.authorize
    )
    app.add_routes(calls.routes())
    app.router.add_get(PATH, served(openapi.document()))
    app[FOR_OPERATORS] = Operators(
        settings.operator_token.get_secret_value(),
        key_lead_s=settings.key_lead_s,
        keys=auth.keys,
        service_tokens=auth.service_tokens,
        attempts=auth.attempts,
    ).routes()
    app.cleanup_ctx.append(auth.run)
    return app


class _Auth:
    def __init__(self, settings: Settings, on_fatal: Callable[[], None]) -> None:
        self._settings = settings
        self._on_fatal = on_fatal
        self._database = Database(settings.database_url, pool_size=settings.database_connections, one_writer=True)
        self.outbox = Outbox(self._database, OUTBOX)
        self.relay = Relay(self.outbox, service="auth")
        self._nc: Client | None = None
        self._rpc: FastStreamBroker | None = None
        self._stopping = False
        self._why_not: str | None = "starting"
        self._hashing = Hashing(settings)
        self._outsiders = Outsiders(settings.outside_issuers, self._database)
        seal = Seal(settings.keys_secrets)
        self.keys = Keys(self._database, seal)
        self._successors = Successors(self._database, seal)
        self.attempts = Attempts(settings, self._database)
        self.service_tokens = ServiceTokens(settings, self._database, self.keys)
        self.accounts = Accounts(
            settings,
            self._database,
            self.outbox,
            keys=self.keys,
            successors=self._successors,
            hashing=self._hashing,
            outsiders=self._outsiders,
        )
        self.members = Members(self._database, self.outbox)
        self.projection = Projection(self._database)
        self.decisions = Rpc(self.members, self.projection, self.service_tokens, self._outsiders)

    def why_not_ready(self) -> str | None:
        if self._database.why_not is not None:
            return self._database.why_not
        if self._nc is None:
            return "starting: waiting for the broker"
        if not self._nc.is_connected:
            return "the broker is not reachable"
        return self._why_not or self.relay.why_stuck()

    async def run(self, _app: web.Application) -> AsyncIterator[None]:
        """Everything that lives beside HTTP. When it ends, no request is being answered any more."""
        await open_database(self._database, MIGRATIONS, migrate=self._settings.migrate_on_start)
        try:
            with contextlib.suppress(DatabaseAway):  # `_tend` opens them once it is back
                await self._open_keys()
            async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as tasks:
                self._outsiders.start(http)
                running = [
                    tasks.create_task(self._run(), name="auth"),
                    tasks.create_task(self._tend(), name="tend"),
                ]
                yield
                self._stopping = True
                for task in running:
                    task.cancel()
        finally:
            await self._leave()

    async def _run(self) -> None:
        self._nc = nc = await broker.connect(self._settings, "auth", on_closed=self._on_fatal)
        rpc = FastStreamBroker(**faststream_options(self._settings, "auth-rpc"), closed_cb=self._rpc_closed)
        self.decisions.attach(rpc)
        self._rpc = rpc
        await broker.cancellable(rpc.start())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.relay.run(nc), name="relay")
            tasks.create_task(self.projection.run(nc), name="projection")
            tasks.create_task(self._watch(nc), name="watch")

    async def _tend(self) -> None:
        """Keep up with the keys of the other processes, and clear away what has run out."""
        while True:
            broker.check_cancelled()
            await asyncio.sleep(TEND_EVERY_S if self._keys_are_open else LOOK_AGAIN_S)
            try:
                await (self.keys.refresh() if self._keys_are_open else self._open_keys())
                await self.keys.destroy_old()
                await self.attempts.forget()
            except (DatabaseAway, SQLAlchemyError, OSError, KeysUnusable) as error:
                log.warning("could not read the keys again, going on with those known", error=str(error)[:300])

    @property
    def _keys_are_open(self) -> bool:
        return self.keys.are_open and self._successors.are_open

    async def _open_keys(self) -> None:
        """Read what signs and what derives. Raises DatabaseAway, KeysUnusable."""
        await self.keys.open()
        await self._successors.open()

    async def _rpc_closed(self) -> None:
        if not self._stopping:
            log.error("broker connection closed for good")
            self._on_fatal()

    async def _leave(self) -> None:
        """Answer no more questions, send the events of the last changes, leave the broker, close the database.

        Not in the task that was cancelled: what asks the broker there ends at once (`broker.check_cancelled`).
        """
        if self._rpc is not None:
            connection = self._rpc.nc
            with contextlib.suppress(nats.errors.Error, TimeoutError):  # it drains, and the broker may be away
                async with asyncio.timeout(RPC_STOP_S if connection is not None and connection.is_connected else 0):
                    await self._rpc.stop()
            if connection is not None:
                await broker.close(connection)
        if self._nc is not None:
            await self.relay.finish(self._nc)
            await broker.close(self._nc)
        await self._hashing.close()
        await self._database.close()

    async def _watch(self, nc: Client) -> None:
        """Keep saying why we are not ready."""
        while True:
            broker.check_cancelled()
            self._why_not = (
                await self._database.check(_look) or await self._check_stream(nc) or await self.projection.why_stuck(nc)
            )
            await asyncio.sleep(WATCH_EVERY_S)

    async def _check_stream(self, nc: Client) -> str | None:
        try:
            async with asyncio.timeout(WATCH_TIMEOUT_S):
                await broker.stream_state(nc)
        except TimeoutError:
            return f"the stream {broker.STREAM} is not there, or does not answer"
        return None


async def _look(connection: AsyncConnection) -> None:
    """Read anything: that it can be done is what we want to know."""
    await counter(connection, MEMBERSHIP_VERSION)
