"""Hear the whole stream, and deliver every offset once and in order (ADR 0002).

The live path loses events silently: when a leader is killed, or a route is cut. So the intake relies on one rule:
offset N is delivered only after N-1. It reads holes from the stream. After a second of silence it publishes a tick, and
the acknowledgement has the end of the stream. So every second either proves that the position is the end of the stream,
or shows the hole.

    SUBSCRIBING
        │ SUBSCRIBED
        v
    READING_HISTORY <──┐
        │    └─────────┘ NOTHING_READ
        │ HISTORY_READ
        v
    REPAIRING <── HOLE ──────┬────────────────────────────┬────────────────────────────┐
        │ LEVEL              │                            │                            │
        v                    │                            │                            │
      LIVE ──────────────────┘                            │                            │
        │ ──────────── PROBE_DUE ─────────────────────> PROBING                        │
        │ <─────────── LEVEL or NO_ANSWER ────────────────┘                            │
        │ ──────────── VERIFY_DUE ─────────────────────────────────────────────> VERIFYING
        │ <─────────── LEVEL or NO_ANSWER ─────────────────────────────────────────────┘
        ^
        │ END_FOUND
    SWITCHING <── OTHER_STREAM ── READING_HISTORY, REPAIRING, PROBING, VERIFYING, HOLDING

    REPAIRING, LIVE, PROBING, VERIFYING ── CATALOGUE_UNKNOWN ──> HOLDING ── CATALOGUE_KNOWN ──> REPAIRING

Live messages arrive in every state but the first. A message that is next is delivered at once. A message behind a hole
is held: in LIVE it leads to HOLE. While the position is unknown, everything is held. So is everything in HOLDING: it is
unknown which revision of the catalogue counts behind the position (ADR 0032).

A second, smaller machine runs beside this one in `broker_contact`. While the broker does not answer, clients are sent
`degraded`. `repair` handles offsets that are gone from the stream.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum, auto
from typing import Protocol

from beaconfire_gateway.fanout.checking import NOT_EVENTS, Stored
from beaconfire_gateway.stream.broker_contact import RETRY_S, BrokerContact
from beaconfire_gateway.stream.check_schedule import SILENCE_S, CheckSchedule
from beaconfire_gateway.stream.live_messages import FOREIGN, parse_live, stored_at
from beaconfire_gateway.stream.repair import MAX_BEHIND, YOUNG_S, OtherStream, Repair, Trail
from beaconfire_gateway.stream.replay import Reader
from beaconfire_gateway.stream.sequence import Sequence
from beaconfire_kit import broker, logs, metrics
from beaconfire_kit.catalogue.timeline import Start
from beaconfire_kit.reading import ReadFailed
from beaconfire_kit.seams.nats_direct import DirectClient

log = logs.get(__name__)

HEARD = metrics.Tally(
    metrics.Counter(
        "beaconfire_gateway_live_messages_total", "Messages of the stream that the broker sent to the gateway live."
    )
)
HEARD_AFTER = metrics.Histogram(
    "beaconfire_gateway_hear_latency_seconds",
    "Time from when the broker stored an event until the gateway received it, by the clocks of both. One "
    "event in 32 is measured.",
    buckets=metrics.LATENCIES,
)
POSITION = metrics.Gauge("beaconfire_gateway_position", "Offset of the last message of the stream that was delivered.")

SAMPLE = 32
"""One event in so many is timed: its time has to be read from its headers."""
HEAR_TICK_S = 0.25
FRESH_S = 5.0
"""A position not shown to be the end of the stream for this long is stale: the gateway is not ready."""
ANCHOR_EVERY_S = broker.MAX_AGE_S / 8
ANCHOR_RETRY_S = 60.0
LEADER_ELECTED = f"$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.{broker.STREAM}"


class State(Enum):
    """The intake's current work."""

    SUBSCRIBING = auto()
    """Waits for the stream, and subscribes to the live path. No messages arrive yet."""
    READING_HISTORY = auto()
    """Finds the end of the stream, and reads the newest history for the ring. Live messages are held."""
    REPAIRING = auto()
    """A hole is known, and is read from the stream. Messages behind it are held."""
    LIVE = auto()
    """Delivers live messages as they arrive, and waits for an alarm or for silence."""
    PROBING = auto()
    """It was silent: publishes a tick, to see that the position is the end of the stream."""
    VERIFYING = auto()
    """In doubt whether this is still the same stream: compares its end, its last message and its epoch."""
    SWITCHING = auto()
    """The stream is another one: finds its end and its epoch, to go on there. Live messages are held."""
    HOLDING = auto()
    """Unknown which revision of the catalogue counts behind the position: reads it. Messages behind it are held."""


