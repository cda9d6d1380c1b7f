"""The admin page put together: its files, its calls, and what runs beside them."""

import asyncio
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path

from aiohttp import web

import beaconfire_demo
from beaconfire.admin.calls import Calls
from beaconfire.admin.operators import Operators
from beaconfire.admin.services import Services
from beaconfire.admin.settings import Settings
from beaconfire.admin.stream import Stream
from beaconfire.admin.watching import EVERY_S, Watch
from beaconfire_gateway.process.static_files import add_static_files
from beaconfire_kit.web import SERVICE, application

PAGE = Path(__file__).parent / "page"
SHARED = Path(str(files(beaconfire_demo))) / "page"
"""The demo's style, and what its pages are built with."""


def build(settings: Settings, *, every_s: float = EVERY_S) -> web.Application:
    """Build the application, which is not started. It looks at the services every `every_s` seconds.

    It is ready even if nothing else is, because operators need it then.
    """
    services, stream = Services(settings), Stream(settings)
    watch = Watch(services, stream, every_s=every_s)
    app = application(settings, ready=lambda: None)
    app[SERVICE] = "admin"
    app.middlewares.append(Operators(settings).guard)
    app.add_routes(Calls(settings, services, stream, watch).routes())
    add_static_files(app, (PAGE, SHARED))

    async def run(_app: web.Application) -> AsyncIterator[None]:
        async with services.opened(), stream.connected():
            watching = asyncio.create_task(watch.run(), name="watch")
            yield
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    app.cleanup_ctx.append(run)
    return app
