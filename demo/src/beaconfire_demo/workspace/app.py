"""The workspace service put together."""

from collections.abc import Callable

from aiohttp import web

from beaconfire_demo.workspace import openapi
from beaconfire_demo.workspace.agents import Agents
from beaconfire_demo.workspace.approvals import Approvals
from beaconfire_demo.workspace.chat import Chats
from beaconfire_demo.workspace.migrations import MIGRATIONS
from beaconfire_demo.workspace.notifications import Notifications
from beaconfire_demo.workspace.people import People
from beaconfire_demo.workspace.settings import Settings
from beaconfire_demo.workspace.store import OUTBOX, open_store
from beaconfire_demo.workspace.workspaces import Workspaces
from beaconfire_kit.access import Access
from beaconfire_kit.openapi import PATH, served
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.service import Service
from beaconfire_kit.store import CURSOR_WAIT_S


def build(settings: Settings, *, on_fatal: Callable[[], None], cursor_wait_s: float = CURSOR_WAIT_S) -> web.Application:
    """Return the application. For `on_fatal` see `Service`. Its start raises DatabaseUnusable."""
    service = Service("workspace", settings, MIGRATIONS, look_at=OUTBOX, on_fatal=on_fatal)
    access = service.asks_auth(
        Access(settings, root_kind="workspace", source="workspace", service_token=settings.shown_token)
    )
    outbox = service.publishes(Outbox(service.database, OUTBOX))
    store = open_store(service.database, outbox, cursor_wait_s=cursor_wait_s)
    service.always(store.keep_forgetting)
    people = People(settings.auth_at)
    service.at_start(people.start)
    app = service.application()
    app.add_routes(Approvals(access, store, people).routes())
    for calls in (Workspaces, Agents, Chats, Notifications):
        app.add_routes(calls(access, store).routes())
    app.router.add_get(PATH, served(openapi.document()))
    return app
