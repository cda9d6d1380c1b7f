"""The client: it does the I/O that the core asks for, in one event loop."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Self

import aiohttp

from beaconfire_client.carriers import Carrier, carrier_of, websocket_address
from beaconfire_client.core import actions
from beaconfire_client.core.actions import (
    Action,
    Notice,
    PresenceStatus,
    Refusal,
    State,
    StateChanged,
    Status,
    TokenReason,
)
from beaconfire_client.core.backoff import LAST_CAP_S, MAX_ATTEMPTS
from beaconfire_client.core.connection import NAME, VERSION, Connection
from beaconfire_client.core.protocol import BROKE_OFF, Frame
from beaconfire_client.core.ways import Transport
from beaconfire_client.events import Event
from beaconfire_client.exceptions import BeaconfireError, ConnectionFailed, NotSeen, RequestRefused, TokenRefused
from beaconfire_client.room import OnResync, Room

logger = logging.getLogger("beaconfire_client")

GetToken = Callable[[TokenReason], Awaitable[str]]
"""Returns an access token. Raises TokenRefused if trying again is useless. Anything else counts as a failed attempt."""
OnNotice = Callable[[Notice], None]

TOKEN_TIMEOUT_S = 10.0
QUEUE_SIZE = 1000
PATIENCE_S = 5.0
"""How long the connection waits for a consumer whose queue is full. A gateway waits longer for the answer to a ping."""
ANSWER_S = 15.0
"""How long a request of the application waits for its answer."""
SEEN_S = 60.0
"""More than two heartbeats: if no room has the event, a `position` shows that it has passed."""


class Client:
    """A connection to a gateway that is kept alive, and its rooms. `connect` is its usual name.

        async with connect("wss://live.example/ws", get_token) as client:
            async for event in client.room("campaign:c1"):
                print(event.type, event.payload)

    Entering waits for the first connection. It raises ConnectionFailed if the client is refused or no attempt succeeds.

    * `url`: the gateway's address. `http` and `https` are taken for `ws` and `wss`.
    * `token`: an access token, or a function that gets one. It is called for each connection, and before a token
      expires. A call may take `token_timeout_s`; if it takes longer or raises, it is called again later.
    * `transport`: `auto` tries a WebSocket, then server-sent events, then long polling, and returns to a WebSocket when
      that works again. Any other value allows only that one.
    * `max_pause_s`: the longest pause between two attempts. Pauses are random, up to 1, 2, 4, 8 … s.
    * `max_attempts`: after so many failures in a row it stops with the state `error`. None: it never stops.
    * `cursor`: where to resume. Without it, the first connection starts at the newest event.
    * `on_notice`: called with each change of the state, and with what concerns no single room.
    * `http`: the session to connect with, for a proxy or a private certificate authority. It is not closed.
    * `name` and `version`: of your program, for the gateway's log.

    Use it in the event loop in which it was entered.
    """

    def __init__(
        self,
        url: str,
        token: str | GetToken,
        *,
        token_timeout_s: float = TOKEN_TIMEOUT_S,
        transport: Transport = "auto",
        max_pause_s: float = LAST_CAP_S,
        max_attempts: int | None = MAX_ATTEMPTS,
        cursor: str | None = None,
        on_notice: OnNotice | None = None,
        http: aiohttp.ClientSession | None = None,
        name: str = NAME,
        version: str = VERSION,
    ) -> None:
        """Raises ValueError for an option that can never work."""
        self._url = websocket_address(url)
        self._get_token = token
        self._token_timeout_s = token_timeout_s
        self._on_notice = on_notice
        self._http = http
        self._owns_http = http is None
        self._core = Connection(
            clock=time.monotonic,
            transport=transport,
            max_pause_s=max_pause_s,
            max_attempts=max_attempts,
            cursor=cursor,
            name=name,
            version=version,
        )
        self._rooms: dict[int, Room] = {}
        self._carriers: dict[int, Carrier] = {}
        self._running: dict[int, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._answers: dict[int, asyncio.Future[Refusal | None]] = {}
        self._sights: dict[int, asyncio.Future[None]] = {}
        self._full: set[Room] = set()
        """The rooms whose consumers the connection must wait for."""
        self._is_carrying_out = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at: float | None = None
        self._changed = asyncio.Event()
        self._is_closed = True

    # Its life.

    async def __aenter__(self) -> Self:
        self._is_closed = False
        if self._owns_http:
            self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        try:
            self._core.connect()
            self._carry_out()
            await self.connected()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection. All iterations end."""
        if self._is_closed:
            return
        self._core.close()
        self._is_closed = True
        self._carry_out()
        self._wake()
        tasks = self._tasks - {asyncio.current_task()}  # `get_token` may close the client
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._owns_http and self._http is not None:
            await self._http.close()

    async def connected(self) -> None:
        """Wait until it is connected. Raises ConnectionFailed if it stops trying, or is closed."""
        while self.status.state is not State.CONNECTED:
            if self.failure is not None:
                raise self.failure
            if self._is_closed:
                raise ConnectionFailed("closed", "The client is closed. Use it as `async with connect(...) as client`")
            await self._changed.wait()

    def retry(self) -> None:
        """Try to connect now: after ConnectionFailed, or instead of waiting for the next attempt."""
        self._check_open()
        self._core.retry()
        self._carry_out()

    # What it knows.

    @property
    def status(self) -> Status:
        """The state of the connection. `on_notice` gets each change."""
        return self._core.status

    @property
    def failure(self) -> BeaconfireError | None:
        """Why it has stopped trying. None unless the state is `error`."""
        reason = self.status.reason
        if self.status.state is not State.ERROR or reason is None:
            return None
        return ConnectionFailed(reason.code, reason.message)

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    @property
    def is_degraded(self) -> bool:
        """Whether events may be late because the gateway cannot reach the broker."""
        return self._core.is_degraded

    @property
    def cursor(self) -> str | None:
        """The place up to which events have come.

        To resume after a restart, a program stores the `Event.cursor` of what it has handled instead.
        """
        return self._core.cursor

    @property
    def session_id(self) -> str:
        """The gateway's name for this connection, with which a service can send to it alone. Empty without one."""
        return self._core.session_id

    # What it does.

    def room(
        self,
        name: str,
        *,
        types: Iterable[str] | None = None,
        cursor: str | None = None,
        presence: bool = False,
        on_resync: OnResync | None = None,
        queue_size: int = QUEUE_SIZE,
    ) -> Room:
        """Subscribe to a room, and return it. Several subscriptions of one room share it on the wire.

        * `name`: `campaign:c1`, `campaign:c1/settlement:s1` or, if the root is unknown, `settlement:s1`.
        * `types`: only these types of events.
        * `cursor`: the `X-Beaconfire-Cursor` of a snapshot, or a stored `Event.cursor`. What happened since then comes
          first.
        * `presence`: whether to be told who is in the room.
        * `on_resync`: called, and awaited, in its place among the events if events were missed for good. It loads the
          state of the room again. Without it, a warning is logged.
        * `queue_size`: see `Room`.

        Raises ValueError if the name or the cursor is malformed.
        """
        self._check_open()
        if queue_size < 1:
            raise ValueError(f"queue_size: expected a number from 1, got {queue_size!r}")
        number = self._core.subscribe(name, types=types, cursor=cursor, presence=presence)
        room = Room(self, name, number, queue_size=queue_size, on_resync=on_resync)
        self._rooms[number] = room
        self._carry_out()
        return room

    async def seen(self, mark: str | int | None, *, timeout_s: float = SEEN_S) -> None:
        """Wait until a change has come back: its event, or everything up to its place, was received.

        `mark` is `X-Beaconfire-Offset` or `X-Beaconfire-Pending` of the answer to the change. If the answer has neither
        of them, the change caused no event, and there is nothing to wait for. Raises NotSeen.
        """
        if mark is None or mark == "":
            return
        if self.failure is not None or self._is_closed:
            raise NotSeen("closed", "Not connected")
        number = self._core.await_sight(mark, timeout_s)
        sight = self._sights[number] = asyncio.get_running_loop().create_future()
        self._carry_out()
        try:
            await sight
        finally:
            del self._sights[number]
            self._core.forget_sight(number)

    async def set_presence(self, status: PresenceStatus) -> None:
        """Set the user's status in this session, also after a reconnect. Raises RequestRefused or ValueError."""
        self._check_open()
        await self._answer(self._core.set_presence(status))

    # For rooms.

    def leave(self, room: Room) -> None:
        if self._rooms.pop(room.number, None) is not None and not self._is_closed:
            self._core.unsubscribe(room.number)
            self._carry_out()

    def catch_up(self, room: Room) -> None:
        if not self._is_closed:
            self._core.resume(room.number)
            self._carry_out()

    async def send_typing(self, room: str, *, is_typing: bool) -> None:
        if not self._is_closed:
            await self._answer(self._core.set_typing(room, is_typing=is_typing))

    # Carrying out what the core says.

    def _carry_out(self) -> None:
        """Do what the core says, in its order. What an action leads to comes after all that was said before."""
        if self._is_carrying_out:
            return
        self._is_carrying_out = True
        try:
            while todo := self._core.actions():
                for action in todo:
                    self._do(action)
        finally:
            self._is_carrying_out = False
        self._set_alarm()

    def _do(self, action: Action) -> None:
        match action:
            case actions.Delivered(consumer, frame, epoch):
                if (room := self._rooms.get(consumer)) is not None:
                    room.put(Event.of(frame, epoch))
                    if room.is_full:
                        self._full.add(room)
            case actions.Open():
                self._open(action)
            case actions.Send(link, message):
                if (carrier := self._carriers.get(link)) is not None:
                    carrier.send(message)
            case actions.Drop(link):
                self._carriers.pop(link, None)
                if (running := self._running.pop(link, None)) is not None:
                    running.cancel()
            case actions.FetchToken(number, reason):
                self._spawn(self._fetch_token(number, reason))
            case actions.Answered(request, refusal):
                if (answer := self._answers.get(request)) is not None and not answer.done():
                    answer.set_result(refusal)
            case actions.Sighted():
                self._sighted(action)
            case (
                actions.StateChanged()
                | actions.Degraded()
                | actions.Live()
                | actions.RoleChanged()
                | actions.MessageRefused()
            ):
                self._notify(action)
            case _:
                if (room := self._rooms.get(action.consumer)) is not None:
                    _tell(room, action)

    def _open(self, action: actions.Open) -> None:
        assert self._http is not None
        carrier = carrier_of(action.way, self._url, self._http, _Report(self, action.link))
        self._carriers[action.link] = carrier
        self._running[action.link] = self._spawn(self._run(action.link, carrier))

    async def _run(self, link: int, carrier: Carrier) -> None:
        code, reason = BROKE_OFF, ""
        try:
            end = await carrier.run()
            code, reason = end.code, end.reason
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
        except Exception as error:  # a malformed message ends its link, and never the client
            logger.exception("a connection failed")
            reason = f"Malformed message: {error!r}"
        self._carriers.pop(link, None)
        self._running.pop(link, None)
        self._core.ended(link, code, reason)
        self._carry_out()

    async def _fetch_token(self, number: int, reason: TokenReason) -> None:
        try:
            async with asyncio.timeout(self._token_timeout_s):
                token = self._get_token if isinstance(self._get_token, str) else await self._get_token(reason)
            if not isinstance(token, str) or not token:
                raise TypeError(f"expected a token, got {type(token).__name__}")
        except TokenRefused as refusal:
            self._core.token_failed(number, f"No token: {refusal}", is_final=True)
        except TimeoutError:
            self._core.token_failed(number, f"No token within {self._token_timeout_s:g} s")
        except Exception as error:  # the application's code: whatever it raises is a failed attempt
            what = f"{type(error).__name__}: {error}"  # the repr of aiohttp's errors has all headers
            logger.warning("get_token failed: %s", what)
            self._core.token_failed(number, f"Could not get a token: {what}")
        else:
            self._core.token_arrived(number, token)
        self._carry_out()

    def opened(self, link: int) -> None:
        self._core.opened(link)
        self._carry_out()

    async def received(self, link: int, frames: Sequence[Frame]) -> None:
        """Take messages of a link, no faster than consumers take their events."""
        for frame in frames:
            self._core.received(link, frame)
            self._carry_out()
            while self._full:
                await self._wait_for(self._full.pop())
        await asyncio.sleep(0)  # what is buffered already must not keep consumers from running

    async def _wait_for(self, room: Room) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await room.has_space()
        except TimeoutError:
            room.is_behind = True
            self._core.pause(room.number)
            self._carry_out()

    def _set_alarm(self) -> None:
        at = None if self._is_closed else self._core.next_at
        if at == self._alarm_at:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = None
        if at is not None:
            self._alarm = asyncio.get_running_loop().call_later(at - time.monotonic(), self._ring)

    def _ring(self) -> None:
        self._alarm_at = None
        self._core.run_due()
        self._carry_out()

    def _sighted(self, sighted: actions.Sighted) -> None:
        sight = self._sights.get(sighted.sighting)
        if sight is None or sight.done():
            return
        if sighted.code is None:
            sight.set_result(None)
        else:
            sight.set_exception(NotSeen(sighted.code, sighted.message))

    async def _answer(self, request: int) -> None:
        """Wait for the answer to a request. Without a connection there is none."""
        if request == 0:
            return
        answer = self._answers[request] = asyncio.get_running_loop().create_future()
        self._carry_out()
        try:
            async with asyncio.timeout(ANSWER_S):
                refusal = await answer
        except TimeoutError:
            raise RequestRefused("timeout", f"The gateway did not answer within {ANSWER_S:g} s") from None
        finally:
            del self._answers[request]
        if refusal is not None:
            raise RequestRefused(refusal.code, refusal.message)

    def _notify(self, notice: Notice) -> None:
        if isinstance(notice, StateChanged):
            self._wake()
        if self._on_notice is not None:
            try:
                self._on_notice(notice)
            except Exception:  # the application's code must not end the connection
                logger.exception("on_notice failed")

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
        for room in self._rooms.values():
            room.wake()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _check_open(self) -> None:
        if self._is_closed:
            raise ConnectionFailed("closed", "The client is closed. Use it as `async with connect(...) as client`")


connect = Client


class _Report:
    """What one link tells the client."""

    def __init__(self, client: Client, link: int) -> None:
        self._client = client
        self._link = link

    def opened(self) -> None:
        self._client.opened(self._link)

    async def received(self, frames: Sequence[Frame]) -> None:
        await self._client.received(self._link, frames)


def _tell(
    room: Room,
    action: actions.Joined
    | actions.Refused
    | actions.Left
    | actions.Resynced
    | actions.HereChanged
    | actions.TypingChanged,
) -> None:
    match action:
        case actions.Joined():
            room.joined()
        case actions.Refused(_, refusal, will_retry):
            if will_retry:
                logger.info("%s: refused for the moment: %s", room.name, refusal.message)
            else:
                room.refused(refusal)
        case actions.Left(_, reason):
            room.left(reason)
        case actions.Resynced(_, resync):
            room.put(resync)
        case actions.HereChanged(_, here):
            room.show_here(here)
        case actions.TypingChanged(_, users):
            room.show_typing(users)
