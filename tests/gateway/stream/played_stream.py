"""A stream, its live path and its clock, played by hand for a real intake. No broker."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from beaconfire_gateway.fanout.checking import Stored
from beaconfire_gateway.stream import check_schedule, repair
from beaconfire_gateway.stream import intake as intake_module
from beaconfire_gateway.stream.intake import Intake
from beaconfire_gateway.stream.replay import OnMessage, ReadingPolicy
from beaconfire_kit import broker
from beaconfire_kit.reading import ReadFailed

SUBJECTS = ("campaign.c1.settlement.s1", "campaign.c1.settlement.s2")


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the stream, and when it was stored."""

    stored: Stored
    at: float

    @property
    def is_event(self) -> bool:
        return self.stored.subject in SUBJECTS


class Stream:
    """A broker's stream, and its answers to an intake's `Reader`.

    Each answer takes some turns of the loop, in which anything may happen.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.policy = ReadingPolicy(gets_at_once=2)
        self._now = now
        self.slowness = 0
        self.is_away = False
        self.lives = 0
        """The number of times that the stream was created."""
        self.cuts = 0
        self.armed: dict[str, list[Callable[[], None]]] = {}
        """Calls to make right after the next answers of a kind."""
        self.recreate()

    def recreate(self) -> None:
        self.lives += 1
        self.epoch = f"e{self.lives}"
        self.last = 0
        self.there: dict[int, Message] = {}
        self.everything: dict[int, Message] = {}
        self.why_gone: dict[int, str] = {}
        self.unheard: list[int] = []
        self.store(broker.ANCHOR)

    @property
    def first(self) -> int:
        return min(self.there, default=self.last + 1)

    def store(self, subject: str, body: bytes | None = None) -> int:
        self.last += 1
        body = b"%d/%d" % (self.lives, self.last) if body is None else body
        self.there[self.last] = self.everything[self.last] = Message(Stored(subject, body, False), self._now())
        self.unheard.append(self.last)
        return self.last

    def remove(self, offset: int, why: str) -> None:
        del self.there[offset]
        self.why_gone[offset] = why

    def expire(self) -> None:
        for offset, message in list(self.there.items()):
            if message.stored.subject == broker.TICK and message.at + broker.TICK_TTL_S <= self._now():
                self.remove(offset, "expired")

    async def _answer(self) -> None:
        for _ in range(self.slowness):
            await asyncio.sleep(0)

    def _happen(self, kind: str) -> None:
        if self.armed.get(kind):
            self.armed[kind].pop(0)()

    async def stream_state(self) -> broker.StreamState:
        await self._answer()
        while self.is_away:
            await asyncio.sleep(0.05)
        state = broker.StreamState(self.epoch, self.first, self.last, self._now())
        self._happen("state")
        await self._answer()
        return state

    async def find_end(self) -> int | None:
        await self._answer()
        if self.is_away:
            return None
        cuts, offset = self.cuts, self.store(broker.TICK)
        self._happen("tick")
        await self._answer()
        return offset if self.cuts == cuts else None

    async def publish(self, _nc: Any, subject: str, body: bytes, **_: Any) -> int:
        if self.is_away:
            raise TimeoutError
        return self.store(subject, body)

    async def read(
        self,
        *,
        upto: int,
        on_message: OnMessage,
        after: int | None = None,
        since_s: float | None = None,
        enough: Callable[[], bool] = bool,
    ) -> int:
        cuts, lives = self.cuts, self.lives
        await self._answer()
        at = after
        if at is None:
            young = [offset for offset, one in self.there.items() if one.at >= self._now() - (since_s or 0)]
            at = min(young, default=1) - 1
        while True:
            if self.is_away or (self.cuts, self.lives) != (cuts, lives):
                raise ReadFailed("cut")
            rest = [offset for offset in self.there if offset > at]
            if not rest:
                raise ReadFailed("no message is left to read")
            at = min(rest)
            if at <= upto:
                on_message(at, self.there[at].stored, self.there[at].at)
            self._happen("read")
            if at >= upto or enough():
                return min(at, upto)
            await self._answer()

    async def get(self, *, after: int, upto: int, on_message: OnMessage) -> None:
        await self._answer()
        if self.is_away:
            raise ReadFailed("away")
        found = [(offset, self.there.get(offset)) for offset in range(after + 1, upto + 1)]
        self._happen("get")
        await self._answer()
        for offset, message in found:
            if message is None:
                return
            on_message(offset, message.stored, message.at)

    async def get_one(self, offset: int) -> Stored | None:
        await self._answer()
        if self.is_away:
            raise ReadFailed("away")
        message = self.there.get(offset)
        self._happen("get_one")
        await self._answer()
        return None if message is None else message.stored


class Client:
    """The connection on which an intake subscribes."""

    async def subscribe_direct(self, *_: Any) -> None: ...
    async def flush(self) -> None: ...


class Stage:
    """An event loop and a clock that stand still until a test moves them. The intake on it sees `stream`."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.client: Any = Client()
        self.stream = Stream(lambda: self.now)
        self.reader: Any = self.stream
        self.loop = asyncio.new_event_loop()
        self.loop.time = lambda: self.now  # type: ignore[method-assign]
        clock = SimpleNamespace(monotonic=lambda: self.now, time=lambda: self.now)
        self._patches: list[Any] = [
            *(patch.object(module, "time", clock) for module in (intake_module, repair, check_schedule)),
            patch.object(broker, "publish", self.stream.publish),
        ]
        for one in self._patches:
            one.start()

    def run(self, intake: Intake) -> None:
        """Start an intake."""
        self.intake = intake
        self.task = self.loop.create_task(intake.run())

    def hear(self, offset: int) -> None:
        """Bring a message of the stream on the live path."""
        message = self.stream.everything[offset]
        subject = message.stored.subject.encode()
        stamp = datetime.fromtimestamp(message.at, UTC).isoformat().encode()
        ours = b"Nats-Stream: EVENTS\r\nNats-Subject: %s\r\nNats-Sequence: %d\r\nNats-Time-Stamp: %s"
        headers = b"NATS/1.0\r\n%s\r\n\r\n" % (ours % (subject, offset, stamp))
        self.intake._hear(b"live." + subject, b"", message.stored.body, headers)

    def turn(self, turns: int = 1) -> None:
        """Let the loop turn. Fails if the intake ended."""
        for _ in range(turns):
            self.loop.run_until_complete(asyncio.sleep(0))
        assert not self.task.done(), self.task.exception()

    def wait(self, seconds: float) -> None:
        """Let time pass, and the loop turn twice."""
        self.now += seconds
        self.stream.expire()
        self.turn(2)

    def close(self) -> None:
        """End the intake, and undo the patches."""
        self.task.cancel()
        self.loop.run_until_complete(asyncio.wait([self.task]))
        self.loop.close()
        for one in self._patches:
            one.stop()
