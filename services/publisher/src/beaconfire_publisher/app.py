"""Build the publisher: the only module that knows every part of it."""

from collections.abc import Callable

from aiohttp import web

from beaconfire_kit import broker
from beaconfire_kit.openapi import PATH, served
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.service import Service
from beaconfire_publisher import openapi
from beaconfire_publisher.access import Access
from beaconfire_publisher.campaigns import Campaigns
from beaconfire_publisher.clock import Clocks
from beaconfire_publisher.entities import Entities
from beaconfire_publisher.events_api import Events
from beaconfire_publisher.migrations import MIGRATIONS
from beaconfire_publisher.settings import Settings
from beaconfire_publisher.settlements import Settlements
from beaconfire_publisher.store import OUTBOX, Store
from beaconfire_publisher.structures import Structures
from beaconfire_publisher.world_time import WorldTime


def build(settings: Settings, *, on_fatal: Callable[[], None]) -> web.Application:
    """Return the publisher's application. For `on_fatal` see `Service`. Its start raises DatabaseUnusable."""
    service = Service("publisher", settings, MIGRATIONS, look_at=OUTBOX, on_fatal=on_fatal)
    access = service.asks_auth(Access(settings))
    outbox = service.publishes(Outbox(service.database, OUTBOX), wake=broker.WAKE)
    store = Store(service.database, outbox, settings.publishing_limits())
    service.always(store.keep_forgetting)
    app = service.application()
    app.middlewares.append(access.count_body)
    for calls in (Campaigns, WorldTime, Clocks, Settlements, Structures, Entities, Events):
        app.add_routes(calls(access, store).routes())
    app.router.add_get(PATH, served(openapi.document()))
    return app
