"""The gateway put together: the only place that knows every part, and the order in which they stop."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, closing, contextmanager, nullcontext
from functools import partial
from typing import Any

import aiohttp
from aiohttp import web

from beaconfire_gateway.fanout.busiest import Busiest
from beaconfire_gateway.fanout.encoding import Encoder
from beaconfire_gateway.fanout.hub import Hub
from beaconfire_gateway.fanout.outbound import Outbound
from beaconfire_gateway.fanout.ring import Ring
from beaconfire_gateway.fanout.wires import Calls, Wires
from beaconfire_gateway.process.gc_tuning import Collector
from beaconfire_gateway.process.operators import Operators
from beaconfire_gateway.process.settings import Settings
from beaconfire_gateway.process.siblings import Worker
from beaconfire_gateway.process.static_files import add_static_files
from beaconfire_gateway.sessions import requests
from beaconfire_gateway.sessions.context import Access, Context
from beaconfire_gateway.sessions.farewell import Farewell
from beaconfire_gateway.sessions.limits import Doorkeeper, Users
from beaconfire_gateway.sessions.membership import Membership
from beaconfire_gateway.sessions.pace import Pace
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.sessions.timers import Wheel
from beaconfire_gateway.stream.deadletters import DeadLetters
from beaconfire_gateway.stream.delivery import Delivery
from beaconfire_gateway.stream.history import History
from beaconfire_gateway.stream.intake import Intake
from beaconfire_gateway.transports.handshake import Handshake
from beaconfire_gateway.transports.sockets import Sockets
from beaconfire_gateway.wire import protocol
from beaconfire_kit import broker, errors, logs, metrics
from beaconfire_kit.authorization import Auth
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.forwarding import ClientAddresses
from beaconfire_kit.resync import ResyncReason
from beaconfire_kit.seams.nats_direct import DirectClient
from beaconfire_kit.verifier import Verifier
from beaconfire_kit.web import DRAIN, FINISH_S, FOR_OPERATORS, application

log = logs.get(__name__)

RING_BYTES = metrics.Gauge(
    "beaconfire_gateway_ring_bytes", "Memory used by the newest events, which are kept for replays."
)
ROOMS = metrics.Gauge("beaconfire_gateway_rooms", "Rooms with at least one session.")
CONNECTING = metrics.Gauge(
    "beaconfire_gateway_pending_connections", "Open connections that have not sent `connect` yet."
)
READ_ON_EVERY_S, READ_ON = 0.02, 100
FINISH_REQUESTS_S = 2.0
"""How long requests under way have once the sessions have gone (seconds): static files, mostly."""
FRAMES = metrics.Counter("beaconfire_gateway_event_frames_sent_total", "Event frames written to sessions.")


def build(settings: Settings, *, on_fatal: Any, worker: Worker | None = None) -> web.Application:
    """The gateway's application. `on_fatal` is called where the broker connection ended for good: exit non-zero.

    `worker`: this process is one of several; another one answers operators, and asks this one (`combined`).
    """
    gateway = _Gateway(settings, on_fatal, worker)
    app = application(settings, ready=gateway.why_not_ready)
    app[FINISH_S] = min(FINISH_REQUESTS_S, settings.stop_timeout_s)
    app[DRAIN] = gateway.drain
    app.router.add_get("/ws", gateway.handle_socket, allow_head=False)
    operators = Operators(gateway.hub, gateway.limits, gateway.users, gateway.door)
    app[FOR_OPERATORS] = operators.routes_of_a_worker() if worker else operators.routes()
    add_static_files(app, settings.static_dir)
    app.on_shutdown.append(gateway.close_sessions)
    app.cleanup_ctx.append(gateway.run)
    return app


class _Gateway:
    def __init__(self, settings: Settings, on_fatal: Any, worker: Worker | None) -> None:
        self._settings = settings
        self._on_fatal = on_fatal
        self._worker = worker
        self.hub: Hub[Session] = Hub()
        self.limits = settings.limits
        self.users = Users(self.limits)
        self.door = Doorkeeper(self.limits)
        self._draining = False
        self._stopping = False
        self._asked: set[asyncio.Task[None]] = set()
        self._intake: Intake | None = None
        self._handshake: Handshake | None = None
        self._context: Context[Session] | None = None

    def why_not_ready(self) -> str | None:
        if self._draining or self._stopping:
            return "stopping"
        if self._intake is None:
            return "starting: waiting for the broker"
        return self._intake.why_not_ready()

    async def handle_socket(self, request: web.Request) -> web.StreamResponse:
        if self._stopping:
            raise _going_away()
        if self._handshake is None or self._intake is None or not self._intake.ready:
            raise BeaconfireError(errors.UNAVAILABLE, "starting, try again", retry_after_ms=1000)
        return await self._handshake.handle(request)

    async def run(self, _app: web.Application) -> AsyncIterator[None]:
        """Everything that lives beside HTTP. Shutdown order: (drain, stop listening, close sessions,) leave NATS."""
        with self._open_sockets() as sockets:
            async with asyncio.TaskGroup() as tasks:
                connecting = tasks.create_task(self._run(sockets), name="gateway")
                yield
                for task in self._asked:
                    task.cancel()
                connecting.cancel()

    @contextmanager
    def _open_sockets(self) -> Iterator[Sockets | None]:
        """What serves clients' sockets; None where they stay aiohttp's."""
        if self._settings.transport == "aiohttp":
            yield None
        elif not Sockets.AVAILABLE:
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
        membership = Membership(auth, verifier, self.hub)
        encoder = Encoder()
        history = History(nc, encoder)
        context = self._context = self._make_context(membership, history, sockets or Calls(), loop)

        delivery = Delivery(context, membership, encoder, DeadLetters(nc, self._spawn).set_aside)
        self._intake = Intake(
            nc,
            deliver=delivery.take,
            on_state=lambda alive: _set_degraded(context, not alive),
            on_epoch=lambda epoch, position: _begin_epoch(context, membership, history, epoch, position),
            on_gap=lambda position: _lose(context, membership, history, position),
            on_doubt=membership.doubt,
            history_s=settings.ring_age_s,
        )
        self._handshake = Handshake(
            context,
            allowed_origins=settings.allowed_origins,
            addresses=ClientAddresses(settings),
            max_buffer_bytes=settings.max_buffer_bytes,
            compression=settings.compression,
            sockets=sockets,
        )
        await nc.subscribe_direct(f"{broker.EPHEMERAL_PREFIX}>", delivery.take_ephemeral)
        async with AsyncExitStack() as stack:
            stack.enter_context(self._hearing_siblings(context))
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            tasks.create_task(self._intake.run(), name="intake")
            tasks.create_task(membership.renew(), name="leases")
            tasks.create_task(membership.confirm(), name="doubts")
            tasks.create_task(auth.watch(), name="watch the broker")
            held_s = settings.heartbeat_s + 3  # by the wheel, which is a second or two late
            tasks.create_task(_turn(context, history, Collector(membership.let_go, held_s)), name="wheel")
            tasks.create_task(_read_on(delivery), name="unheard events")

    def _hearing_siblings(self, context: Context[Session]) -> AbstractContextManager[None]:
        """Let sessions go that other workers tell of."""
        if self._worker is None:
            return nullcontext()
        context.session_prefix = self._worker.session_prefix
        context.replace_elsewhere = self._worker.replace
        return self._worker.listening(partial(_make_way, context.hub))

    def _make_context(
        self, access: Access, history: History, wires: Wires, loop: asyncio.AbstractEventLoop
    ) -> Context[Session]:
        settings = self._settings
        return Context(
            hub=self.hub,
            ring=Ring(max_bytes=settings.ring_bytes, max_age_s=settings.ring_age_s),
            outbound=Outbound(self.hub, wires, loop.call_soon),
            access=access,
            history=history,
            handle=requests.handle,
            wheel=Wheel(int(time.monotonic())),
            spawn=self._spawn,
            pace=Pace(loop.call_soon),
            limits=self.limits,
            users=self.users,
            door=self.door,
        )

    def _spawn(self, question: Coroutine[Any, Any, None]) -> None:
        """Run a short question to the outside; owned here, and cancelled when the gateway stops."""
        task = asyncio.get_running_loop().create_task(question)
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    async def _reconnected(self) -> None:
        if self._intake is not None:
            self._intake.reconnected()

    async def drain(self) -> None:
        """Told to stop: not ready, and every session is told when to go. Returns once all have left, or time is up.

        Until then the gateway listens and serves clients that come: a load balancer sends them until it has noticed. So
        it listens for some time even if no client is connected.
        """
        self._draining = True
        context, window_s = self._context, float(self._settings.stop_timeout_s)
        if context is None:
            return
        began_at = time.monotonic()
        context.farewell = Farewell(window_s, began_at)
        sessions = list(context.hub.all_sessions())
        log.info("telling sessions to go elsewhere", count=len(sessions), window_s=window_s)
        for session, goaway in zip(sessions, context.farewell.to_all(len(sessions)), strict=True):
            session.tell(goaway)
        accepts_until = began_at + min(window_s, self._settings.stop_accept_s)
        while (now := time.monotonic()) < context.farewell.ends_at:
            if now >= accepts_until and not context.hub.sessions and not context.connecting:
                return
            await asyncio.sleep(0.05)

    async def close_sessions(self, _app: web.Application) -> None:
        """Nobody listens any more, and time is up: close who is left.

        Called before aiohttp waits for requests under way, as sockets that are aiohttp's are such requests.
        """
        self._stopping = True
        context = self._context
        if context is None:
            return
        context.outbound.drain()
        for session in [*context.connecting, *context.hub.all_sessions()]:
            session.close(_going_away())


def _make_way(hub: Hub[Session], session_id: str, user_id: str) -> None:
    """A client of this user has connected to another worker, and this session is the one it had before."""
    for session in hub.sessions_of(user_id):
        if session.id == session_id:
            session.make_way()


def _going_away() -> BeaconfireError:
    return BeaconfireError(errors.UNAVAILABLE, "this gateway is going away, connect again", retry_after_ms=1000)


def _begin_epoch(
    context: Context[Session], membership: Membership, history: History, epoch: str, position: int
) -> None:
    """The stream starts for us at `position`, for the first time or as another one."""
    changed = bool(context.epoch or context.position)
    context.epoch = epoch
    history.start(epoch)
    _begin(context, membership, position, ResyncReason.EPOCH_CHANGED if changed else None)


def _lose(context: Context[Session], membership: Membership, history: History, position: int) -> None:
    """The stream lost events at or below `position` that were not heard: go on there."""
    history.lose(position)
    _begin(context, membership, position, ResyncReason.NOT_RESUMABLE)


def _begin(context: Context[Session], membership: Membership, position: int, trouble: ResyncReason | None) -> None:
    """Go on at `position`. If that breaks continuity, every session is told to reload, and why.

    What is missing may have changed who may hear what, so that is asked again.
    """
    context.position = position
    context.arrivals.begin()
    context.pieces.forget()
    context.ring.start(position)
    context.outbound.start(position)
    if trouble:
        for session in list(context.hub.all_sessions()):
            session.resync(trouble)
        membership.doubt()


def _set_degraded(context: Context[Session], is_degraded: bool) -> None:
    """Tell every session that events may be late, or flow again. A session that connects later reads it in its ack."""
    context.is_degraded = is_degraded
    frame = protocol.degraded() if is_degraded else protocol.live()
    for session in list(context.hub.all_sessions()):
        session.tell(frame)


async def _read_on(delivery: Delivery) -> None:
    """Check what nobody listened to, at a pace that leaves the core to those who do listen: 5,000 a second, 5 %."""
    while True:
        await asyncio.sleep(READ_ON_EVERY_S)
        delivery.read_on(READ_ON)


async def _turn(context: Context[Session], history: History, collector: Collector) -> None:
    """Turn the wheel, and show the figures nothing else counts."""
    busiest = Busiest()
    frames_counted = 0
    while True:
        await asyncio.sleep(1 - time.monotonic() % 1)
        context.wheel.turn(int(time.monotonic()))
        context.ring.forget(time.monotonic())
        history.forget()
        context.pieces.forget()
        context.users.forget(time.monotonic())
        busiest.look(context.ring, time.monotonic())
        collector.look(context.hub.sessions, time.monotonic())
        CONNECTING.set(context.door.connecting)
        RING_BYTES.set(context.ring.bytes)
        ROOMS.set(len(context.hub))
        frames_sent = context.outbound.frames_sent
        FRAMES.inc(frames_sent - frames_counted)
        frames_counted = frames_sent
