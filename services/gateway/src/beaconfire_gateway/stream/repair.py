"""Re-read messages that the live path dropped, and find out why some are gone from the stream (ADR 0023).

If a read jumps over offsets, messages behind them wait. After the read the stream is asked why these offsets are gone:

* They lie below the stream's first offset, so retention removed them. That is a gap, and clients are sent `resync`.
* They are young. They are read once more. If they are missing again, they are a gap, too.
* They are so old that they most likely were ticks that expired. Clients hear nothing, but memberships are confirmed.

A marker of the catalogue may be among them. So before they are passed over, the sequence pauses until the markers that
the stream has were read (`markers_known_through`).
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from beaconfire_gateway.fanout.checking import Stored
from beaconfire_gateway.stream.broker_contact import BrokerContact
from beaconfire_gateway.stream.live_messages import FOREIGN, stored_at
from beaconfire_gateway.stream.replay import Reader
from beaconfire_gateway.stream.sequence import Sequence
from beaconfire_kit import broker, logs, metrics
from beaconfire_kit.reading import ReadFailed

log = logs.get(__name__)

REPAIRED = metrics.Counter(
    "beaconfire_gateway_messages_repaired_total",
    "Messages that the gateway read from the stream because they had not arrived live.",
)
VANISHED = metrics.Counter(
    "beaconfire_gateway_holes_lost_total",
    "Times that missing messages were no longer in the stream when the gateway read them.",
)
HOLES = metrics.Counter(
    "beaconfire_gateway_holes_total", "Times that the gateway read missing or late messages from the stream."
)
HOLD = metrics.Histogram(
    "beaconfire_gateway_hole_duration_seconds", "How long missing messages held back the messages after them."
)

YOUNG_S = broker.TICK_TTL_S - 30.0
"""A message stored less than this long ago is not an expired tick. Half a minute is for brokers whose clocks differ."""
MAX_BEHIND, MAX_BEHIND_BYTES = 5_000, 4_194_304
"""Messages held back behind a jump before the stream is asked about it, and their size together."""


class OtherStream(Exception):
    """The stream is another one than the intake heard: recreated, wiped, or put back from a backup."""


class Trail:
    """The facts about the stream from delivered messages, to recognise whether it is still the same one."""

    __slots__ = ("epoch", "last", "last_headers", "last_offset", "last_read_at")

    def __init__(self) -> None:
        self.epoch = ""
        self.forget()

    def forget(self) -> None:
        """Forget all but the epoch: the stream is another one."""
        self.last: Stored | None = None
        """The message delivered last, or None if its offset is not a proof."""
        self.last_offset = 0
        self.last_headers: bytes | None = None
        """Of the message that was last delivered as it was heard."""
        self.last_read_at = 0.0
        """When the stream stored the message that was last delivered by a read, in Unix seconds."""

    def stored_at(self) -> float:
        """Return when the stream stored the newest message delivered (Unix seconds): whatever follows it is younger."""
        return max(self.last_read_at, stored_at(self.last_headers))


@dataclass(frozen=True, slots=True)
class _Jump:
    """The offsets from `first` to `last`, which a read passed over."""

    first: int
    last: int
    since: float
    """Unix seconds: all of them were stored later."""


_Read = tuple[int, Stored, float]
"""(offset, message, stored at in Unix seconds)."""


class Repair:
    """Fills the holes of a sequence. One for each intake.

    `on_start(position)` is called when the first read of the history finds where to start. `on_gap` and `on_doubt` are
    those of `intake.Intake`.
    """

    def __init__(
        self,
        reader: Reader,
        contact: BrokerContact,
        sequence: Sequence[Stored],
        trail: Trail,
        *,
        on_start: Callable[[int], None],
        on_gap: Callable[[int], None],
        on_doubt: Callable[[], None],
        young_s: float = YOUNG_S,
        max_behind: int = MAX_BEHIND,
    ) -> None:
        self._reader = reader
        self._contact = contact
        self._sequence = sequence
        self._trail = trail
        self._on_start = on_start
        self._on_gap = on_gap
        self._on_doubt = on_doubt
        self._young_s = young_s
        self._max_behind = max_behind
        self._missed: frozenset[int] = frozenset()
        """The places of missing young offsets in the last read. They are read once more."""
        self.markers_known_through = 0
        """All markers of the catalogue up to this offset were read from the stream."""
        self.is_counted = False
        """Whether messages that are read count as repaired. The history at the start does not."""

    @property
    def _position(self) -> int:
        return self._sequence.position or 0

    def forget(self) -> None:
        """Forget the last read: the stream is another one."""
        self._missed = frozenset()

    async def read_history(self, upto: int, *, since_s: float) -> None:
        """Read the messages of the last `since_s` seconds up to `upto`, or a part of them, and start at the first.

        Raises ReadFailed if the read ended early, OtherStream.
        """
        await self._read(upto, since_s=since_s)

    async def read_holes(self) -> None:
        """Read holes until none is known, as long as it takes. Raises OtherStream."""
        started = time.monotonic()
        await self.check_stream()
        known = 0  # nothing is a hole while the sequence is paused
        while (upto := self._sequence.hole) is not None:
            broker.check_cancelled()
            if upto != known:
                HOLES.inc()
                known = upto
            try:
                await self.check_last(self._trail.last, self._trail.last_offset)
                await self._read_hole(upto)
            except ReadFailed as error:
                log.warning("could not read a hole, trying again", reason=str(error), upto=upto)
                if not await self._get_hole(upto):
                    await self._check_reach(upto)
        HOLD.observe(time.monotonic() - started)

    async def check_stream(self) -> None:
        """Check by its epoch that this is the stream that was heard. Raises OtherStream.

        If it lost messages after the position, that is a gap.
        """
        stream = await self._contact.stream_state()
        if stream.epoch != self._trail.epoch:
            raise OtherStream
        if stream.first > self._position + 1 and self._knows_markers(stream.first - 1):
            self._lose(stream.first - 1)

    async def check_epoch(self) -> None:
        """Check that this is the stream that was heard. Raises OtherStream."""
        if (await self._contact.stream_state()).epoch != self._trail.epoch:
            raise OtherStream

    async def check_last(self, last: Stored | None, offset: int) -> None:
        """Check that the stream still has the message that was heard at an offset. Raises OtherStream, ReadFailed.

        A message that is gone is not a proof.
        """
        if last is not None and await self._reader.get_one(offset) not in (None, last):
            raise OtherStream

    async def _check_reach(self, upto: int) -> None:
        """Ask whether the stream really reaches `upto`, because the hole cannot be read. Raises OtherStream."""
        await self._contact.fail()
        before = self._position
        end = await self._reader.find_end()  # also puts a message behind `upto`, which may be gone by now
        await self.check_stream()
        if end is not None and end < upto == self._sequence.hole:
            if end <= before:
                raise OtherStream
            self._drop_forged(upto, end)

    def _drop_forged(self, upto: int, end: int) -> None:
        """Forget messages that were heard beyond the end of the stream: their headers were forged.

        Held messages may be forged, too. If they are not, the stream has them.
        """
        FOREIGN.inc()
        log.error("forgot what was heard beyond the end of the stream", heard=upto, end=end)
        position = self._position
        self._sequence.reset()
        self._sequence.start(position)
        self._sequence.expect(end)

    async def _read_hole(self, upto: int) -> None:
        """Read up to `upto`, or a part of it."""
        is_large = upto - self._position > self._reader.policy.gets_at_once
        if is_large or not await self._get_hole(upto) or self._position < upto:
            await self._read(upto)

    async def _get_hole(self, upto: int) -> bool:
        """Try to read without a consumer. Return whether the position moved."""
        before = self._position
        with contextlib.suppress(ReadFailed):
            await self._reader.get(after=before, upto=upto, on_message=self._fill)
        return self._position > before

    async def _read(self, upto: int, *, since_s: float | None = None) -> None:
        """Read messages after the position up to `upto`, or a part of them.

        Without a position, read the newest history.

        Messages behind a jump are held back. If those grow large, the read ends early.
        """
        behind: list[_Read] = []
        size = 0

        def sort(offset: int, stored: Stored, at: float) -> None:
            nonlocal size
            if self._sequence.position is None:
                self._on_start(offset - 1)
            if self._sequence.is_paused:
                return  # it is read again
            if not behind and offset <= self._position + 1:
                self._fill(offset, stored, at)
            else:
                behind.append((offset, stored, at))
                size += len(stored.body)

        through = await self._reader.read(
            after=self._sequence.position,
            since_s=since_s,
            upto=upto,
            on_message=sort,
            enough=lambda: self._sequence.is_paused or len(behind) >= self._max_behind or size >= MAX_BEHIND_BYTES,
        )
        if self._sequence.position is None:  # everything young enough is gone, the tick itself included
            self._on_start(through)
        if through > self._position and not self._sequence.is_paused:
            await self._deliver_behind(behind, through)

    async def _deliver_behind(self, behind: list[_Read], through: int) -> None:
        """Deliver messages behind a jump, once it is known why the offsets before them are gone.

        The stream is asked now, after the read, because retention may have removed them in between. Raises OtherStream.
        Raises ReadFailed if the answering server has less than was read.
        """
        stream = await self._contact.stream_state()
        if stream.epoch != self._trail.epoch:
            raise OtherStream
        if stream.last < through:
            raise ReadFailed("the server that answered has less of the stream than was read")
        lost = 0
        young: set[int] = set()
        jumps = list(self._jumps(behind, through))
        for jump in jumps:
            is_young = stream.asked_at - jump.since < self._young_s
            if jump.first < stream.first or is_young:
                lost = jump.last
            if jump.first >= stream.first and is_young:
                young.add(jump.first)
        unsure, self._missed = young - self._missed, frozenset(young)
        if unsure or not self._knows_markers(max((jump.last for jump in jumps), default=0)):
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
        """Find where offsets are missing between the position, what was read behind it, and the end of the read."""
        expected, since = self._position + 1, self._trail.stored_at()
        for offset, _, at in behind:
            if offset > expected:
                yield _Jump(expected, offset - 1, since)
            expected, since = max(expected, offset + 1), max(since, at)
        if through >= expected:
            yield _Jump(expected, through, since)

    def _fill(self, offset: int, stored: Stored, at: float) -> None:
        """Deliver a message that was read, unless it was heard meanwhile."""
        if offset > self._position:
            if self.is_counted:
                REPAIRED.inc()
            self._trail.last_read_at = at
        self._sequence.fill(offset, stored)

    def _knows_markers(self, offset: int) -> bool:
        """Whether the catalogue is known behind `offset`, which is passed over. If not, pauses the sequence.

        A marker may be among what is gone.
        """
        if offset > self.markers_known_through:
            self._sequence.pause()
        return not self._sequence.is_paused

    def _lose(self, position: int) -> None:
        """Count everything up to `position` as lost, and report the gap before anything behind it is delivered."""
        log.error("the stream lost events before they were heard", heard=self._position, lost_up_to=position)
        VANISHED.inc()
        self._trail.last = None
        self._on_gap(position)
        self._sequence.skip(position)