class Event(Enum):
    """The event that ends a state's work."""

    SUBSCRIBED = auto()
    HISTORY_READ = auto()
    """The position is known. The rest of the history is a hole, if the read ended early."""
    NOTHING_READ = auto()
    """The read failed before its first message."""
    PROBE_DUE = auto()
    """One second of silence, a new leader of the stream, or a message while the broker did not answer."""
    VERIFY_DUE = auto()
    """A reconnect, a message at or below the position, or an anchor that names another epoch."""
    HOLE = auto()
    """The stream is known to have messages that were neither heard nor read."""
    LEVEL = auto()
    """No message is known to be missing."""
    NO_ANSWER = auto()
    """The broker did not answer. If it acknowledged no tick, clients are sent `degraded`."""
    OTHER_STREAM = auto()
    """The stream was recreated, wiped or put back from a backup, or an operator gave it a new epoch."""
    END_FOUND = auto()
    """The position is the end of the new stream, and clients are sent its epoch."""
    CATALOGUE_UNKNOWN = auto()
    """A marker was reached whose revision is not loaded, or one may be among offsets that are gone."""
    CATALOGUE_KNOWN = auto()
    """All markers up to the end of the stream were read, and their revisions are loaded."""
    FAILED = auto()
    """An unexpected error: a bug, or a strange answer of the broker. It is logged, and the intake goes on."""


TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    State.SUBSCRIBING: {Event.SUBSCRIBED: State.READING_HISTORY},
    State.READING_HISTORY: {
        Event.NOTHING_READ: State.READING_HISTORY,
        Event.HISTORY_READ: State.REPAIRING,
        Event.OTHER_STREAM: State.SWITCHING,
    },
    State.REPAIRING: {
        Event.LEVEL: State.LIVE,
        Event.CATALOGUE_UNKNOWN: State.HOLDING,
        Event.OTHER_STREAM: State.SWITCHING,
        Event.FAILED: State.LIVE,
    },
    State.LIVE: {
        Event.PROBE_DUE: State.PROBING,
        Event.CATALOGUE_UNKNOWN: State.HOLDING,
        Event.VERIFY_DUE: State.VERIFYING,
        Event.HOLE: State.REPAIRING,
        Event.FAILED: State.LIVE,
    },
    State.PROBING: {
        Event.LEVEL: State.LIVE,
        Event.CATALOGUE_UNKNOWN: State.HOLDING,
        Event.HOLE: State.REPAIRING,
        Event.NO_ANSWER: State.LIVE,
        Event.OTHER_STREAM: State.SWITCHING,
        Event.FAILED: State.LIVE,
    },
    State.VERIFYING: {
        Event.LEVEL: State.LIVE,
        Event.CATALOGUE_UNKNOWN: State.HOLDING,
        Event.HOLE: State.REPAIRING,
        Event.NO_ANSWER: State.LIVE,
        Event.OTHER_STREAM: State.SWITCHING,
        Event.FAILED: State.LIVE,
    },
    State.SWITCHING: {
        Event.END_FOUND: State.LIVE,
        Event.FAILED: State.SWITCHING,
    },
    State.HOLDING: {
        Event.CATALOGUE_KNOWN: State.REPAIRING,
        Event.OTHER_STREAM: State.SWITCHING,
        Event.FAILED: State.HOLDING,
    },
}
"""An event that a state does not list cannot end it."""


class Revisions(Protocol):
    """The catalogue's revisions, as the intake needs them. `catalogue_revisions` reads them."""

    problem: str | None
    """Why the catalogue is not known, for operators. None while it is."""

    async def read(self, epoch: str, end: int) -> list[Start] | None:
        """Return which revisions count where, as the stream's markers up to `end` and the broker's bucket say.

        None, with `problem`, if that could not be read.
        """
        ...

    def begin(self, starts: list[Start]) -> None:
        """Judge by these from now on."""
        ...

    def take_up(self, offset: int, body: bytes) -> bool:
        """A marker was reached. Judge what is behind it by its revision. False if that is not loaded."""
        ...

    async def preloaded(self) -> None:
        """Wait for what is being loaded, so that a marker may be taken up then. Returns soon."""
        ...

    async def wait(self) -> None:
        """Wait until it is worth reading again."""
        ...


