"""Intake as a state machine against a model: start, interrupted start, holes, retention, erasure, epochs."""

from collections import Counter
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from beaconfire_gateway.fanout.checking import Stored
from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.ring import Ring
from beaconfire_gateway.fanout.route import Routes
from beaconfire_gateway.stream import repair
from beaconfire_gateway.stream.intake import Intake
from beaconfire_gateway.stream.live_messages import stored_at
from beaconfire_kit import broker
from tests.gateway.catalogues import Unchanging
from tests.gateway.models import Model, unreached
from tests.gateway.stream.played_stream import SUBJECTS, Stage

HISTORY_S = 60.0
ROUTES = Routes()


class Reading(Model):
    """See the module. `reached` counts what happened, in all examples."""

    reached: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage()
        self.stream = self.stage.stream
        self.ring = Ring(max_bytes=10**9, max_age_s=10**9)
        self.position: int | None = None
        """The last offset that was reported or delivered, or None before the first."""
        self.told_life = 0
        self.epoch_renewed = False
        self.read_at = 0.0
        self.untold: set[int] = set()
        self.doubted = False
        self.intake = Intake(
            self.stage.client,
            self.stage.reader,
            Unchanging(),
            deliver=self._deliver,
            on_state=lambda _alive: None,
            on_epoch=self._begin,
            on_gap=self._lose,
            on_doubt=self._doubt,
            history_s=HISTORY_S,
            max_behind=4,
        )
        self.stage.run(self.intake)

    # Calls that the intake makes.

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
        """Check that an offset was rightly passed over: it was no event, or it was erased and may have been an old
        tick."""
        if not self.stream.everything[offset].is_event:
            self.reached["ticks that ran out"] += self.stream.why_gone.get(offset) == "expired"
            return
        known_at = max(self.read_at, stored_at(self.intake._trail.last_headers))
        why = self.stream.why_gone.get(offset)
        assert why == "erased", f"{offset} was passed over in silence ({why}), and {self.intake._sequence.position}"
        assert self.stage.now - known_at >= repair.YOUNG_S, f"{offset} was erased, which was not told"
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

    # Steps.

    @initialize(slowness=st.sampled_from([0, 1, 3]), before=st.integers(0, 12), age=st.sampled_from([0.0, 50.0, 70.0]))
    def start(self, slowness: int, before: int, age: float) -> None:
        self.stream.slowness = slowness
        self.publish(before, 0, heard=False)
        self.stage.now += age
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
        """Store a tick of another gateway."""
        self.stream.store(broker.TICK)

    @precondition(lambda self: self.stream.unheard)
    @rule()
    def hear(self) -> None:
        self.stage.hear(self.stream.unheard.pop(0))

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
        self.stage.wait(seconds)

    @rule(turns=st.sampled_from([1, 2, 10]))
    def turn(self, turns: int) -> None:
        self.stage.turn(turns)

    def teardown(self) -> None:
        try:
            self._settle()
            self._judge_memory()
        finally:
            self.stage.close()

    def _settle(self) -> None:
        """Repair everything, and let no fault happen until the gateway has reached the end."""
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


def test_intake_delivers_each_event_once_in_order_or_reports_its_absence_first() -> None:
    """This holds in any course, and the examples contain every fault."""
    assert unreached(Reading, EVERYTHING, max_examples=100, steps=30) == set()
