"""Every application of every service, built as its process builds it, to go through what it answers."""

import re
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aiohttp import hdrs, web

import beaconfire_auth.app
import beaconfire_auth.settings
import beaconfire_gateway.process.app
import beaconfire_gateway.process.settings
import beaconfire_publisher.app
import beaconfire_publisher.settings
from beaconfire.nats_server import free_port
from beaconfire_gateway.process.supervisor import Board
from beaconfire_gateway.process.worker_operations import Combined
from beaconfire_kit.serving import listening, worker_listening
from beaconfire_kit.settings import Settings
from beaconfire_kit.web import operations
from beaconfire_publisher import worker

MEMORY = "sqlite+aiosqlite://"
PLAIN: dict[str, Any] = {"environment": "development", "port": 0}


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")


@dataclass(frozen=True, slots=True)
class Application:
    """An application that listens at `url`."""

    name: str
    url: str
    app: web.Application

    def routes(self) -> Iterator[tuple[str, set[str]]]:
        """Each path, with an id in every place for one, and the methods that it answers."""
        found: dict[str, set[str]] = defaultdict(set)  # several resources may have one path
        for resource in self.app.router.resources():
            below = "/x1.js" if "directory" in resource.get_info() else ""
            path = re.sub(r"\{[^}]*\}", "x1", resource.canonical) + below
            for route in resource:
                found[path] |= set(METHODS) if route.method == hdrs.METH_ANY else {route.method}
        yield from found.items()


def built(**settings: Any) -> Iterator[tuple[str, Settings, web.Application]]:
    """The applications of the services, not started."""
    chosen = {**PLAIN, **settings}
    auth = beaconfire_auth.settings.Settings(**{"database_url": MEMORY, **chosen})
    publisher = beaconfire_publisher.settings.Settings(**{"database_url": MEMORY, **chosen})
    gateway = beaconfire_gateway.process.settings.Settings(**chosen)
    yield "auth", auth, beaconfire_auth.app.build(auth, on_fatal=_lost)
    yield "publisher", publisher, beaconfire_publisher.app.build(publisher, on_fatal=_lost)
    yield "gateway", gateway, beaconfire_gateway.process.app.build(gateway, on_fatal=_lost)


@asynccontextmanager
async def running() -> AsyncIterator[list[Application]]:
    """All of them, on public ports and operations ports, without a broker: alive, and not ready."""
    nowhere = f"nats://127.0.0.1:{free_port()}"
    async with AsyncExitStack() as stack:
        found = []
        files = Path(stack.enter_context(TemporaryDirectory()))
        (files / "page").mkdir()
        for name in ("index.html", "page/x1"):
            (files / name).write_text("<p>static</p>")
        for name, settings, app in built(nats_url=nowhere, static_dir=files):
            at = await stack.enter_async_context(listening(app, settings, name=name))
            found += [Application(name, at.url, app), Application(f"{name} ops", at.ops_url, operations(app))]
        for name, job in worker.JOBS.items():
            own = beaconfire_publisher.settings.WorkerSettings(**{"database_url": MEMORY, "nats_url": nowhere, **PLAIN})
            app = worker.build(job, own, on_fatal=_lost)
            url = await stack.enter_async_context(worker_listening(app, own, name=name))
            found.append(Application(name, url, app))
        combined = Combined(Board(1), "none").application()
        url = await stack.enter_async_context(worker_listening(combined, Settings(**PLAIN), name="combined"))
        yield [*found, Application("combined", url, combined)]


def _lost() -> None:
    raise AssertionError("the broker connection was given up")
