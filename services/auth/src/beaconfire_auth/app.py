"""Build auth: the only module that knows every part of it."""

from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from beaconfire_auth import openapi
from beaconfire_auth.accounts import Accounts
from beaconfire_auth.attempts import Attempts
from beaconfire_auth.authorizers import Authorizers
from beaconfire_auth.backend_http import BackendCalls
from beaconfire_auth.backends import Backends
from beaconfire_auth.decisions import Decisions
from beaconfire_auth.hashing import Hashing
from beaconfire_auth.http import Calls
from beaconfire_auth.keys import Keys
from beaconfire_auth.members import Members
from beaconfire_auth.migrations import MIGRATIONS
from beaconfire_auth.operators import Operators
from beaconfire_auth.outside_users import OutsideUsers
from beaconfire_auth.projection import Projection
from beaconfire_auth.revocations import Revocations
from beaconfire_auth.root_kinds import RootKinds
from beaconfire_auth.rpc import Rpc
from beaconfire_auth.seal import Seal
from beaconfire_auth.service_tokens import ServiceTokens
from beaconfire_auth.settings import Settings
from beaconfire_auth.store import COUNTERS, OUTBOX
from beaconfire_auth.successors import Successors
from beaconfire_auth.upkeep import Upkeep
from beaconfire_auth.user_views import UserViews
from beaconfire_kit.catalogue_follower import CatalogueFollower
from beaconfire_kit.forwarding import ClientAddresses
from beaconfire_kit.openapi import PATH, served
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.progress import STUCK_S
from beaconfire_kit.relay import POLL_S
from beaconfire_kit.service import Service
from beaconfire_kit.web import FOR_OPERATORS


@dataclass(frozen=True, slots=True)
class Tuning:
    """Times that operators do not set. Tests choose others."""

    relay_poll_s: float = POLL_S
    projection_stuck_s: float = STUCK_S


def build(settings: Settings, *, on_fatal: Callable[[], None], tuning: Tuning | None = None) -> web.Application:
    """Auth's application. For `on_fatal` see `Service`. Its start raises DatabaseUnusable and KeysUnusable."""
    tuning = tuning or Tuning()
    service = Service("auth", settings, MIGRATIONS, look_at=COUNTERS, on_fatal=on_fatal, one_writer=True)
    database = service.database
    outbox = Outbox(database, OUTBOX)
    seal = Seal(settings.keys_secrets)
    keys, successors = Keys(database, seal), Successors(database, seal)
    hashing = Hashing(settings)
    outside_users = OutsideUsers(settings.outside_issuers, database)
    attempts = Attempts(settings, database)
    catalogues = CatalogueFollower()
    root_kinds = RootKinds(catalogues)
    service_tokens = ServiceTokens(settings, database, keys, root_kinds)
    accounts = Accounts(
        settings, database, outbox, keys=keys, successors=successors, hashing=hashing, outside_users=outside_users
    )
    revocations = Revocations(database, outbox)
    members = Members(database, outbox, outside_users)
    projection = Projection(database, catalogues, stuck_s=tuning.projection_stuck_s)
    authorizers = Authorizers(settings.authorizers)
    decisions = Decisions(members, projection, service_tokens, outside_users, root_kinds, revocations, authorizers)
    backends = Backends(members, revocations, outside_users, root_kinds, attempts)
    rpc = Rpc(settings, decisions, service_tokens, backends, on_closed=on_fatal)
    upkeep = Upkeep(keys, successors, attempts, revocations)

    async def start(http: aiohttp.ClientSession) -> None:
        outside_users.start(http)
        authorizers.start(http)
        await upkeep.open_if_possible()

    service.at_start(start)
    service.always(upkeep.run)
    service.on_connected(rpc.start)
    service.publishes(outbox, poll_s=tuning.relay_poll_s)
    service.while_connected(catalogues.run)
    service.unless(catalogues.why_not_ready)
    service.while_connected(projection.run)
    service.check(projection.why_stuck)
    service.at_stop(rpc.stop)
    service.at_stop(authorizers.stop)
    service.at_end(hashing.close)

    app = service.application()
    calls = Calls(
        accounts,
        members,
        keys,
        attempts,
        ClientAddresses(settings),
        decisions.authorize,
        root_kinds,
        BackendCalls(backends, service_tokens),
    )
    app.add_routes(calls.routes())
    app.router.add_get(PATH, served(openapi.document()))
    operators = Operators(
        settings.operator_token.get_secret_value(),
        key_lead_s=settings.key_lead_s,
        keys=keys,
        service_tokens=service_tokens,
        attempts=attempts,
        users=UserViews(database, revocations, decisions),
    )
    app[FOR_OPERATORS] = [*app[FOR_OPERATORS], *operators.routes()]
    return app