class Intake:
    """Hears one stream, and calls `deliver(offset, stored)` in order for every offset that exists, ticks included.

    `on_state(answers)` is called when the broker stops or starts to acknowledge ticks. Three callbacks come before
    anything behind their position is delivered:

    * `on_epoch(epoch, position)`: the stream is another one.
    * `on_gap(position)`: the stream has lost everything between the last offset delivered and this one.
    * `on_doubt()`: offsets are passed over that are so old that they most likely were ticks. An operator may have
      deleted an event there.
    """

    def __init__(
        self,
        nc: DirectClient,
        reader: Reader,
        revisions: Revisions,
        *,
        deliver: Callable[[int, Stored], None],
        on_state: Callable[[bool], None],
        on_epoch: Callable[[str, int], None],
        on_gap: Callable[[int], None],
        on_doubt: Callable[[], None] = lambda: None,
        history_s: float,
        silence_s: float = SILENCE_S,
        young_s: float = YOUNG_S,
        max_behind: int = MAX_BEHIND,
        anchor_every_s: float = ANCHOR_EVERY_S,
    ) -> None:
        self._nc = nc
        self._reader = reader
        self._revisions = revisions
        self._deliver = deliver
        self._on_epoch = on_epoch
        self._history_s = history_s
        self._anchor_every_s = anchor_every_s
        self._sequence: Sequence[Stored] = Sequence(self._deliver_next, size=lambda stored: len(stored.body))
        self._trail = Trail()
        self._schedule = CheckSchedule(silence_s=silence_s)
        self._contact = BrokerContact(reader, on_state)
        self._repair = Repair(
            reader,
            self._contact,
            self._sequence,
            self._trail,
            on_start=lambda position: self._start_at(self._trail.epoch, position),
            on_gap=on_gap,
            on_doubt=on_doubt,
            young_s=young_s,
            max_behind=max_behind,
        )
        self._anchored_at = float("-inf")
        self._work: Mapping[State, Callable[[], Awaitable[Event]]] = {
            State.SUBSCRIBING: self._subscribe,
            State.READING_HISTORY: self._read_history,
            State.REPAIRING: self._read_holes,
            State.LIVE: self._wait,
            State.PROBING: self._probe,
            State.VERIFYING: self._verify,
            State.SWITCHING: self._switch,
            State.HOLDING: self._hold,
        }
        self.state = State.SUBSCRIBING
        self.ready = False
        """Whether it was live once."""

    @property
    def epoch(self) -> str:
        """The stream's, empty before the start."""
        return self._trail.epoch

    @property
    def position(self) -> int:
        """The last offset delivered, 0 before the start."""
        return self._sequence.position or 0

    def why_not_ready(self) -> str | None:
        """Return None while the position is fresh, else what is wrong."""
        if self._revisions.problem is not None:
            return self._revisions.problem
        if not self.ready:
            return "starting: waiting for the broker and the stream"
        stale_s = time.monotonic() - self._schedule.fresh_at
        return f"the position is stale for {stale_s:.0f} s: the broker does not answer" if stale_s > FRESH_S else None

    def reconnected(self) -> None:
        """The connection to the broker was cut and is back. Messages sent meanwhile were not heard."""
        self._schedule.doubt_now()

    async def run(self) -> None:
        """Work from state to state, forever. Owned by the app. An error before it was live once ends it."""
        POSITION.set_function(lambda: self.position)
        while True:
            broker.check_cancelled()
            self._follow(await self._do_work())

    async def _do_work(self) -> Event:
        try:
            event = await self._work[self.state]()
            is_unknown = self._sequence.is_paused and Event.CATALOGUE_UNKNOWN in TRANSITIONS[self.state]
            return Event.CATALOGUE_UNKNOWN if is_unknown else event
        except OtherStream:
            return Event.OTHER_STREAM
        except Exception:
            if not self.ready:
                raise
            log.exception("intake failed, going on")
            await asyncio.sleep(RETRY_S)
            return Event.FAILED

    def _follow(self, event: Event) -> None:
        """Go to the state that an event leads to."""
        self.state = TRANSITIONS[self.state][event]
        if self.state is State.LIVE and not self.ready:
            self.ready = self._repair.is_counted = True
            log.info("intake is live", epoch=self.epoch, position=self.position)

    # The work of each state.

    async def _subscribe(self) -> Event:
        await self._reader.stream_state()
        await self._nc.subscribe_direct(f"{broker.LIVE_PREFIX}>", self._hear)
        await self._nc.flush()
        await self._nc.subscribe_direct(LEADER_ELECTED, self._hear_election)
        return Event.SUBSCRIBED

    async def _read_history(self) -> Event:
        """Read the newest history. If the read fails after its first message, the rest is a hole like any other."""
        self._trail.epoch, end, starts = await self._find_start()
        self._repair.markers_known_through = end
        self._revisions.begin(starts)
        try:
            await self._repair.read_history(end, since_s=self._history_s)
        except ReadFailed as error:
            log.warning("could not read the history, trying again", reason=str(error))
            await asyncio.sleep(RETRY_S)
        if self._sequence.position is None:
            return Event.NOTHING_READ
        self._sequence.expect(end)
        return Event.HISTORY_READ

    async def _read_holes(self) -> Event:
        await self._repair.read_holes()
        if not self._sequence.is_paused:
            self._show_fresh()
        return Event.LEVEL

    async def _wait(self) -> Event:
        await self._schedule.wait()
        if self._schedule.must_verify:
            return Event.VERIFY_DUE
        return Event.PROBE_DUE if self._sequence.hole is None else Event.HOLE

    async def _probe(self) -> Event:
        before = self.position
        end = await self._contact.find_end()
        if end is None:
            return Event.NO_ANSWER
        _check_end(end, before)
        await self._hear_up_to(end)
        return await self._compare(end)

    async def _verify(self) -> Event:
        self._schedule.begin_verifying()
        is_settled = False
        try:
            event = await self._verify_once()
            is_settled = event is not Event.NO_ANSWER
        except OtherStream:
            is_settled = True
            raise
        finally:
            self._schedule.end_verifying(is_settled=is_settled)
        return event

    async def _verify_once(self) -> Event:
        before, last, last_offset = self.position, self._trail.last, self._trail.last_offset
        end = await self._contact.find_end()
        if end is None:
            return Event.NO_ANSWER
        _check_end(end, before)
        try:
            await self._repair.check_last(last, last_offset)
        except ReadFailed as error:
            log.warning("could not read the stream, trying again", reason=str(error))
            await asyncio.sleep(RETRY_S)
            return Event.NO_ANSWER
        await self._repair.check_stream()
        return await self._compare(end)

    async def _switch(self) -> Event:
        """Go on at the end of the new stream."""
        was, was_at = self.epoch, self.position
        epoch, position, starts = await self._find_start()
        log.error("the stream was replaced", was=was, now=epoch, was_at=was_at, now_at=position)
        if epoch == was:
            log.error("its epoch is the old one: after a restore run `beaconfire doctor --new-epoch`", epoch=epoch)
        self._trail.forget()
        self._repair.forget()
        self._anchored_at = float("-inf")
        self._repair.markers_known_through = position
        self._revisions.begin(starts)
        self._start_at(epoch, position)
        self._show_fresh()
        return Event.END_FOUND

    async def _hold(self) -> Event:
        """Read the catalogue until it is known what counts behind the position."""
        last, position = self._trail.last, self.position
        if last is not None and last.subject == broker.CATALOGUE and self._trail.last_offset == position:
            await self._revisions.preloaded()
            if self._revisions.take_up(position, last.body):
                self._sequence.resume()
                return Event.CATALOGUE_KNOWN
        while True:
            broker.check_cancelled()
            before = self.position
            end = await self._contact.find_end()
            await self._repair.check_epoch()
            if end is not None:
                _check_end(end, before)
                starts = await self._revisions.read(self.epoch, end)
                if starts is not None:
                    break
                await self._revisions.wait()
        self._revisions.begin(starts)
        self._repair.markers_known_through = end
        self._sequence.expect(end)
        self._sequence.resume()
        return Event.CATALOGUE_KNOWN

    async def _find_start(self) -> tuple[str, int, list[Start]]:
        """Find the stream's epoch, its end, and which revisions of the catalogue count up to there."""
        while True:
            epoch, end = await self._find_end()
            starts = await self._revisions.read(epoch, end)
            if starts is not None:
                return epoch, end, starts
            await self._revisions.wait()

    async def _find_end(self) -> tuple[str, int]:
        """Find the stream's epoch, and the offset of a tick in it. Messages heard before that tick do not count.

        The epoch is asked for before the tick and after it, because the stream may be recreated in between.
        """
        epoch = (await self._contact.stream_state()).epoch
        while True:
            broker.check_cancelled()
            self._sequence.reset()
            end = await self._contact.find_end()
            if end is None:
                continue
            before, epoch = epoch, (await self._contact.stream_state()).epoch
            if epoch == before:
                return epoch, end

    def _start_at(self, epoch: str, position: int) -> None:
        """Deliver what follows `position` in the stream of this epoch."""
        self._trail.epoch = epoch
        self._on_epoch(epoch, position)
        self._sequence.start(position)

    async def _hear_up_to(self, end: int) -> None:
        """Give the live path a moment to bring our own tick. Polled: an event would cost a check on every message."""
        deadline = time.monotonic() + HEAR_TICK_S
        while self.position < end and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def _compare(self, end: int) -> Event:
        """Compare the position with the end of the stream."""
        is_level = self.position >= end
        if is_level:
            self._show_fresh()
        else:
            self._sequence.expect(end)
        await self._anchor()
        return Event.LEVEL if is_level else Event.HOLE

    def _show_fresh(self) -> None:
        """The position was the end of the stream a moment ago."""
        self._schedule.fresh_at = time.monotonic()
        self._contact.recover()

    async def _anchor(self) -> None:
        """Publish an anchor now and then, so that a quiet stream keeps something older than its ticks.

        The stream's first offset shows what retention removed. Once all events have expired, only ticks would be left,
        and a cursor three minutes old would look too old.
        """
        if time.monotonic() - self._anchored_at < self._anchor_every_s:
            return
        period = int(time.time() // self._anchor_every_s)  # gateways that publish it at the same time publish one
        try:
            async with asyncio.timeout(self._reader.policy.tick_s):
                await broker.publish(self._nc, broker.ANCHOR, b"", message_id=f"anchor-{self.epoch}-{period}")
            self._anchored_at = time.monotonic()
        except TimeoutError:
            self._anchored_at = time.monotonic() - self._anchor_every_s + ANCHOR_RETRY_S

    # Messages that arrive, in any state.

    def _hear(self, subject: bytes, _reply: bytes, body: bytes, headers: bytes | None) -> None:
        """Receive a message on `live.>`. It counts only if the stream sent it (SECURITY.md, T11)."""
        parsed = parse_live(subject, body, headers)
        if parsed is None:
            FOREIGN.inc()
            log.warning(
                "dropped a message that the stream did not send", subject=subject.decode(errors="replace")[:200]
            )
            return
        offset, stored = parsed
        HEARD.count += 1
        schedule = self._schedule
        schedule.heard_at = time.monotonic()
        position = self._sequence.position
        if position is not None and offset <= position:
            schedule.doubt()  # a late copy of a message that was read, or the stream was recreated
        elif self._sequence.hear(offset, stored):
            schedule.fresh_at = schedule.heard_at
            if not offset % SAMPLE:
                HEARD_AFTER.observe(max(0.0, time.time() - stored_at(headers)))
            self._trail.last_headers = headers
            if not self._contact.answers:  # under load there may be no silence, and so no probe, for a long time
                schedule.alarm()
        else:
            schedule.alarm()

    def _hear_election(self, *_: object) -> None:
        """The stream has a new leader. Live messages may have died with the old one: probe at once."""
        self._schedule.alarm()

    def _deliver_next(self, offset: int, stored: Stored) -> None:
        """Deliver the sequence's next message."""
        self._trail.last, self._trail.last_offset = stored, offset
        if stored.subject in NOT_EVENTS:
            self._notice(offset, stored)
        try:
            self._deliver(offset, stored)
        except Exception:
            # One event must never stop the others. It was checked before, so whatever this is, it is our bug.
            log.exception("could not deliver", offset=offset)

    def _notice(self, offset: int, stored: Stored) -> None:
        """Act on a message that carries no event."""
        if stored.subject == broker.ANCHOR and stored.body not in (b"", self.epoch.encode()):
            self._schedule.doubt_now()  # `beaconfire doctor --new-epoch`
        elif stored.subject == broker.CATALOGUE and not self._revisions.take_up(offset, stored.body):
            self._sequence.pause()
            self._schedule.alarm()


def _check_end(end: int, position: int) -> None:
    """Check a tick against the position before it. The stream stores it behind every message that was heard.

    Raises OtherStream if it did not: then the stream was recreated, wiped or restored, even if its metadata is the
    same.
    """
    if end <= position:
        raise OtherStream
