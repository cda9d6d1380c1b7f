"""Keep what recovers a Socket.IO session: its user and rooms, in a record that every gateway can read (ADR 0050).

A client's `pid` is a secret that names its record. The gateway of a session writes the record before it answers the
client, and again after a minute. So the record outlives a killed gateway by two minutes at least.

A record is written again when the rooms change (`keep`). It ends by itself some time after the connection was lost
(`release`), or at once if its client left (`forget`). Each write names the one before it. So a gateway that still has a
dead connection cannot replace what the gateway of the new connection wrote, and ends its own session.
"""

import asyncio
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any, Protocol

from nats.aio.client import Client

from beaconfire_kit import errors, logs, metrics
from beaconfire_kit.broker import BrokerRefused, CannotStore, WrongSequence
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.gateway_buckets import BROKER_FAILURES, BUCKETS, CALLS_AT_ONCE, SOCKETIO_SESSIONS, broker_start
from beaconfire_kit.key_value import BucketMissing, Entry, KeyValue

log = logs.get(__name__)

STORED = metrics.Counter(
    "beaconfire_gateway_socketio_records_stored_total",
    "Records for the recovery of Socket.IO sessions that were stored.",
)
NOT_STORED = metrics.Counter(
    "beaconfire_gateway_socketio_records_not_stored_total",
    "Records for the recovery of Socket.IO sessions that could not be stored. Their clients start over if "
    "they lose their connection.",
)

REFRESH_S = 60
"""A record is written again after this long. The bucket keeps it three times as long."""
ANSWER_S = 2.0
"""How long the broker may take for an answer, and the gateway of a client to write its record again."""
RECOVERED_FOR_S = 120
"""A client is recovered for this long at least, after its connection was lost."""
LOOK_S = 0.2
WRITES_PER_TURN = 1_000
COMPLAIN_EVERY_S = 60
_PID_BYTES = 16
_PID = re.compile(r"[A-Za-z0-9_-]{22}")
_ENDED = b""
_AWAY = "the broker is away"
_FAILURES = (*BROKER_FAILURES, BucketMissing)


@dataclass(frozen=True, slots=True)
class Record:
    """What a client comes back to."""

    sid: str
    """The session's id, which the client keeps when it comes back."""
    namespace: str
    user_id: str
    rooms: Mapping[str, Sequence[str] | None]
    """The wanted event types by room, as the client named it. None: every type."""
    owner: str
    """The connection that it is of."""
    broker: str = ""
    """Which start of the broker stored it (`broker_start`)."""
    watched: Sequence[str] = ()
    """Those of its rooms in which it is told who is there. A gateway of the version before cannot read such a record:
    there, its client starts over."""

    def encode(self) -> bytes:
        """Return the bytes in the bucket."""
        version = 2 if self.watched else 1
        return json.dumps({"v": version, **self.fields()}, separators=(",", ":")).encode()

    def fields(self) -> dict[str, Any]:
        """Return it as JSON. Without `watched` if that is empty, because a process of an earlier version lacks it."""
        fields = asdict(self)
        if not self.watched:
            del fields["watched"]
        return fields

    @classmethod
    def decode(cls, data: bytes) -> "Record | None":
        """Read what a gateway stored. None if the record has ended, or if another version wrote it."""
        found: dict[str, Any] = json.loads(data) if data else {}
        return cls(**found) if found.pop("v", None) in (1, 2) else None


class Recoverable(Protocol):
    """A session that has a record."""

    id: str

    def wanted_rooms(self) -> Mapping[str, Sequence[str] | None] | None:
        """Return the rooms that its client would come back to now, as in `Record.rooms`.

        None if it has not started: then they are those of its record.
        """
        ...

    def watched_rooms(self) -> Sequence[str]:
        """Return those of its rooms in which it is told who is there, as in `Record.watched`."""
        ...

    def make_way(self) -> None:
        """Another connection of its client has recovered it: end."""
        ...


class Kept:
    """The record of a session, as the gateway of its connection knows it."""

    __slots__ = ("at", "left_at", "lock", "pid", "record", "session", "wrote_at")

    def __init__(self, session: Recoverable, record: Record, pid: str = "") -> None:
        """Without `pid`, it is a new one. It has the rooms of `record` until it is written again."""
        self.session: Recoverable | None = session
        """None once its connection is lost."""
        self.record = replace(record, owner=secrets.token_urlsafe(8))
        self.pid = pid or secrets.token_urlsafe(_PID_BYTES)
        self.at: int | None = 0
        """The number of its last write; 0 if there is none; None if that is not known, as a write was not answered."""
        self.left_at = 0.0
        self.wrote_at = 0.0
        self.lock = asyncio.Lock()

    @property
    def may_be_stored(self) -> bool:
        """Whether the bucket may have a record of it, which grows old if no other one is stored."""
        return self.at != 0

    def pack(self) -> dict[str, Any]:
        """Return it as JSON, for a session that goes on in another process (`Recovery.adopt`)."""
        return {"pid": self.pid, "record": self.record.fields(), "at": self.at}


