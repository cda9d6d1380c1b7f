"""The gateway put together: the only place that knows every part, and the order in which they stop."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler

from beaconfire_gateway.fanout.checking import Checker
from beaconfire_gateway.fanout.hub import Hub
from beaconfire_gateway.presence.attendance import GatewayAttendance
from beaconfire_gateway.presence.exchange import Exchange
from beaconfire_gateway.presence.node import Node
from beaconfire_gateway.presence.selections import UsersSelections
from beaconfire_gateway.presence.typing_users import RoomsTypingUsers
from beaconfire_gateway.process.catalogue_document import CatalogueDocument
from beaconfire_gateway.process.event_views import EventViews, Parts
from beaconfire_gateway.process.gc_tuning import Collector
from beaconfire_gateway.process.operators import Operators
from beaconfire_gateway.process.presence_answers import ROUTE as PRESENCE
from beaconfire_gateway.process.presence_answers import ForBackends, occupancy
from beaconfire_gateway.process.session_views import SessionViews
from beaconfire_gateway.process.settings import Settings
from beaconfire_gateway.process.static_files import add_static_files
from beaconfire_gateway.process.worker_sessions import Worker
from beaconfire_gateway.sessions import requests
from beaconfire_gateway.sessions.authorization import AskingPolicy, Authorization
from beaconfire_gateway.sessions.gateway import LOSING_S, Gateway
from beaconfire_gateway.sessions.goaway import going_away
from beaconfire_gateway.sessions.limits import Doorkeeper, Users
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.stream.catalogue_revisions import CatalogueRevisions
from beaconfire_gateway.stream.check_schedule import SILENCE_S
from beaconfire_gateway.stream.deadletters import DeadLetters
from beaconfire_gateway.stream.delivery import Delivery, telling
from beaconfire_gateway.stream.event_spans import EventSpans
from beaconfire_gateway.stream.history import History
from beaconfire_gateway.stream.intake import Intake
from beaconfire_gateway.stream.repair import YOUNG_S
from beaconfire_gateway.stream.replay import Reader
from beaconfire_gateway.transports import cors
from beaconfire_gateway.transports.admission import Admission
from beaconfire_gateway.transports.handshake import Handshake
from beaconfire_gateway.transports.poll import LongPolls
from beaconfire_gateway.transports.relay import Relay
from beaconfire_gateway.transports.socketio.handler import SocketIOHandler
from beaconfire_gateway.transports.socketio.namespaces import Namespaces
from beaconfire_gateway.transports.socketio.recovery import Recovery
from beaconfire_gateway.transports.sockets import Sockets
from beaconfire_gateway.transports.sse import EVENT_SOURCES, Sse, for_event_sources
from beaconfire_gateway.transports.sse_messages import StreamMessages
from beaconfire_gateway.transports.sse_tickets import Tickets
from beaconfire_gateway.transports.websocket_opening import WebSocketOpening
from beaconfire_gateway.transports.write_buffers import WriteBuffers
from beaconfire_kit import broker, errors, logs, tracing
from beaconfire_kit.authorization import Auth
from beaconfire_kit.catalogue.timeline import Timeline
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.forwarding import ClientAddresses
from beaconfire_kit.operator_tokens import OperatorToken
from beaconfire_kit.seams.nats_direct import DirectClient
from beaconfire_kit.verifier import Verifier
from beaconfire_kit.web import CROSS_ORIGIN, DRAIN, FINISH_S, FOR_OPERATORS, SERVICE, application

log = logs.get(__name__)

TRANSPORTS = (
    "GET /ws",
    "GET /sse",
    "POST /sse",
    "POST /sse/tickets",
    "POST /sse/messages",
    "GET /sse/stream",
    "GET /poll",
    "POST /poll",
    "* /socket.io",
    "* /socket.io/",
)
"""The routes of the transports. `_make_handlers` makes the handler of each of them, and that of `PRESENCE`."""
CHECK_EVERY_S, CHECK = 0.02, 100
"""Events that no session heard are checked at a pace that leaves the core to those that are: 5,000 a second, 5 %."""
FINISH_REQUESTS_S = 2.0
"""How long requests under way have once the sessions have gone (seconds): static files, mostly."""


@dataclass(frozen=True)
class Tuning:
    """Values that operators do not set. Tests choose others, so that they need not wait for minutes."""

    asking: AskingPolicy = field(default_factory=AskingPolicy)
    losing_s: float = LOSING_S
    silence_s: float = SILENCE_S
    young_s: float = YOUNG_S


def build(
    settings: Settings, *, on_fatal: Any, worker: Worker | None = None, tuning: Tuning | None = None
) -> web.Application:
    """Build the gateway's application. If the broker connection ends for good, `on_fatal` must exit with an error.

    With `worker`, this process is one of several. Another one answers operators, and asks this one
    (`worker_operations`).
    """
    process = _Process(settings, on_fatal, worker, tuning or Tuning())
    app = application(settings, ready=process.why_not_ready)
    app[SERVICE] = "gateway"
    app[FINISH_S] = min(FINISH_REQUESTS_S, settings.stop_timeout_s)
    app[DRAIN] = process.drain
    app[CROSS_ORIGIN] = cors.RULES
    for route in (*TRANSPORTS, PRESENCE):
        method, path = route.split()
        handler = process.handler_of(route)
        app.router.add_route(method, path, for_event_sources(handler) if route == EVENT_SOURCES else handler)
    operators = Operators(process.hub, process.limits, process.users, process.door)
    document = CatalogueDocument(process.timeline)
    sessions = SessionViews(process.gateway, process.why_not_ready)
    events = EventViews(OperatorToken(settings.operator_token.get_secret_value()), process.parts)
    own = operators.routes_of_a_worker() if worker else operators.routes()
    app[FOR_OPERATORS] = [
        *own,
        *sessions.routes(),
        *events.routes(),
        *document.routes(),
        occupancy(process.attendance),
    ]
    add_static_files(app, settings.static_dir)
    app.on_shutdown.append(process.close_sessions)
    app.cleanup_ctx.append(process.run)
    return app


class _Process:
    """The gateway with everything around it: broker, auth, HTTP, sockets."""

    def __init__(self, settings: Settings, on_fatal: Any, worker: Worker | None, tuning: Tuning) -> None:
        self._settings = settings
        self._tuning = tuning
        self._on_fatal = on_fatal
        self._worker = worker
        self.hub: Hub[Session] = Hub()
        self.limits = settings.limits
        self.users = Users(self.limits)
        self.door = Doorkeeper(self.limits)
        self.timeline = Timeline()
        self._draining = False
        self._stopping = False
        self._asked: set[asyncio.Task[None]] = set()
        self._intake: Intake | None = None
        self._relay: Relay | None = None
        self._recovery: Recovery | None = None
        self._handlers: Mapping[str, Handler] = {}
        self._attendance: GatewayAttendance | None = None
        self._gateway: Gateway | None = None
        self._parts: Parts | None = None

    def why_not_ready(self) -> str | None:
        if self._draining or self._stopping:
            return "stopping"
        if self._intake is None:
            return "starting: waiting for the broker"
        return self._intake.why_not_ready()

    def handler_of(self, route: str) -> Handler:
        """The handler of a transport's route. It answers 503 before the gateway is ready, and once it closes."""

        async def handle(request: web.Request) -> web.StreamResponse:
            if self._stopping:
                raise going_away()
            handler = self._handlers.get(route)
            if handler is None or self._intake is None or not self._intake.ready:
                raise BeaconfireError(errors.UNAVAILABLE, "starting, try again", retry_after_ms=1000)
            return await handler(request)

        return handle

    def attendance(self) -> GatewayAttendance | None:
        """Who is here. None until the broker was reached."""
        return self._attendance

    def gateway(self) -> Gateway | None:
        """The gateway as its sessions see it. None until the broker was reached."""
        return self._gateway

    def parts(self) -> Parts | None:
        """What shows events to operators. None until the broker was reached."""
        return self._parts

    async def run(self, _app: web.Application) -> AsyncIterator[None]:
        """Run everything beside HTTP. Shutdown order: (drain, stop listening, close sessions,) leave NATS."""
        with self._open_sockets() as sockets:
            async with asyncio.TaskGroup() as tasks:
                connecting = tasks.create_task(self._run(sockets), name="gateway")
                yield
                for task in self._asked:
                    task.cancel()
                connecting.cancel()

    @contextmanager
    def _open_sockets(self) -> Iterator[Sockets | None]:
        """Yield our own server of clients' sockets, or None if aiohttp serves them."""
        if self._settings.transport == "aiohttp":
            yield None
        elif not Sockets.are_available():
            log.warning("clients' sockets stay aiohttp's and take more memory: this system has no epoll")
            yield None
        else:
            with closing(Sockets(asyncio.get_running_loop())) as sockets:
                yield sockets

    async def _run(self, sockets: Sockets | None) -> None:
        async with aiohttp.ClientSession() as http:
            nc = DirectClient()
            await broker.connect(
                self._settings,
                "gateway",
                client=nc,
                on_closed=self._on_fatal,
                on_reconnected=self._reconnected,
            )
            try:
                await self._serve(nc, http, sockets)
            finally:
                await broker.close(nc)

    async def _serve(self, nc: DirectClient, http: aiohttp.ClientSession, sockets: Sockets | None) -> None:
        settings, loop = self._settings, asyncio.get_running_loop()
        verifier = Verifier(
            http,
            settings.jwks_url,
            issuer=settings.issuer,
            audience=settings.audience,
            outside=settings.outside_issuers,
        )
        auth = Auth(http, settings.auth_at)
        auth.nc = nc
        authorization = Authorization(auth, verifier, self.hub, self._tuning.asking)
        checker, reader = Checker(self.timeline), Reader(nc)
        revisions = CatalogueRevisions(nc, reader, self.timeline, self._spawn)
        gateway = self._gateway = Gateway(
            access=authorization,
            history=History(reader, checker, lambda: gateway.position),
            catalogue=revisions,
            handle=requests.handle,
            call_soon=loop.call_soon,
            call_later=loop.call_later,
            spawn=self._spawn,
            limits=self.limits,
            name=settings.gateway_name,
            hub=self.hub,
            users=self.users,
            door=self.door,
            automatic_rooms=settings.rooms_at_connect,
            ring_bytes=settings.ring_bytes,
            ring_age_s=settings.ring_age_s,
            losing_s=self._tuning.losing_s,
        )
        self._parts = Parts(gateway, checker, reader)
        nc.rest_s = lambda: gateway.outbound.rest_s
        attendance = GatewayAttendance(gateway, Node(gateway.process_id))
        self._attendance = gateway.attendance = attendance
        typing = gateway.typing = RoomsTypingUsers(gateway)
        selections = gateway.selections = UsersSelections(gateway)
        exchange = Exchange(nc, attendance, typing, selections, spawn=self._spawn)
        spans, set_aside = tracing.active(), DeadLetters(nc, self._spawn).set_aside
        traced = None if spans is None else EventSpans(spans, gateway.outbound, loop.call_soon)
        delivery = Delivery(
            gateway, authorization, checker, set_aside if traced is None else traced.setting_aside(set_aside)
        )
        deliver = telling(delivery.deliver) if logs.is_debugging() else delivery.deliver
        self._intake = Intake(
            nc,
            reader,
            revisions,
            deliver=deliver if traced is None else traced.around(deliver),
            on_state=lambda alive: gateway.set_degraded(not alive),
            on_epoch=gateway.begin,
            on_gap=gateway.lose,
            on_doubt=authorization.doubt,
            history_s=settings.ring_age_s,
            silence_s=self._tuning.silence_s,
            young_s=self._tuning.young_s,
        )
        self._relay = Relay(nc, gateway.process_id, spawn=self._spawn)
        await self._relay.subscribe()
        recovery = self._recovery = Recovery(nc)
        admission = Admission(gateway, allowed_origins=settings.allowed_origins, addresses=ClientAddresses(settings))
        self._handlers = {
            **self._make_handlers(gateway, admission, nc, self._relay, recovery, sockets),
            PRESENCE: ForBackends(gateway, attendance, admission, verifier, auth).handle,
        }
        await revisions.subscribe()
        await exchange.subscribe()
        await nc.subscribe_direct(f"{broker.EPHEMERAL_PREFIX}>", delivery.deliver_ephemeral)
        await nc.subscribe_direct(broker.SENT, delivery.deliver_sent)
        async with AsyncExitStack() as stack:
            stack.enter_context(self._hearing_other_workers(gateway))
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            tasks.create_task(self._intake.run(), name="intake")
            tasks.create_task(authorization.renew(), name="leases")
            tasks.create_task(authorization.confirm(), name="doubts")
            tasks.create_task(auth.watch(), name="watch the broker")
            tasks.create_task(self._relay.run(), name="other processes")
            tasks.create_task(exchange.run(), name="who is here")
            tasks.create_task(recovery.run(), name="records of Socket.IO sessions")
            held_s = (
                max(settings.heartbeat_s, settings.plain_ping_s) + 3
            )  # by the timers, which are a second or two late
            tasks.create_task(_turn(gateway, Collector(authorization.let_go, held_s)), name="timers")
            tasks.create_task(_check(delivery), name="unchecked events")

    def _make_handlers(
        self,
        gateway: Gateway,
        admission: Admission,
        nc: DirectClient,
        relay: Relay,
        recovery: Recovery,
        sockets: Sockets | None,
    ) -> Mapping[str, Handler]:
        """The handler of each of `TRANSPORTS`. Without `sockets`, aiohttp serves the clients."""
        settings = self._settings
        buffers = WriteBuffers(self._spawn, max_buffer_bytes=settings.max_buffer_bytes)
        opening = WebSocketOpening(gateway, admission, sockets=sockets, buffers=buffers)
        compression = settings.compression and sockets is not None
        namespaces = Namespaces(gateway, recovery, settings.socketio_namespaces)
        socketio = SocketIOHandler(gateway, admission, opening, relay, namespaces.connect, namespaces.adopt)
        sse = Sse(gateway, admission, Tickets(nc), sockets=sockets, buffers=buffers)
        polls = LongPolls(gateway, admission, full_bytes=buffers.full_bytes)
        return {
            "GET /ws": Handshake(gateway, admission, opening, compression=compression).handle,
            "GET /sse": sse.handle,
            "POST /sse": sse.handle,
            "POST /sse/tickets": sse.issue,
            "POST /sse/messages": StreamMessages(gateway, admission, relay).handle,
            "GET /sse/stream": sse.redeem,
            "GET /poll": polls.handle,
            "POST /poll": polls.handle,
            "* /socket.io": socketio.handle,  # with `addTrailingSlash: false`
            "* /socket.io/": socketio.handle,
        }

    def _hearing_other_workers(self, gateway: Gateway) -> AbstractContextManager[None]:
        """End sessions that clients of other workers have replaced."""
        if self._worker is None:
            return nullcontext()
        gateway.session_prefix = self._worker.session_prefix
        gateway.replace_elsewhere = self._worker.replace
        return self._worker.listening(gateway.make_way)

    def _spawn(self, question: Coroutine[Any, Any, None]) -> None:
        """Run a short question to the outside; owned here, and cancelled when the gateway stops."""
        task = asyncio.get_running_loop().create_task(question)
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    async def _reconnected(self) -> None:
        if self._intake is not None:
            self._intake.reconnected()
        if self._recovery is not None:
            self._recovery.broker_is_back()
        if self._relay is not None:
            self._relay.reconnected()

    async def drain(self) -> None:
        """Send every session a `goaway`, and report not ready. Return once all have left, or when time is up.

        Until then the gateway accepts new clients, because a load balancer sends them until it has noticed. So it
        listens for some time even if no client is connected.
        """
        self._draining = True
        gateway, window_s = self._gateway, float(self._settings.stop_timeout_s)
        if gateway is None:
            return
        began_at = time.monotonic()
        goaways = gateway.send_goaways(window_s, began_at)
        accepts_until = began_at + min(window_s, self._settings.stop_accept_s)
        while (now := time.monotonic()) < goaways.ends_at:
            goaways.close_due(now)
            if now >= accepts_until and gateway.is_empty:
                return
            await asyncio.sleep(0.05)

    async def close_sessions(self, _app: web.Application) -> None:
        """The process listens no longer, and time is up: close the sessions that are left.

        Called before aiohttp waits for requests under way, as sockets that are aiohttp's are such requests.
        """
        self._stopping = True
        if self._gateway is not None:
            self._gateway.close_all(going_away())


async def _check(delivery: Delivery) -> None:
    """Check the events that no session heard."""
    while True:
        await asyncio.sleep(CHECK_EVERY_S)
        delivery.check_some(CHECK)


async def _turn(gateway: Gateway, collector: Collector) -> None:
    """Do what is due each second."""
    while True:
        await asyncio.sleep(1 - time.monotonic() % 1)
        gateway.turn(time.monotonic())
        collector.look(gateway.hub.sessions, time.monotonic())
