"""Keep the newest catalogue in a service that answers requests, and read it once more before something is refused.

    follower = CatalogueFollower()
    task = asyncio.create_task(follower.run(nc))
    …
    catalogue = follower.current
    if catalogue is None or type_ not in catalogue.types:
        catalogue = await follower.refresh()  # it may have been pushed a moment ago

A gateway does not use this. It judges each event by the revision that counts at its offset.
"""

import asyncio
import contextlib

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from beaconfire_kit import broker, logs
from beaconfire_kit.broker import CATALOGUE, LIVE_PREFIX, BrokerRefused
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.fragment import InvalidFragment
from beaconfire_kit.catalogue_store import CatalogueError, CatalogueStore, Head, UnknownRevision
from beaconfire_kit.key_value import BucketMissing

log = logs.get(__name__)

READ_TIMEOUT_S = 2.0
READ_EVERY_S = 0.25
READ_AGAIN_S = 30.0
"""A marker may not be heard, so the bucket is read from time to time."""
RETRY_S = 1.0
UNREADABLE = (CatalogueError, BucketMissing, InvalidFragment, BrokerRefused, nats.errors.Error, TimeoutError)


class CatalogueFollower:
    """The newest catalogue. Its revision only grows, unless the broker's storage was wiped and revisions start over."""

    def __init__(self, *, read_timeout_s: float = READ_TIMEOUT_S) -> None:
        self._read_timeout_s = read_timeout_s
        self.current: Catalogue | None = None
        """None until the first revision was read."""
        self._store: CatalogueStore | None = None
        self._reading: asyncio.Task[bool] | None = None
        self._head: Head | None = None
        """Of `current`."""
        self._began = 0.0
        """When the last read began, of the loop's clock."""
        self._ended = 0.0
        """When the last read that has ended began."""
        self.is_fresh = False
        """Whether the last read succeeded. If not, a type that `current` lacks may be in the catalogue."""
        self._why_not = "the catalogue was not read yet"

    def why_not_ready(self) -> str | None:
        """Return why there is no catalogue yet, for `/readyz`; None if there is one."""
        return self._why_not if self.current is None else None

    async def run(self, nc: Client) -> None:
        """Keep `current` up to date until cancelled.

        Needs `live.catalogue`, and STREAM.MSG.GET of the bucket and of the stream.
        """
        self._store = CatalogueStore(nc)
        changed = asyncio.Event()

        async def hear(_message: Msg) -> None:
            changed.set()  # only a hint: other users can have messages delivered here, the stream's marker is read

        subscription = await nc.subscribe(f"{LIVE_PREFIX}{CATALOGUE}", cb=hear)
        try:
            while True:
                broker.check_cancelled()
                changed.clear()
                is_read = await asyncio.shield(self._read_once())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(READ_AGAIN_S if is_read else RETRY_S):
                        await changed.wait()
        finally:
            if self._reading is not None:
                self._reading.cancel()
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()

    async def refresh(self, *, max_age_s: float = 0.0) -> Catalogue | None:
        """Read which revision counts, and return it, or the last known one, if that could not be read (`is_fresh`).

        The read begins after this call, or began up to `max_age_s` before it. Callers at the same time share it, and
        there are at most four in a second.
        """
        asked_at = asyncio.get_running_loop().time() - max_age_s
        while self._store is not None and self._ended <= asked_at:
            await asyncio.shield(self._read_once())
        return self.current

    def _read_once(self) -> asyncio.Task[bool]:
        """Return the read that runs, or begin one."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        return self._reading

    async def _read(self) -> bool:
        """Read which revision counts now, and load it if it is a newer one. Returns whether that succeeded."""
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(self._began + READ_EVERY_S - clock())
        self._began = clock()
        self.is_fresh = await self._try_to_load()
        self._ended = self._began
        return self.is_fresh

    async def _try_to_load(self) -> bool:
        try:
            async with asyncio.timeout(self._read_timeout_s):
                await self._load_newest()
        except UNREADABLE as error:
            self._why_not = f"the catalogue cannot be read: {error or 'the broker does not answer'}"
            log.warning("the catalogue cannot be read", error=type(error).__name__, reason=str(error)[:500])
            return False
        return self.current is not None

    async def _load_newest(self) -> None:
        assert self._store is not None
        head = await self._store.head()
        if head.revision is None:
            self._why_not = "there is no catalogue yet: run `beaconfire setup`"
        elif self._head is None or await self._is_newer(head, self._head):
            self.current = await self._store.load(head)
            self._head = head
            log.info("the catalogue has changed", revision=head.revision)

    async def _is_newer(self, head: Head, known: Head) -> bool:
        """Whether a head takes the place of the known one. A lower number does if the known one was wiped."""
        assert head.revision
        assert known.revision
        assert self._store
        if head.revision >= known.revision:
            return head.revision > known.revision or head.fragments != known.fragments
        try:
            await self._store.revision(known.revision)
        except UnknownRevision:
            return True
        return False