class Recovery:
    """The records of this process's sessions. `run` refreshes them."""

    def __init__(self, nc: Client, *, answer_s: float = ANSWER_S, refresh_s: float = REFRESH_S) -> None:
        self._nc = nc
        self._bucket = KeyValue(nc, SOCKETIO_SESSIONS)
        self._answer_s = answer_s
        self._refresh_s = refresh_s
        self._kept: dict[str, Kept] = {}  # in the order in which they were written
        self._left: dict[str, Kept] = {}  # of lost connections, in the order in which they were lost
        self._broker = ""  # the start of the broker that has all of these
        self._due = asyncio.Event()
        self._turns = asyncio.Semaphore(CALLS_AT_ONCE)
        self._again_before = 0.0
        self._may_complain_at = 0.0

    async def begin(
        self,
        session: Recoverable,
        *,
        namespace: str,
        user_id: str,
        rooms: Mapping[str, Sequence[str] | None],
        watched: Sequence[str] = (),
    ) -> Kept:
        """Store a record for a session that starts in these rooms.

        If that fails, its client starts over when it lost its connection.
        """
        kept = Kept(session, Record(session.id, namespace, user_id, rooms, "", watched=watched))
        with suppress(BeaconfireError):
            await self.keep(kept)
        return kept

    async def recover(self, pid: str, session: Recoverable, accepts: Callable[[Record], bool]) -> Kept | None:
        """Take over the record that a client's secret names, for a new session.

        None if that cannot be: it is unknown, too old or out of reach, or `accepts` says no. Then the client starts
        over, with a record of its own.
        """
        if not _PID.fullmatch(pid):
            return None
        try:
            return await self._take_over(pid, session, accepts)
        except _FAILURES as problem:
            self._complain("could not recover a Socket.IO session", problem)
            return None

    async def keep(self, kept: Kept) -> None:
        """Store the record of a session as it is now. Await this before the client is answered.

        A client whose record cannot be stored starts over after it lost its connection. That is no error, unless an
        older record is stored: it would recover the client without the rooms that it joined since. Then this raises
        BeaconfireError (`unavailable`). If another connection has recovered the session, it ends.
        """
        async with kept.lock:
            if kept.session is not None:
                await self._keep(kept, kept.session)

    def release(self, kept: Kept) -> None:
        """Its connection is lost. The record stays for the client to come back to, and ends by itself."""
        kept.session = None
        if self._kept.get(kept.pid) is kept:
            del self._kept[kept.pid]
            if kept.record.broker:  # a single broker: if it starts again, the record must be written again
                kept.left_at = time.monotonic()
                self._left[kept.pid] = kept
                if kept.record.broker != self._broker:  # it has just started
                    self._broker = ""

    async def forget(self, kept: Kept) -> None:
        """Its client has left, or may not go on: nothing recovers it. Without the broker, the record ends by itself."""
        self.release(kept)
        self._left.pop(kept.pid, None)
        async with kept.lock:
            if kept.may_be_stored:
                try:
                    await self._write(kept, _ENDED)
                except (_TakenOver, *_FAILURES) as problem:
                    log.info("could not end the record of a Socket.IO session", reason=_reason(problem))

    def adopt(self, session: Recoverable, packed: Mapping[str, Any]) -> Kept:
        """Go on with the record of a session that comes from another process, with what `Kept.pack` gave."""
        kept = Kept(session, Record(**packed["record"]), packed["pid"])
        kept.record = replace(kept.record, owner=packed["record"]["owner"])
        kept.at = packed["at"]
        self._wrote(kept)
        return kept

    def broker_is_back(self) -> None:
        """Write all records again: the broker may have lost the last ones."""
        self._again_before = time.monotonic()
        self._due.set()

    async def run(self) -> None:
        """Refresh records, forever."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._due.wait()
            self._due.clear()
            try:
                await self.refresh()
            except Exception:
                log.exception("could not refresh records of Socket.IO sessions")

    async def refresh(self) -> None:
        """Write the records that are due."""
        now = time.monotonic()
        await self._restore_left(now)
        due = []
        for kept in islice(self._kept.values(), WRITES_PER_TURN):
            if kept.wrote_at + self._refresh_s > now and kept.wrote_at >= self._again_before:
                break
            due.append(kept)
        for start in range(0, len(due), CALLS_AT_ONCE):
            if not self._nc.is_connected:
                return
            await asyncio.gather(*map(self._refresh, due[start : start + CALLS_AT_ONCE]))

    async def _restore_left(self, now: float) -> None:
        """Write the records of lost connections once more, if the broker has started since."""
        while self._left and (first := next(iter(self._left.values()))).left_at + RECOVERED_FOR_S < now:
            del self._left[first.pid]
        broker = broker_start(self._nc)
        if broker == self._broker or not self._nc.is_connected:
            return
        self._broker = broker
        old = [kept for kept in self._left.values() if kept.record.broker != broker]
        for start in range(0, len(old), CALLS_AT_ONCE):
            await asyncio.gather(*(self._restore(kept, broker) for kept in old[start : start + CALLS_AT_ONCE]))

    async def _restore(self, kept: Kept, broker: str) -> None:
        async with kept.lock:
            kept.record = replace(kept.record, broker=broker)
            with suppress(_TakenOver, *_FAILURES):
                await self._write(kept, kept.record.encode())

    async def _refresh(self, kept: Kept) -> None:
        with suppress(BeaconfireError):  # the next one comes before the older record ends
            await self.keep(kept)

    async def _take_over(self, pid: str, session: Recoverable, accepts: Callable[[Record], bool]) -> Kept | None:
        began_at = time.monotonic()
        while (last := await self._read(pid)) is not None:
            record = Record.decode(last.value)
            if record is None or not accepts(record):
                return None
            if record.broker != broker_start(self._nc):  # its gateway writes it again, if it lives
                if time.monotonic() - began_at > self._answer_s:
                    return None
                await asyncio.sleep(LOOK_S)
                continue
            kept = Kept(session, record, pid)
            kept.at = last.at
            try:
                await self._write(kept, kept.record.encode())
            except _TakenOver:
                continue  # the gateway of the old connection has just refreshed it
            self._wrote(kept)
            self._left.pop(pid, None)
            return kept
        return None

    async def _read(self, pid: str) -> Entry | None:
        if not self._nc.is_connected:
            raise TimeoutError(_AWAY)
        async with self._turns, asyncio.timeout(self._answer_s):
            return await self._bucket.last(pid)

    async def _keep(self, kept: Kept, session: Recoverable) -> None:
        before, rooms, watched = kept.record, session.wanted_rooms(), session.watched_rooms()
        if rooms is None:
            rooms, watched = before.rooms, before.watched
        kept.record = replace(before, rooms=rooms, watched=watched, broker=broker_start(self._nc))
        data = kept.record.encode()
        self._wrote(kept)
        try:
            if len(data) > BUCKETS[SOCKETIO_SESSIONS].max_record_bytes:
                await self._give_up(kept)
            else:
                await self._write(kept, data)
        except _TakenOver:
            if kept.session is not None:
                self.release(kept)
                session.make_way()
        except _FAILURES as problem:
            NOT_STORED.inc()
            self._complain("could not store the record of a Socket.IO session", problem)
            if kept.may_be_stored:
                kept.record = before
                raise BeaconfireError(
                    errors.UNAVAILABLE, "the rooms could not be stored for the recovery of this session: try again"
                ) from problem

    async def _give_up(self, kept: Kept) -> None:
        """End a record that would be too large: its client starts over, and does not come back to fewer rooms."""
        log.warning("a Socket.IO session has too many rooms to be recovered", session=kept.record.sid)
        if kept.may_be_stored:
            await self._write(kept, _ENDED)
        self.release(kept)

    def _wrote(self, kept: Kept) -> None:
        """Note that it was written now, or at least tried."""
        self._kept.pop(kept.pid, None)
        self._kept[kept.pid] = kept
        kept.wrote_at = time.monotonic()

    async def _write(self, kept: Kept, data: bytes) -> None:
        """Write if the last write is this session's own. Raises _TakenOver if not, or one of _FAILURES."""
        if not self._nc.is_connected:  # the message would wait in the client's buffer
            raise TimeoutError(_AWAY)
        async with self._turns, asyncio.timeout(self._answer_s):
            while True:
                before = await self._last_own(kept) if kept.at is None else kept.at
                kept.at = None
                try:
                    kept.at = await self._bucket.try_to_put(kept.pid, data, after=before, timeout_s=self._answer_s)
                except WrongSequence:
                    if kept.session is None and data != _ENDED:  # it goes on elsewhere
                        raise _TakenOver from None
                    continue
                except (BrokerRefused, CannotStore):
                    kept.at = before
                    raise
                STORED.inc()
                return

    async def _last_own(self, kept: Kept) -> int:
        """The number of the last write; 0 if the record is gone. Raises _TakenOver if another session wrote it."""
        last = await self._bucket.last(kept.pid)
        if last is None:
            return 0
        record = Record.decode(last.value)
        if record is None or record.owner != kept.record.owner:
            raise _TakenOver
        return last.at

    def _complain(self, text: str, problem: Exception) -> None:
        if time.monotonic() >= self._may_complain_at:
            self._may_complain_at = time.monotonic() + COMPLAIN_EVERY_S
            log.warning(text, reason=_reason(problem))


class _TakenOver(Exception):
    """Another session wrote the record, or ended it."""


def _reason(problem: Exception) -> str:
    return str(problem) or type(problem).__name__
