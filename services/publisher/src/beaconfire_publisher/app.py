"""Build the publisher: the only module that knows every part of it."""

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from beaconfire_kit import broker
from beaconfire_kit.catalogue_follower import CatalogueFollower
from beaconfire_kit.database import LOCK_TIMEOUT_S
from beaconfire_kit.openapi import PATH, served
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.service import Service
from beaconfire_kit.store import CURSOR_WAIT_S
from beaconfire_publisher import openapi
from beaconfire_publisher.access import Access
from beaconfire_publisher.campaigns import Campaigns
from beaconfire_publisher.clock import Clocks
from beaconfire_publisher.entities import Entities
from beaconfire_publisher.events_api import Events
from beaconfire_publisher.kingdoms import Kingdoms
from beaconfire_publisher.migrations import MIGRATIONS
from beaconfire_publisher.sending import Sending
from beaconfire_publisher.settings import Settings
from beaconfire_publisher.settlements import Settlements
from beaconfire_publisher.store import OUTBOX, Store
from beaconfire_publisher.structures import Structures
from beaconfire_publisher.world_time import WorldTime


@dataclass(frozen=True, slots=True)
class Tuning:
    """Times that operators do not set. Tests choose others."""

    cursor_wait_s: float = CURSOR_WAIT_S
    lock_timeout_s: float = LOCK_TIMEOUT_S


def build(settings: Settings, *, on_fatal: Callable[[], None], tuning: Tuning | None = None) -> web.Application:
    """Return the publisher's application. For `on_fatal` see `Service`. Its start raises DatabaseUnusable."""
    tuning = tuning or Tuning()
    service = Service(
        "publisher", settings, MIGRATIONS, look_at=OUTBOX, on_fatal=on_fatal, lock_timeout_s=tuning.lock_timeout_s
    )
    access = service.asks_auth(Access(settings))
    outbox = service.publishes(Outbox(service.database, OUTBOX), wake=broker.WAKE)
    store = Store(service.database, outbox, settings.publishing_limits(), cursor_wait_s=tuning.cursor_wait_s)
    catalogues = CatalogueFollower()
    sending = Sending(access, catalogues)
    service.while_connected(catalogues.run)
    service.while_connected(sending.run)
    service.always(store.keep_forgetting)
    app = service.application()
    app.middlewares.append(access.count_body)
    for calls in (Campaigns, WorldTime, Clocks, Kingdoms, Settlements, Structures):
        app.add_routes(calls(access, store).routes())
    app.add_routes(Entities(access, store, catalogues).routes())
    app.add_routes(Events(access, store, catalogues).routes())
    app.add_routes(sending.routes())
    app.router.add_get(PATH, served(openapi.document()))
    return app
