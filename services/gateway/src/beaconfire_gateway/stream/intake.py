"""Intake: hear the whole stream, deliver every offset once and in order (ADR 0002).

The live path loses events in silence (a leader killed, a route cut), so one rule alone is relied on: offset N is
delivered only after N-1. A hole is read from the stream; silence is probed with a tick whose acknowledgement is its
offset. So every second shows that the position is the end of the stream, or shows the hole.

A read that jumps over offsets delivers nothing behind them until the stream, asked after the read, has explained them
(ADR 0023): ticks that ran out are passed over; if events may be among them, clients are told before anything else.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from beaconfire_gateway.fanout.encoding import Stored, has_ttl, text_of
from beaconfire_gateway.stream import replay
from beaconfire_gateway.stream.sequence import Sequence
from beaconfire_kit import broker, logs, metrics
from beaconfire_kit.reading import ReadFailed
from beaconfire_kit.seams.nats_direct import DirectClient

log = logs.get(__name__)

HEARD = metrics.Tally(
    metrics.Counter("beaconfire_gateway_live_messages_total", "Messages of the stream that arrived on the live path.")
)
FOREIGN = metrics.Counter(
    "beaconfire_gateway_forged_messages_total", "Messages on live.> that did not come from the stream and were dropped."
)
REPAIRED = metrics.Counter(
    "beaconfire_gateway_messages_repaired_total", "Messages that arrived by reading a hole from the stream."
)
VANISHED = metrics.Counter(
    "beaconfire_gateway_holes_lost_total", "Holes whose events were gone from the stream before they could be read."
)
HOLES = metrics.Counter(
    "beaconfire_gateway_holes_total", "Holes read from the stream because live messages were missing or late."
)
HOLD = metrics.Histogram(
    "beaconfire_gateway_hole_duration_seconds", "How long a hole held back the messages behind it."
)
POSITION = metrics.Gauge("beaconfire_gateway_position", "Offset of the last message of the stream that was delivered.")
DEGRADED = metrics.Gauge("beaconfire_gateway_degraded", "1 while the broker does not acknowledge ticks, otherwise 0.")

SILENCE_S = 1.0
JITTER_S = 0.2  # so that of several gateways one ticks first, and its tick serves all
HEAR_TICK_S = 0.25
FRESH_S = 5.0
"""A position not shown to be the end of the stream for this long is stale: the gateway is not ready."""
VERIFY_EVERY_S = 1.0
"""How often, at most, the stream is looked at because of messages that came a second time."""
YOUNG_S = broker.TICK_TTL_S - 30.0
"""A message stored less than this long ago is no tick that ran out. Half a minute for brokers whose clocks differ."""
BEHIND, BEHIND_BYTES = 5_000, 4_194_304
"""Messages held back behind a jump before the stream is asked about it, and how large they may be together."""
RETRY_S = 0.1
FIRST_PATIENCE_S = 0.25
ANCHOR_EVERY_S = broker.MAX_AGE_S / 8
ANCHOR_RETRY_S = 60.0
LEADER_ELECTED = f"$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.{broker.STREAM}"
_ANCHOR = broker.ANCHOR
_STREAM = broker.STREAM.encode()
_LIVE = broker.LIVE_PREFIX.encode()
_BLOCK = b"\r\nNats-Stream: %s\r\nNats-Subject: %%s\r\nNats-Sequence: " % _STREAM
_FIRST = len(b"NATS/1.0")
"""Where `_BLOCK` stands in raw headers if the publisher gave none."""


@dataclass(frozen=True, slots=True)
class _Jump:
    """The offsets from `first` to `last`, which a read passed over."""

    first: int
    last: int
    since: float
    """Unix seconds: all of them were stored later."""


_Read = tuple[int, Stored, float]
"""(offset, message, stored at in Unix seconds)."""


class Intake:
    """One for each stream. `deliver(offset, stored)` is called in order, for every offset that exists; ticks included.

    `on_state(alive)` tells when the broker stops or starts to acknowledge; `on_epoch(epoch, position)` when the stream
    is another one; `on_gap(position)` when the stream has lost what is between the last offset delivered and this one.
    Both come before anything behind `position` is delivered, and so does `on_doubt()`: offsets are passed over that are
    so old that they were ticks, most likely, but may have been events which somebody deleted.
    """

    def __init__(
        self,
        nc: DirectClient,
        *,
        deliver: Callable[[int, Stored], None],
        on_state: Callable[[bool], None],
        on_epoch: Callable[[str, int], None],
        on_gap: Callable[[int], None],
        on_doubt: Callable[[], None] = lambda: None,
        history_s: float,
    ) -> None:
        self._nc = nc
        self._deliver = deliver
        self._on_state = on_state
        self._on_epoch = on_epoch
        self._on_gap = on_gap
        self._on_doubt = on_doubt
        self._history_s = history_s
        self._sequence: Sequence[Stored] = Sequence(self._take, size=lambda stored: len(stored.body))
        self._heard_at = 0.0
        self._fresh_at = float("-inf")
        self._anchored_at = float("-inf")
        self._alarm = asyncio.Event()
        self._doubted = False
        self._verified_at = float("-inf")
        self._last: Stored | None = None
        self._last_at = 0
        self._dated: bytes | None = None  # headers of the newest message that was delivered as it was heard
        self._read_at = 0.0  # when the newest message that was read and delivered was stored
        self._missed: frozenset[int] = frozenset()  # where the last read jumped, if that must be read once more
        self._alive = True
        self.epoch = ""
        self.ready = False

    @property
    def position(self) -> int:
        """W, the last offset delivered; 0 before the start."""
        return self._sequence.position or 0

    def why_not_ready(self) -> str | None:
        """None while the position is fresh, else what is wrong."""
        if not self.ready:
            return "starting: waiting for the broker and the stream"
        stale_s = time.monotonic() - self._fresh_at
        return f"the position is stale for {stale_s:.0f} s: the broker does not answer" if stale_s > FRESH_S else None

    def reconnected(self) -> None:
        """The connection to the broker was cut and is back: what was sent meanwhile was not heard."""
        self._doubt()

    async def run(self) -> None:
        """Start, then watch for holes and silence, for ever. Owned by the app."""
        POSITION.set_function(lambda: self.position)
        await self._start()
        while True:
            broker.check_cancelled()
            await self._wait()
            try:
                if self._sequence.position is None:  # something failed while it was looked for
                    await self._begin_another()
                elif self._doubted and self._verify_at() <= time.monotonic():
                    await self._verify()
                elif self._sequence.hole is not None:
                    await self._repair()
                else:
                    await self._probe()
            except Exception:
                log.exception("intake failed, going on")
                await asyncio.sleep(RETRY_S)

    async def _start(self) -> None:
        """Subscribe to the live path, then read the newest history, for the ring.

        A read that fails is gone on with from where it got to, like any hole. One that brought nothing is made again.
        """
        await broker.stream_state(self._nc)
        await self._nc.subscribe_direct(f"{broker.LIVE_PREFIX}>", self._hear)
        await self._nc.flush()
        await self._nc.subscribe_direct(LEADER_ELECTED, self._hear_election)
        end = 0
        while self._sequence.position is None:
            self.epoch, end = await self._find_end()
            try:
                await self._read(end)
            except ReadFailed as error:
                log.warning("could not read the history, trying again", reason=str(error))
                await asyncio.sleep(RETRY_S)
        self._sequence.expect(end)
        await self._repair()
        self.ready = True
        log.info("intake is live", epoch=self.epoch, position=self.position)

    def _begin(self, epoch: str, position: int) -> None:
        """Deliver what follows `position` in the stream of this epoch."""
        self.epoch = epoch
        self._on_epoch(epoch, position)
        self._sequence.start(position)

    def _hear(self, subject: bytes, _reply: bytes, body: bytes, headers: bytes | None) -> None:
        """A message on `live.>`. It is ours only if the stream sent it (SECURITY.md, T11)."""
        ours = _of_ours(subject, body, headers)
        if ours is None:
            FOREIGN.inc()
            log.warning(
                "dropped a message that the stream did not send", subject=subject.decode(errors="replace")[:200]
            )
            return
        offset, stored = ours
        HEARD.count += 1
        self._heard_at = time.monotonic()
        position = self._sequence.position
        if position is not None and offset <= position:
            self._hear_again()
            return
        if self._sequence.hear(offset, stored):
            self._fresh_at = self._heard_at
            self._dated = headers
            if not self._alive:  # under load there may be no silence, and so no probe, for a long time
                self._alarm.set()
        else:
            self._alarm.set()

    def _hear_again(self) -> None:
        """A message at or below W: the late copy of one that was read, or the stream has begun anew."""
        self._doubted = True
        if self._verify_at() <= self._heard_at:
            self._alarm.set()

    def _doubt(self) -> None:
        """Look at once whether this is still the stream that we heard."""
        self._doubted = True
        self._verified_at = float("-inf")
        self._alarm.set()

    def _verify_at(self) -> float:
        return self._verified_at + VERIFY_EVERY_S

    def _hear_election(self, *_: object) -> None:
        """Live messages may have died with the old leader: probe at once."""
        self._alarm.set()

    def _take(self, offset: int, stored: Stored) -> None:
        """The sequence's next message."""
        self._last, self._last_at = stored, offset
        if stored.subject == _ANCHOR and stored.body not in (b"", self.epoch.encode()):
            self._doubt()  # `beaconfire doctor --new-epoch`
        try:
            self._deliver(offset, stored)
        except Exception:
            # One event must never stop the others. It was checked before; whatever this is, it is our fault.
            log.exception("could not deliver", offset=offset)

    async def _wait(self) -> None:
        """Until there is an alarm, or silence."""
        while not self._alarm.is_set():
            silent_at = max(self._heard_at, self._fresh_at) + SILENCE_S + random.random() * JITTER_S  # noqa: S311
            wait_s = (min(silent_at, self._verify_at()) if self._doubted else silent_at) - time.monotonic()
            if wait_s <= 0:
                return
            try:
                async with asyncio.timeout(wait_s):
                    await self._alarm.wait()
            except TimeoutError:
                continue
        self._alarm.clear()

    async def _verify(self) -> None:
        """Show that this is still the stream that we heard, as often as it takes."""
        self._doubted = False
        sure = False
        try:
            sure = await self._probe(thorough=True)
        except ReadFailed as error:
            log.warning("could not read the stream, trying again", reason=str(error))
            await asyncio.sleep(RETRY_S)
        finally:
            self._doubted = self._doubted or not sure
            if sure:
                self._verified_at = time.monotonic()

    async def _probe(self, *, thorough: bool = False) -> bool:
        """Show that the position is the end of the stream, or find the hole. False where the broker does not answer."""
        before, last, last_at = self.position, self._last, self._last_at
        end = await replay.find_end(self._nc)
        if end is None:
            self._set_alive(False)
            await asyncio.sleep(RETRY_S)
            return False
        if end <= before or (thorough and not await self._has_still(last, last_at)):
            # A tick published after W was heard must be stored behind it. At or below W, the stream was wiped,
            # recreated or restored, whatever its metadata says.
            await self._begin_another()
        elif not thorough or await self._check_stream():
            if not thorough:
                await self._hear_up_to(end)
            if self.position < end:
                self._sequence.expect(end)
                await self._repair()
        self._fresh_at = time.monotonic()
        self._set_alive(True)
        await self._anchor()
        return True

    async def _has_still(self, had: Stored | None, offset: int) -> bool:
        """Whether the stream has what we had there. Where there is nothing any more, that cannot be told: True.

        Raises ReadFailed.
        """
        return had is None or await replay.get_one(self._nc, offset) in (None, had)

    async def _anchor(self) -> None:
        """Keep something older than the ticks in a quiet stream: its first offset tells what retention took.

        Once all events have run out, ticks alone would be left, and a cursor three minutes old would look too old.
        """
        if time.monotonic() - self._anchored_at < ANCHOR_EVERY_S:
            return
        period = int(time.time() // ANCHOR_EVERY_S)  # gateways that think of it at the same time publish one
        try:
            async with asyncio.timeout(replay.TICK_TIMEOUT_S):
                await broker.publish(self._nc, _ANCHOR, b"", message_id=f"anchor-{self.epoch}-{period}")
            self._anchored_at = time.monotonic()
        except TimeoutError:
            self._anchored_at = time.monotonic() - ANCHOR_EVERY_S + ANCHOR_RETRY_S

    async def _hear_up_to(self, end: int) -> None:
        """Give the live path a moment to bring our own tick. Polled: an event would cost a check on every message."""
        deadline = time.monotonic() + HEAR_TICK_S
        while self.position < end and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def _check_stream(self) -> bool:
        """Whether this is still the stream whose position we hold. If it lost what follows, clients are told."""
        stream = await self._ask_stream()
        if stream.epoch != self.epoch:
            await self._begin_another()
            return False
        if stream.first > self.position + 1:
            self._lose(stream.first - 1)
        return True

    def _lose(self, position: int) -> None:
        """Everything between W and `position` counts as lost. That is told before what follows is delivered."""
        log.error("the stream lost what was not heard", heard=self.position, lost_up_to=position)
        VANISHED.inc()
        self._last = None
        self._on_gap(position)
        self._sequence.skip(position)

    async def _begin_another(self) -> None:
        """The stream is another one, or was put back: go on at its end."""
        was, was_at = self.epoch, self.position
        epoch, position = await self._find_end()
        log.error("the stream is another one", was=was, now=epoch, was_at=was_at, now_at=position)
        if epoch == was:
            log.error("its epoch is the old one: after a restore run `beaconfire doctor --new-epoch`", epoch=epoch)
        self._last, self._dated, self._read_at, self._missed = None, None, 0.0, frozenset()
        self._anchored_at = float("-inf")
        self._begin(epoch, position)

    async def _find_end(self) -> tuple[str, int]:
        """The stream's epoch, and a tick's offset in it. From before the tick, nothing that was heard is left.

        The epoch is asked before the tick and after it: the stream may be made anew in between.
        """
        epoch = (await self._ask_stream()).epoch
        while True:
            broker.check_cancelled()
            self._sequence.reset()
            end = await replay.find_end(self._nc)
            if end is None:
                self._set_alive(False)
                await asyncio.sleep(RETRY_S)
                continue
            before, epoch = epoch, (await self._ask_stream()).epoch
            if epoch == before:
                return epoch, end

    async def _ask_stream(self) -> broker.StreamState:
        """What the stream says of itself. Asked again and again while nobody answers, and clients are told so.

        At first soon: a question that was on a route when it was cut is lost, and the next one is not.
        """
        patience_s = FIRST_PATIENCE_S
        while True:
            broker.check_cancelled()
            try:
                async with asyncio.timeout(patience_s):
                    return await broker.stream_state(self._nc)
            except TimeoutError:
                if patience_s >= replay.TICK_TIMEOUT_S:
                    self._set_alive(False)
                patience_s = min(2 * patience_s, replay.TICK_TIMEOUT_S)

    async def _repair(self) -> None:
        """Read holes until none is known."""
        started = time.monotonic()
        await self._check_stream()
        known = 0
        while (upto := self._sequence.hole) is not None:
            broker.check_cancelled()
            if upto != known:
                HOLES.inc()
                known = upto
            try:
                if await self._has_still(self._last, self._last_at):
                    await self._read_hole(upto)
                else:
                    await self._begin_another()
            except ReadFailed as error:
                log.warning("could not read a hole, trying again", reason=str(error), upto=upto)
                if await self._get_hole(upto):
                    continue
                self._set_alive(False)
                await asyncio.sleep(RETRY_S)
                before = self.position
                end = await replay.find_end(self._nc)  # `upto` may be gone by now: something must stand behind it
                if await self._check_stream() and end is not None and end < upto == self._sequence.hole:
                    if end > before:
                        self._disbelieve(upto, end)
                    else:
                        await self._begin_another()
        HOLD.observe(time.monotonic() - started)
        self._fresh_at = time.monotonic()
        self._set_alive(True)

    def _disbelieve(self, upto: int, end: int) -> None:
        """The stream, asked after `upto` was heard, does not reach so far: whoever sent that had forged headers.

        What is held may be forged, too; the stream has it, if it is not.
        """
        FOREIGN.inc()
        log.error("forgot what was heard beyond the end of the stream", heard=upto, end=end)
        position = self.position
        self._sequence.reset()
        self._sequence.start(position)
        self._sequence.expect(end)

    async def _read_hole(self, upto: int) -> None:
        """Read (W, upto], or a part of it."""
        if upto - self.position > replay.GETS_AT_ONCE or not await self._get_hole(upto) or self.position < upto:
            await self._read(upto)

    async def _read(self, upto: int) -> None:
        """Read what follows W, or the newest history before there is one, up to `upto` or a part of it.

        What comes behind a jump is held back, so the read ends early if that is much.
        """
        behind: list[_Read] = []
        size = 0

        def take(offset: int, stored: Stored, at: float) -> None:
            nonlocal size
            if self._sequence.position is None:
                self._begin(self.epoch, offset - 1)
            if not behind and offset <= self.position + 1:
                self._fill(offset, stored, at)
            else:
                behind.append((offset, stored, at))
                size += len(stored.body)

        through = await replay.read(
            self._nc,
            after=self._sequence.position,
            since_s=self._history_s,
            upto=upto,
            take=take,
            enough=lambda: len(behind) >= BEHIND or size >= BEHIND_BYTES,
        )
        if self._sequence.position is None:  # everything young enough is gone, the tick itself included
            self._begin(self.epoch, through)
        if through > self.position:
            await self._pass(behind, through)

    async def _pass(self, behind: list[_Read], through: int) -> None:
        """Deliver what was read behind a jump, once it is known why the offsets before it are gone.

        The stream is asked now, after the read: retention may have taken them in between. Young offsets are read once
        more before they count as gone. Raises ReadFailed if a server answers that has less than was read.
        """
        stream = await self._ask_stream()
        if stream.epoch != self.epoch:
            await self._begin_another()
            return
        if stream.last < through:
            raise ReadFailed("who says where the stream begins has not got as far as what was read")
        lost = 0
        young: set[int] = set()
        jumps = list(self._jumps(behind, through))
        for jump in jumps:
            is_young = stream.asked_at - jump.since < YOUNG_S
            if jump.first < stream.first or is_young:
                lost = jump.last
            if jump.first >= stream.first and is_young:
                young.add(jump.first)
        unsure, self._missed = young - self._missed, frozenset(young)
        if unsure:
            return
        if lost:
            self._lose(lost)
        elif jumps:
            self._on_doubt()
        for offset, stored, at in behind:
            self._sequence.skip(offset - 1)
            self._fill(offset, stored, at)
        self._sequence.skip(through)

    def _jumps(self, behind: list[_Read], through: int) -> Iterator[_Jump]:
        """Where offsets are missing between W, what was read behind it, and the end of the read."""
        expected, since = self.position + 1, max(self._read_at, _stamp(self._dated))
        for offset, _, at in behind:
            if offset > expected:
                yield _Jump(expected, offset - 1, since)
            expected, since = max(expected, offset + 1), max(since, at)
        if through >= expected:
            yield _Jump(expected, through, since)

    async def _get_hole(self, upto: int) -> bool:
        """Try it without a consumer. Whether it got any further."""
        before = self.position
        with contextlib.suppress(ReadFailed):
            await replay.get(self._nc, after=before, upto=upto, take=self._fill)
        return self.position > before

    def _fill(self, offset: int, stored: Stored, at: float) -> None:
        """Deliver a message that was read, the next one, unless it was heard meanwhile."""
        if offset > self.position:
            if self.ready:
                REPAIRED.inc()
            self._read_at = at
        self._sequence.fill(offset, stored)

    def _set_alive(self, alive: bool) -> None:
        if alive != self._alive:
            self._alive = alive
            DEGRADED.set(not alive)
            if alive:
                log.info("the broker answers again")
            else:
                log.warning("the broker does not answer")
            self._on_state(alive)


def _of_ours(subject: bytes, body: bytes, headers: bytes | None) -> tuple[int, Stored] | None:
    """Offset and message, where it is one that the stream republished, else None.

    Forged headers stand in front of the server's own, so the *last* value of each counts.
    """
    if headers is None or not subject.startswith(_LIVE):
        return None
    block, text = _expected(subject)
    # As nats-server writes them, in one piece: one look instead of three.
    at = headers.rfind(block)
    start = at + len(block)
    end = headers.find(b"\r\n", start)
    if at >= 0 and headers.find(b"\r\nNats-S", end) < 0:
        offset = _read_offset(headers[start:end])
    else:
        offset = _offset_of_ours(subject, headers)
    if offset is None:
        return None
    return offset, Stored(text, body, at != _FIRST and has_ttl(headers))


@lru_cache(maxsize=10_000)
def _expected(subject: bytes) -> tuple[bytes, str]:
    """The headers up to the offset that the stream gives a message on this subject of `live.>`; its own subject."""
    own = subject[len(_LIVE) :]
    return _BLOCK % own, text_of(own)


def _offset_of_ours(subject: bytes, headers: bytes) -> int | None:
    """The same by each header, wherever it stands: the offset, or None."""
    if _last_header(headers, b"Nats-Stream") != _STREAM:
        return None
    if _LIVE + _last_header(headers, b"Nats-Subject") != subject:
        return None
    return _read_offset(_last_header(headers, b"Nats-Sequence"))


def _stamp(headers: bytes | None) -> float:
    """When the stream stored a live message, in Unix seconds; 0 if its headers do not say."""
    stamp = _last_header(headers or b"", b"Nats-Time-Stamp")
    return datetime.fromisoformat(stamp.decode()).timestamp() if stamp else 0.0


def _read_offset(digits: bytes) -> int | None:
    return int(digits) if digits.isdigit() and len(digits) < 20 else None


def _last_header(headers: bytes, name: bytes) -> bytes:
    """The last value of a header in a raw NATS header block (NATS ADR-4); empty where there is none."""
    start = headers.rfind(b"\r\n%s:" % name)
    if start < 0:
        return b""
    start += len(name) + 3
    return headers[start : headers.find(b"\r\n", start)].strip()
