"""The tracker put together: the only module that knows every part of it."""

from collections.abc import Callable

from aiohttp import web

from beaconfire_demo.tracker.activity import Activity
from beaconfire_demo.tracker.comments import Comments
from beaconfire_demo.tracker.issues import Issues
from beaconfire_demo.tracker.migrations import MIGRATIONS
from beaconfire_demo.tracker.plans import Cycles, Projects
from beaconfire_demo.tracker.settings import Settings
from beaconfire_demo.tracker.store import KEYS, OUTBOX
from beaconfire_demo.tracker.teams import Teams
from beaconfire_demo.tracker.workspaces import Workspaces
from beaconfire_kit.access import Access
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.service import Service
from beaconfire_kit.store import Store, Writing


def build(settings: Settings, *, on_fatal: Callable[[], None]) -> web.Application:
    """Return the tracker's application. For `on_fatal` see `Service`. Its start raises DatabaseUnusable."""
    service = Service("tracker", settings, MIGRATIONS, look_at=OUTBOX, on_fatal=on_fatal)
    access = service.asks_auth(
        Access(settings, root_kind="workspace", source="tracker", service_token=settings.shown_token)
    )
    outbox = service.publishes(Outbox(service.database, OUTBOX))
    store = Store(service.database, outbox, KEYS, Writing)
    service.always(store.keep_forgetting)
    app = service.application()
    for calls in (Workspaces, Teams, Issues, Comments, Projects, Cycles, Activity):
        app.add_routes(calls(access, store).routes())
    return app
