"""Learn from the events on the stream which root a room like `settlement:s1` belongs to.

It reads `EVENTS` with a durable consumer. New pairs and the position are written in one transaction, so a crash skips
no message. Most messages contain no new pair. For those the position is written once a second, and they are
acknowledged then. One pair may have several roots, because publishers choose ids: see `Rpc.authorize`.

Only valid events of roots with members count. Otherwise any publisher could claim any id. Pairs stay when a thing is
deleted, because another root could take over its id.

It uses nats-py, not FastStream. FastStream's pull subscriber needs the stream at start and never makes a lost consumer
again. This consumer must work even if the stream is not there yet, or is made again.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence, Set

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from sqlalchemy import insert, select, tuple_
from sqlalchemy.exc import SQLAlchemyError

from beaconfire_auth.root_kinds import USER
from beaconfire_auth.store import MEMBERS, PARENTS, PROJECTED_OFFSET, counter, set_counter
from beaconfire_kit import broker, logs, metrics
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue_follower import CatalogueFollower
from beaconfire_kit.database import Database, DatabaseAway
from beaconfire_kit.invalid_event import InvalidEvent, check_lifetime
from beaconfire_kit.progress import STUCK_S, Progress
from beaconfire_kit.subjects import InvalidSubject, Pair, RoomKey, parse_subject

log = logs.get(__name__)

OFFSET = metrics.Gauge(
    "beaconfire_auth_projection_position",
    "Offset of the last message that auth has read from the stream to learn which root each room belongs to.",
)

PASSED = metrics.Counter(
    "beaconfire_auth_projection_invalid_messages_total",
    "Messages of the stream that were no valid events, so that auth could not learn from them which root a "
    "room belongs to.",
)

DURABLE = "auth-parents"
FILTER = ["*.*.>"]
"""Every event below a root, of whatever kind, and neither ticks, anchors nor markers of the catalogue. So a new root
needs no change here, and none of its events can be missed."""
UNKNOWN = ("unknown_type", "unknown_version")
MAX_AGE_S = 1.0
"""How long a read of the catalogue counts for events of unknown types that are older than it. A publisher that sends
many such events would otherwise slow the projection down."""
CLOCKS_S = 2.0
"""How far the broker's clock and ours may be apart."""
BATCH = 200
WAIT_S = 1.0
RETRY_S = 0.5
WRITE_EVERY_S = 1.0
MAX_UNWRITTEN = 500  # half of what the broker hands out unacknowledged


