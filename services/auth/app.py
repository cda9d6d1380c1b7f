"""Auth put together: the only place that knows every part, and the order in which they stop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import nats.errors
from aiohttp import web
from faststream.nats import NatsBroker
from faststream.security import SASLPlaintext
from nats.aio.client import Client

from services.auth.accounts import Accounts
from services.auth.http import Calls
from services.auth.keys import open_keys
from services.auth.members import Members
from services.auth.projection import Projection
from services.auth.rpc import Rpc
from services.auth.settings import Settings
from services.auth.store import OUTBOX, TABLES
from shared import broker, logs
from shared.database import Database
from shared.outbox import Outbox
from shared.web import application

log = logs.get(__name__)

WATCH_EVERY_S = 1.0
WATCH_TIMEOUT_S = 2.0


def build(settings: Settings, *, on_fatal: Callable[[], None]) -> web.Application:
    """Auth's application. `on_fatal` is called where the broker connection ended for good: exit non-zero.

    Raises KeysUnusable; its start raises DatabaseUnusable. It does not wait for the broker: until then it is alive,
    signs people in, and is not ready.
    """
    auth = _Auth(settings, on_fatal)
    app = application(settings, ready=auth.why_not_ready)
    app.add_routes(Calls(auth.accounts, auth.members, auth.keys).routes())
    app.cleanup_ctx.append(auth.run)
    return app


class _Auth:
    def __init__(self, settings: Settings, on_fatal: Callable[[], None]) -> None:
        self._settings = settings
        self._on_fatal = on_fatal
        self._database = Database(settings.database_url)
        self._outbox = Outbox(self._database, OUTBOX)
        self._nc: Client | None = None
        self._rpc: NatsBroker | None = None
        self._stopping = False
        self._why_not: str | None = "starting"
        self.keys = open_keys(settings.keys_dir)
        self.accounts = Accounts(settings, self._database, self._outbox, self.keys)
        self.members = Members(self._database, self._outbox)
        self.projection = Projection(self._database)

    def why_not_ready(self) -> str | None:
        if self._nc is None:
            return "starting: waiting for the broker"
        return self._why_not if self._nc.is_connected else "the broker is not reachable"

    async def run(self, _app: web.Application) -> AsyncIterator[None]:
        """Everything that lives beside HTTP. When it ends, no request is being answered any more."""
        await self._database.open(TABLES)
        try:
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(self._run(), name="auth")
                yield
                self._stopping = True
                running.cancel()
        finally:
            await self._leave()

    async def _run(self) -> None:
        self._nc = await broker.connect(self._settings, "auth", on_closed=self._on_fatal)
        self._rpc = NatsBroker(**self._rpc_options())
        Rpc(self.accounts, self.members, self.projection).attach(self._rpc)
        await self._rpc.start()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._outbox.relay(self._nc), name="relay")
            tasks.create_task(self.projection.run(self._nc), name="projection")
            tasks.create_task(self._watch(self._nc), name="watch")

    async def _leave(self) -> None:
        """Answer no more questions, send the events of the last requests, leave the broker, close the database."""
        if self._rpc is not None:
            with contextlib.suppress(nats.errors.Error):  # it drains, and the broker may be away
                await self._rpc.stop()
        if self._nc is not None:
            await self._outbox.finish(self._nc)
            await broker.close(self._nc)
        await self._database.close()

    def _rpc_options(self) -> dict[str, Any]:
        """FastStream connects by itself, with the same options (RELIABILITY D4)."""

        async def closed() -> None:
            if not self._stopping:
                self._on_fatal()

        options = broker.options(self._settings, "auth-rpc")
        if "user" in options:
            options["security"] = SASLPlaintext(options.pop("user"), options.pop("password"))
        return {**options, "closed_cb": closed, "apply_types": False, "logger": None}

    async def _watch(self, nc: Client) -> None:
        """Keep saying why we are not ready."""
        while True:
            broker.check_cancelled()
            try:
                async with asyncio.timeout(WATCH_TIMEOUT_S):
                    await broker.wait_for_stream(nc)
                self._why_not = None
            except TimeoutError:
                self._why_not = f"the stream {broker.STREAM} is not there, or does not answer"
            await asyncio.sleep(WATCH_EVERY_S)
