"""Intake as a state machine against a model of the stream: start, interrupted start, holes, retention, erasure, epochs.

Intake, sequence and ring are the real ones; the stream, the live path and the clock are played by hand, and anything
may happen between two steps of a read. An event may be missing from what is delivered only if that was told before
anything behind it was delivered, or if nothing tells it from a tick that ran out (docs/topics/delivery.md).
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import patch

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from beaconfire_gateway.fanout.encoding import Stored
from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.ring import Ring
from beaconfire_gateway.fanout.route import Routes
from beaconfire_gateway.stream import intake as intake_module
from beaconfire_gateway.stream import repair, replay, watch
from beaconfire_gateway.stream.intake import Intake
from beaconfire_gateway.stream.live import stored_at
from beaconfire_kit import broker
from beaconfire_kit.reading import ReadFailed

HISTORY_S = 60.0
SUBJECTS = ("campaign.c1.settlement.s1", "campaign.c1.settlement.s2")
ROUTES = Routes()


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the stream, and when it was stored."""

    stored: Stored
    at: float

    @property
    def is_event(self) -> bool:
        return self.stored.subject in SUBJECTS


class Stream:
    """What a broker has, and how it answers. Each answer takes some turns of the loop, in which anything may happen."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.slowness = 0
        self.is_away = False
        self.lives = 0
        """How often it was made anew."""
        self.cuts = 0
        self.armed: dict[str, list[Callable[[], None]]] = {}
        """What happens right after the next answers of a kind."""
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

    async def state(self, _nc: Any) -> broker.StreamState:
        await self._answer()
        while self.is_away:
            await asyncio.sleep(0.05)
        state = broker.StreamState(self.epoch, self.first, self.last, self._now())
        self._happen("state")
        await self._answer()
        return state

    async def find_end(self, _nc: Any) -> int | None:
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
        _nc: Any,
        *,
        upto: int,
        on_message: replay.OnMessage,
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
                raise ReadFailed("nothing is left to read")
            at = min(rest)
            if at <= upto:
                on_message(at, self.there[at].stored, self.there[at].at)
            self._happen("read")
            if at >= upto or enough():
                return min(at, upto)
            await self._answer()

    async def get(self, _nc: Any, *, after: int, upto: int, on_message: replay.OnMessage) -> None:
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

    async def get_one(self, _nc: Any, offset: int) -> Stored | None:
        await self._answer()
        if self.is_away:
            raise ReadFailed("away")
        message = self.there.get(offset)
        self._happen("get_one")
        await self._answer()
        return None if message is None else message.stored


class Client:
    """The connection to the broker: what intake subscribes to."""

    async def subscribe_direct(self, *_: Any) -> None: ...
    async def flush(self) -> None: ...


class Reading(RuleBasedStateMachine):
    """See the module. `reached` counts what happened, in all examples."""

    reached: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_700_000_000.0
        self.stream = Stream(lambda: self.now)
        self.loop = asyncio.new_event_loop()
        self.loop.time = lambda: self.now  # type: ignore[method-assign]
        clock = SimpleNamespace(monotonic=lambda: self.now, time=lambda: self.now)
        self._patches: list[Any] = [
            *(patch.object(module, "time", clock) for module in (intake_module, repair, watch)),
            patch.object(repair, "BEHIND", 4),
            patch.object(replay, "GETS_AT_ONCE", 2),
            *(
                patch.object(replay, name, getattr(self.stream, name))
                for name in ("find_end", "read", "get", "get_one")
            ),
            patch.object(broker, "stream_state", self.stream.state),
            patch.object(broker, "publish", self.stream.publish),
        ]
        for one in self._patches:
            one.start()
        self.ring = Ring(max_bytes=10**9, max_age_s=10**9)
        self.position: int | None = None
        """What was told or delivered last; None: nothing yet."""
        self.told_life = 0
        self.epoch_renewed = False
        self.read_at = 0.0
        self.untold: set[int] = set()
        self.doubted = False
        self.intake = Intake(
            Client(),  # type: ignore[arg-type]
            deliver=self._deliver,
            on_state=lambda _alive: None,
            on_epoch=self._begin,
            on_gap=self._lose,
            on_doubt=self._doubt,
            history_s=HISTORY_S,
        )
        self.task = self.loop.create_task(self.intake.run())

    # What it tells.

    def _deliver(self, offset: int, stored: Stored) -> None:
        assert self.position is not None
        if self.told_life == self.stream.lives:
            assert self.stream.everything[offset].stored == stored
            assert offset > self.position, f"{offset} after {self.position}"
            for missing in range(self.position + 1, offset):
                self._excuse(missing)
        # Else the stream is another one, and the gateway cannot know yet.
        self.position = offset
        self.read_at = self.intake._trail.last_read_at
        if stored.subject in SUBJECTS:
            self.ring.append(Entry(offset, ROUTES[stored.subject], stored.body, 0.0, type="t"))

    def _excuse(self, offset: int) -> None:
        """It was passed over in silence: it was no event, or was erased and cannot be told from an old tick."""
        if not self.stream.everything[offset].is_event:
            self.reached["ticks that ran out"] += self.stream.why_gone.get(offset) == "expired"
            return
        known_at = max(self.read_at, stored_at(self.intake._trail.last_headers))
        why = self.stream.why_gone.get(offset)
        assert why == "erased", f"{offset} was passed over in silence ({why}), and {self.intake._sequence.position}"
        assert self.now - known_at >= repair.YOUNG_S, f"{offset} was erased, which was not told"
        assert self.doubted, f"{offset} may have changed access, which was not asked again"
        self.untold.add(offset)

    def _begin(self, epoch: str, position: int) -> None:
        assert self.position is None or self.told_life < self.stream.lives or self.epoch_renewed, "told for nothing"
        if epoch == self.stream.epoch:
            assert position <= self.stream.last, "an end of another stream"
            self.told_life, self.epoch_renewed = self.stream.lives, False
        self.reached["another stream"] += self.position is not None
        self.position, self.read_at, self.untold = position, 0.0, set()
        self.ring.start(position)

    def _lose(self, position: int) -> None:
        assert self.position is not None
        if self.told_life == self.stream.lives:
            assert position > self.position
            whys = {self.stream.why_gone.get(offset) for offset in range(self.position + 1, position + 1)}
            assert whys & {"retention", "erased"} or "retention" in self.stream.why_gone.values(), "told for nothing"
            self.reached["a gap by retention"] += "retention" in whys
            self.reached["a gap by erasure"] += "erased" in whys
        self.reached["a gap at start"] += not self.intake.ready
        self.position = position
        self.ring.start(position)

    def _doubt(self) -> None:
        self.doubted = True

    # What happens.

    @initialize(slowness=st.sampled_from([0, 1, 3]), before=st.integers(0, 12), age=st.sampled_from([0.0, 50.0, 70.0]))
    def start(self, slowness: int, before: int, age: float) -> None:
        self.stream.slowness = slowness
        self.publish(before, 0, heard=False)
        self.now += age
        self.publish(before, 1, heard=False)
        self.stream.unheard.clear()

    @rule(count=st.sampled_from([1, 1, 3, 6]), subject=st.integers(0, 1), heard=st.booleans())
    def publish(self, count: int, subject: int, heard: bool) -> None:
        for _ in range(count):
            self.stream.store(SUBJECTS[subject])
        while heard and self.stream.unheard:
            self.hear()

    @rule()
    def tick(self) -> None:
        """Another gateway's."""
        self.stream.store(broker.TICK)

    @precondition(lambda self: self.stream.unheard)
    @rule()
    def hear(self) -> None:
        offset = self.stream.unheard.pop(0)
        message = self.stream.everything[offset]
        subject = message.stored.subject.encode()
        stamp = datetime.fromtimestamp(message.at, UTC).isoformat().encode()
        ours = b"Nats-Stream: EVENTS\r\nNats-Subject: %s\r\nNats-Sequence: %d\r\nNats-Time-Stamp: %s"
        headers = b"NATS/1.0\r\n%s\r\n\r\n" % (ours % (subject, offset, stamp))
        self.intake._hear(b"live." + subject, b"", message.stored.body, headers)

    @precondition(lambda self: len(self.stream.unheard) > 1)
    @rule()
    def hear_late(self) -> None:
        self.stream.unheard[:2] = reversed(self.stream.unheard[:2])

    @precondition(lambda self: self.stream.unheard)
    @rule(count=st.sampled_from([1, 4, 100]))
    def lose(self, count: int) -> None:
        del self.stream.unheard[:count]

    @rule(for_s=st.sampled_from([0.0, 12.0, 80.0, 130.0]), turns=st.sampled_from([0, 5]))
    def cut(self, for_s: float, turns: int) -> None:
        """The broker is killed or cut off, and comes back."""
        self.reached["an interrupted start"] += self.position is not None and not self.intake.ready
        self._go_away()
        self.turn(turns)
        self.wait(for_s)
        self._come_back()

    def _go_away(self) -> None:
        self.stream.is_away = True
        self.stream.cuts += 1
        self.stream.unheard.clear()

    def _come_back(self) -> None:
        self.stream.is_away = False
        self.intake.reconnected()

    @rule(count=st.sampled_from([1, 3, 10]))
    def retain(self, count: int) -> None:
        """Retention takes the oldest."""
        for offset in sorted(self.stream.there)[:count]:
            self.stream.remove(offset, "retention")

    @rule(
        kind=st.sampled_from(["state", "tick", "read", "get", "get_one", "get_one"]),
        how=st.sampled_from(["retention", "retention", "erased", "cut", "recreated"]),
        beyond=st.integers(0, 6),
        after=st.integers(0, 2),
    )
    def arm(self, kind: str, how: str, beyond: int, after: int) -> None:
        """The stream moves right after it has answered something, in the middle of a read for example."""

        def happens() -> None:
            position = self.intake.position
            if how == "cut":
                self._go_away()
            elif how == "recreated" and self.intake.ready:
                self.recreate(beyond)
            for offset, message in list(self.stream.there.items()):
                if offset <= position + beyond and (how == "retention" or (how == "erased" and message.is_event)):
                    self.stream.remove(offset, how)

        self.stream.armed[kind] = [lambda: None] * after + [happens]

    @precondition(lambda self: self.intake.ready)
    @rule(count=st.integers(2, 8), heard=st.booleans(), away_s=st.sampled_from([0.0, 130.0]))
    def lose_all_but_the_last(self, count: int, heard: bool, away_s: float) -> None:
        """The live path loses some events, and brings what follows; maybe long after anything was heard."""
        self.stream.unheard.clear()
        if away_s:
            self._go_away()
            self.wait(away_s)
            self._come_back()
        self.publish(count, 0, heard=False)
        del self.stream.unheard[:-1]
        self.hear()
        self.publish(2, 1, heard=heard)

    @rule(subject=st.integers(0, 1))
    def purge(self, subject: int) -> None:
        for offset, message in list(self.stream.there.items()):
            if message.stored.subject == SUBJECTS[subject]:
                self.stream.remove(offset, "erased")

    @precondition(lambda self: any(message.is_event for message in self.stream.there.values()))
    @rule(back=st.integers(0, 5))
    def erase(self, back: int) -> None:
        """One of the newest events is deleted."""
        events = [offset for offset, message in self.stream.there.items() if message.is_event]
        self.stream.remove(events[max(0, len(events) - 1 - back)], "erased")

    @precondition(lambda self: self.position is not None and self.told_life == self.stream.lives)
    @rule(count=st.sampled_from([0, 3, 40]))
    def recreate(self, count: int) -> None:
        """The stream is deleted and made again, and maybe filled beyond where it was."""
        self.stream.recreate()
        self.publish(count, 0, heard=False)
        self.stream.unheard.clear()
        self.stream.cuts += 1
        self.intake.reconnected()

    @precondition(lambda self: self.intake.ready)
    @rule()
    def renew_epoch(self) -> None:
        self.stream.epoch += "'"
        self.epoch_renewed = True
        self.stream.store(broker.ANCHOR, self.stream.epoch.encode())

    @rule(seconds=st.sampled_from([0.1, 1.5, 1.5, 40.0, 130.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.stream.expire()
        self.turn(2)

    @rule(turns=st.sampled_from([1, 2, 10]))
    def turn(self, turns: int) -> None:
        for _ in range(turns):
            self.loop.run_until_complete(asyncio.sleep(0))
        assert not self.task.done(), self.task.exception()

    def teardown(self) -> None:
        try:
            self._settle()
            self._judge_memory()
        finally:
            self.task.cancel()
            self.loop.run_until_complete(asyncio.wait([self.task]))
            self.loop.close()
            for one in self._patches:
                one.stop()

    def _settle(self) -> None:
        """Everything heals: nothing more happens until the gateway has got to the end."""
        self.stream.armed.clear()
        self.stream.unheard.clear()
        self._come_back()
        end = self.stream.last
        for _ in range(200):
            self.wait(0.3)
            self.turn(10)
            if self.intake.ready and self.intake.position >= end and self.intake.epoch == self.stream.epoch:
                break
        assert self.intake.ready
        assert self.intake.epoch == self.stream.epoch
        assert self.intake.position >= end, f"stuck at {self.intake.position}, the stream ends at {end}"
        for missing in range((self.position or 0) + 1, self.intake.position + 1):
            self._excuse(missing)

    def _judge_memory(self) -> None:
        """The ring has every event above its floor, which is what clients resume by."""
        floor = self.ring.floor
        events = {offset for offset, message in self.stream.everything.items() if message.is_event}
        owed = {offset for offset in events if floor < offset <= self.intake.position} - self.untold
        assert owed == {entry.offset for entry in self.ring.after(floor, 10**6)}


EVERYTHING = {
    *("an interrupted start", "a gap by retention", "a gap by erasure", "a gap at start"),
    *("ticks that ran out", "another stream"),
}
ROUNDS = 3
"""More than one only where chance has left something out."""


def test_intake() -> None:
    """Whatever happens while a gateway starts and reads, each event is delivered once, in order, or its absence is told
    before anything behind it; and all of it did happen."""
    Reading.reached.clear()
    for _ in range(ROUNDS):
        run_state_machine_as_test(
            Reading,
            settings=settings(
                max_examples=100,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )
        missing = {what for what in EVERYTHING if not Reading.reached[what]}
        if not missing:
            break

    assert missing == set()