class Projection:
    """Learn parents from events, and look them up."""

    def __init__(self, database: Database, catalogues: CatalogueFollower, *, stuck_s: float = STUCK_S) -> None:
        """`catalogues` says which events are valid. Nothing is read before there is a catalogue."""
        self._database = database
        self._catalogues = catalogues
        self._seen: set[RoomKey] = set()  # known to be in the table: most subjects contain no new pair
        self._moved = asyncio.Event()
        self._unwritten: list[Msg] = []
        self._written_at = 0.0
        self._fetched_at = 0.0
        self._progress = Progress(DURABLE, stuck_s=stuck_s)
        self.offset = 0

    async def why_stuck(self, nc: Client) -> str | None:
        """Return why the projection makes no progress, or None. Call it about once a second."""
        try:
            return self._progress.why_stuck(await nc.jetstream().consumer_info(broker.STREAM, DURABLE))
        except (nats.errors.Error, nats.js.errors.Error):
            return None  # it is being created, or the broker is away, which others report

    async def run(self, nc: Client) -> None:
        """Read the stream, forever. Owned by the app."""
        while True:
            broker.check_cancelled()
            try:
                await broker.stream_state(nc)
                if self._catalogues.current or await self._catalogues.refresh():
                    await self._read(nc)
            except (nats.errors.Error, nats.js.errors.Error) as error:
                log.warning("projection lost its consumer, trying again", error=type(error).__name__)
            except DatabaseAway as error:
                log.warning("projection waits for the database", reason=error.message)
            except Exception:
                log.exception("projection failed, continuing")
            await asyncio.sleep(RETRY_S)

    async def reach(self, offset: int, timeout_s: float = 1.0) -> bool:
        """Wait until everything up to `offset` was read, for at most `timeout_s` seconds."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.offset < offset:
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            return False
        return True

    async def roots(self, pairs: Iterable[Pair]) -> dict[Pair, list[Pair]]:
        """Return the roots of each known pair, in a fixed order."""
        wanted = list(pairs)
        found = select(PARENTS).where(tuple_(PARENTS.c.kind, PARENTS.c.id).in_([(one.kind, one.id) for one in wanted]))
        roots: dict[Pair, list[Pair]] = {}
        if wanted:
            async with self._database.reading() as connection:
                for row in await connection.execute(found.order_by(PARENTS.c.root_kind, PARENTS.c.root_id)):
                    roots.setdefault(Pair(row.kind, row.id), []).append(Pair(row.root_kind, row.root_id))
        return roots

    async def _read(self, nc: Client) -> None:
        config = ConsumerConfig(
            name=DURABLE,
            durable_name=DURABLE,
            filter_subjects=FILTER,
            ack_policy=AckPolicy.EXPLICIT,  # instances share the consumer: one must not acknowledge for another
            deliver_policy=DeliverPolicy.ALL,
            ack_wait=30,
        )
        js = nc.jetstream()
        self._unwritten = []  # not acknowledged, so they are delivered again
        await self._restore_position(js)
        await js.add_consumer(broker.STREAM, config)  # also if it is there, perhaps with the filter of an older version
        consumer = await js.pull_subscribe_bind(DURABLE, broker.STREAM)
        try:
            while True:
                broker.check_cancelled()
                await self._learn(await _fetch(consumer))
        finally:
            with contextlib.suppress(DatabaseAway, SQLAlchemyError, nats.errors.Error):  # then it is delivered again
                await self._write(set(), self.offset)
            await consumer.unsubscribe()

    async def _restore_position(self, js: JetStreamContext) -> None:
        """Continue at the database's position, or start over.

        It starts over if there is no consumer, because the stream is a new one. It also does if the consumer is ahead
        of the database, which was restored from a backup: acknowledged messages would not be delivered again.
        """
        try:
            acknowledged = (await js.consumer_info(broker.STREAM, DURABLE)).ack_floor
        except nats.js.errors.NotFoundError:
            await self._start_over()
            return
        async with self._database.reading() as connection:  # read after the consumer, so it can only be further
            self.offset = await counter(connection, PROJECTED_OFFSET)
        if acknowledged is not None and acknowledged.stream_seq > self.offset:
            log.warning("the parent projection is behind its consumer, reading the stream again", offset=self.offset)
            await js.delete_consumer(broker.STREAM, DURABLE)
            await self._start_over()

    async def _start_over(self) -> None:
        self.offset = 0
        async with self._database.writing() as tx:
            await set_counter(tx, PROJECTED_OFFSET, 0)

    async def _learn(self, messages: Sequence[Msg]) -> None:
        """Learn what is new at once. Write the position down when that is due."""
        self._unwritten += messages
        keys = await self._of_roots(await self._all_new_keys(messages))
        is_due = time.monotonic() >= self._written_at + WRITE_EVERY_S or len(self._unwritten) >= MAX_UNWRITTEN
        # A batch may be delivered again after a lost acknowledgement. The offset does not go back for it.
        offset = max([self.offset, *(message.metadata.sequence.stream for message in messages)])
        if keys or (self._unwritten and is_due):
            await self._write(keys, offset)
        self.offset = offset
        OFFSET.set(offset)
        self._moved.set()

    async def _all_new_keys(self, messages: Sequence[Msg]) -> set[RoomKey]:
        """Return the rooms below a root that events show for the first time. An invalid message shows none."""
        found: set[RoomKey] = set()
        self._fetched_at = asyncio.get_running_loop().time()
        for message in messages:
            try:
                found |= await self._new_keys(message)
            except (InvalidSubject, InvalidEvent):
                PASSED.inc()
            except Exception:
                PASSED.inc()
                log.exception("could not learn from a message", subject=message.subject[:200])
        return found

    async def _new_keys(self, message: Msg) -> set[RoomKey]:
        """Return the new rooms of one event. Raises InvalidSubject, InvalidEvent."""
        rooms = parse_subject(message.subject).rooms
        new = {key for key in rooms if key.pair != key.root and key not in self._seen}
        if not new or rooms[0].root.kind == USER:  # most events contain no new pair, so their body is not read
            return set()
        check_lifetime(message.headers)
        await self._check(message)
        return new

    async def _check(self, message: Msg) -> None:
        """Check an event against the catalogue, which is read again if the event's type is unknown."""
        catalogue = self._catalogues.current
        assert catalogue is not None, "the projection reads only with a catalogue"
        try:
            catalogue.check(message.subject, message.data)
        except InvalidEvent as error:
            newer = await self._newest_for(message) if error.reason in UNKNOWN else catalogue
            if newer is catalogue:
                raise
            newer.check(message.subject, message.data)

    async def _newest_for(self, message: Msg) -> Catalogue:
        """Return a catalogue that was read after the stream stored a message, as long as it takes.

        Its verdict is final: what an event shows is learnt now or never. A type may be pushed right before its first
        event. A read that began after the message was fetched counts, and one that began later than it was stored.
        """
        while True:
            broker.check_cancelled()
            fetched_ago = asyncio.get_running_loop().time() - self._fetched_at
            stored_ago = time.time() - message.metadata.timestamp.timestamp()
            max_age_s = max(fetched_ago, min(stored_ago - CLOCKS_S, MAX_AGE_S))
            newest = await self._catalogues.refresh(max_age_s=max_age_s)
            if newest is not None and self._catalogues.is_fresh:
                return newest
            await asyncio.sleep(RETRY_S)

    async def _of_roots(self, keys: Set[RoomKey]) -> Set[RoomKey]:
        """Return the keys whose root has members."""
        if not keys:
            return keys
        roots = {key.root for key in keys}
        found = select(MEMBERS.c.root_kind, MEMBERS.c.root_id).distinct()
        here = found.where(tuple_(MEMBERS.c.root_kind, MEMBERS.c.root_id).in_([(root.kind, root.id) for root in roots]))
        async with self._database.reading() as connection:
            there = {Pair(row.root_kind, row.root_id) for row in await connection.execute(here)}
        return {key for key in keys if key.root in there}

    async def _write(self, keys: Set[RoomKey], offset: int) -> None:
        """Write the keys and the position, and acknowledge up to it."""
        async with self._database.writing() as tx:
            for key in sorted(keys):
                row = {"kind": key.pair.kind, "id": key.pair.id, "root_kind": key.root.kind, "root_id": key.root.id}
                known = select(PARENTS.c.id).where(*(PARENTS.c[name] == value for name, value in row.items()))
                if await tx.scalar(known) is None:
                    await tx.execute(insert(PARENTS).values(**row))
            if offset > await counter(tx, PROJECTED_OFFSET):  # another auth process may be further
                await set_counter(tx, PROJECTED_OFFSET, offset)
        self._seen |= keys
        if len(self._seen) > 100_000:
            self._seen.clear()
        self._written_at = time.monotonic()
        written, self._unwritten = self._unwritten, []
        for message in written:
            await message.ack()


async def _fetch(consumer: JetStreamContext.PullSubscription) -> list[Msg]:
    """Fetch the next messages. Return none if none arrive within `WAIT_S` seconds."""
    try:
        return await consumer.fetch(BATCH, timeout=WAIT_S)
    except TimeoutError:  # nats-py's own is a subclass, and sometimes asyncio's is raised
        return []
