"""The catalogue's revisions, read from the broker: which of them counts for which event (ADR 0032).

A push writes its documents into a bucket, and then a marker into the stream of events. A gateway hears both. So mostly
the documents are here before the marker, and the revision is taken up as soon as the marker is reached. If they are
not, `take_up` says so, and the intake holds until `read` has read them.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import nats.errors

from beaconfire_gateway.fanout.checking import Stored
from beaconfire_gateway.stream.replay import Reader
from beaconfire_kit import broker, errors, logs, metrics
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.fragment import Fragment, InvalidFragment
from beaconfire_kit.catalogue.profile import read_accepted
from beaconfire_kit.catalogue.timeline import Start, Timeline
from beaconfire_kit.catalogue_store import (
    BUCKET,
    CatalogueError,
    CatalogueStore,
    Committed,
    Marker,
    UnknownRevision,
    digest_of,
)
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.key_value import BucketMissing
from beaconfire_kit.reading import ReadFailed
from beaconfire_kit.seams.nats_direct import DirectClient

log = logs.get(__name__)

REVISION = metrics.Gauge(
    "beaconfire_gateway_catalogue_revision", "Revision of the catalogue against which the next event is checked."
)

ANSWER_S = 5.0
"""How long reading the catalogue may take before it is tried again."""
AGAIN_S = 1.0
"""A catalogue that could not be read is read again after this, or as soon as the bucket changes."""
NEWEST_EVERY_S = 0.25
"""Clients that name unknown types make the gateway read the newest revision at most this often."""
KEPT_FRAGMENTS = 1_000
"""Fragments that are kept although no revision here has them: those of pushes under way, and of old revisions."""
NO_CATALOGUE = "there is no catalogue: run `beaconfire setup`"

_FAILURES = (CatalogueError, BucketMissing, ReadFailed, broker.BrokerRefused, nats.errors.Error)
_KEY = f"$KV.{BUCKET}."
_DOCUMENT = f"{_KEY}fragment."


@dataclass(frozen=True, slots=True)
class _Planned:
    """A revision that counts behind an offset, and what it consists of."""

    offset: int
    revision: int
    fragments: Mapping[str, str]
    """The digest of each fragment's document, by the fragment's name."""


class CatalogueRevisions:
    """Implements `intake.Revisions` and `gateway.Newest`. One for each gateway. It fills the timeline.

    `spawn` runs a short task in the background, and owns it.
    """

    def __init__(
        self,
        nc: DirectClient,
        reader: Reader,
        timeline: Timeline,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        store: CatalogueStore | None = None,
    ) -> None:
        self._nc = nc
        self._reader = reader
        self._timeline = timeline
        self._spawn = spawn
        self._store = store or CatalogueStore(nc)
        self._fragments: dict[str, Fragment] = {}  # by digest
        self._catalogues: dict[tuple[int, frozenset[tuple[str, str]]], Catalogue] = {}  # by number and digests
        self._preloading = 0  # documents that were heard and are not read yet
        self._news = asyncio.Event()
        self._newest: Catalogue | None = None
        self._reading_newest = asyncio.Lock()
        self._newest_asked_at = float("-inf")
        self._has_newest = False  # whether the last read of it succeeded
        self.problem: str | None = None
        """Why the catalogue is not known, for operators. None while it is."""

    async def subscribe(self) -> None:
        """Hear from now on what is written into the bucket."""
        await self._nc.subscribe_direct(f"{_KEY}>", self._hear)

    # For the intake.

    def take_up(self, offset: int, body: bytes) -> bool:
        """A marker was reached. Judge what is behind it by its revision. False if that is not loaded."""
        if offset in self._timeline:
            return True
        try:
            marker = Marker.read(offset, body)
        except CatalogueError as error:
            log.error("ignored a message among the markers of the catalogue", offset=offset, reason=str(error))
            return True
        planned = _Planned(offset, marker.revision, marker.fragments)
        if not all(digest in self._fragments for digest in marker.fragments.values()):
            if not self._preloading:
                self._complain(f"waiting for revision {marker.revision} of the catalogue")
            return False
        try:
            catalogue = self._make(planned)
        except CatalogueError as error:
            self._complain(str(error))
            return False
        self._timeline.add(offset, catalogue)
        self._took_up(offset, catalogue)
        self._spawn(self._forget())
        return True

    async def preloaded(self) -> None:
        """Wait until the documents that were heard are read. A marker comes right behind them."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                while self._preloading:
                    self._news.clear()
                    await self._news.wait()

    def begin(self, starts: list[Start]) -> None:
        """Judge by these from now on."""
        before = self._timeline.current
        self._timeline.begin(starts)
        self._newest = None  # its number may be of a catalogue that was wiped with the stream
        self.problem = None
        offset, catalogue = starts[-1]
        if catalogue is not before:
            self._took_up(offset, catalogue)
        self._drop_unused()

    async def read(self, epoch: str, end: int) -> list[Start] | None:
        """Return which revisions count where, as the stream's markers up to `end` and the broker's bucket say.

        None, with `problem`, if that could not be read.
        """
        self._news.clear()
        try:
            async with asyncio.timeout(ANSWER_S):
                planned = await self._plan(epoch, end)
                if not planned:
                    self._complain(NO_CATALOGUE)
                    return None
                return await self._load(planned)
        except TimeoutError:
            self._complain("cannot read the catalogue: the broker does not answer")
        except _FAILURES as error:
            self._complain(f"cannot read the catalogue: {error or type(error).__name__}")
        return None

    async def wait(self) -> None:
        """Wait until it is worth reading again."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(AGAIN_S):
                await self._news.wait()

    # For sessions.

    @property
    def known(self) -> Catalogue:
        """The newest revision that was read, even if its marker has not been reached yet."""
        current = self._timeline.current
        return current if self._newest is None or self._newest.revision <= current.revision else self._newest

    async def newest(self) -> Catalogue:
        """Read the newest revision, as it is after this call. Raises BeaconfireError (`unavailable`).

        All calls while one read is under way share the next one.
        """
        loop = asyncio.get_running_loop()
        called_at = loop.time()
        async with self._reading_newest:
            if self._newest_asked_at <= called_at:
                await asyncio.sleep(self._newest_asked_at + NEWEST_EVERY_S - loop.time())
                self._newest_asked_at = loop.time()
                self._has_newest = await self._read_newest()
            if not self._has_newest:
                raise BeaconfireError(
                    errors.UNAVAILABLE, "could not read the catalogue, try again", retry_after_ms=1000
                )
        return self.known

    async def _read_newest(self) -> bool:
        """Try to read the newest revision. Returns whether it did."""
        try:
            async with asyncio.timeout(ANSWER_S):
                head = await self._store.head()
                if head.revision is not None and head.revision > self.known.revision:
                    await self._fetch(head.fragments.values())
                    self._newest = self._make(_Planned(head.marker, head.revision, head.fragments))
        except (TimeoutError, *_FAILURES) as error:
            log.warning("could not read the newest catalogue", reason=str(error) or type(error).__name__)
            return False
        return True

    # Which revision counts where.

    async def _plan(self, epoch: str, end: int) -> list[_Planned]:
        """Find out which revisions count where. Empty if there is no catalogue."""
        markers = await self._read_markers(end)
        committed = await self._store.committed()
        planned = [_Planned(marker.offset, marker.revision, marker.fragments) for marker in markers]
        if planned:
            planned.insert(0, await self._before(markers[0]))
        if committed is not None and (not planned or committed.revision > planned[-1].revision):
            # Its marker is too old for the stream, is behind `end`, or was in another stream.
            newest = await self._store.revision(committed.revision)
            since = _since(committed, planned, epoch)
            planned = [one for one in planned if one.offset < since]
            planned.append(_Planned(since, newest.number, newest.fragments))
        return planned

    async def _read_markers(self, end: int) -> list[Marker]:
        """Read the markers that the stream has up to a tick at `end`."""
        markers: list[Marker] = []

        def keep(offset: int, stored: Stored, _at: float) -> None:
            if stored.subject == broker.CATALOGUE:
                try:
                    markers.append(Marker.read(offset, stored.body))
                except CatalogueError as error:
                    log.error("ignored a message among the markers of the catalogue", offset=offset, reason=str(error))

        await self._reader.read(after=0, upto=end, on_message=keep, subjects=(broker.CATALOGUE, broker.TICK))
        return markers

    async def _before(self, oldest: Marker) -> _Planned:
        """Find what counts before the oldest marker. The first revision that there ever was counts from the start."""
        if oldest.previous is not None:
            try:
                revision = await self._store.revision(oldest.previous)
            except UnknownRevision:
                log.warning("judging by the next revision of the catalogue", lost=oldest.previous)
            else:
                return _Planned(0, revision.number, revision.fragments)
        return _Planned(0, oldest.revision, oldest.fragments)

    # Documents.

    async def _load(self, planned: list[_Planned]) -> list[Start]:
        """Load what is planned. Only the last one must be there. In place of another, the one behind it counts."""
        starts: list[Start] = []
        for one in reversed(planned):
            try:
                await self._fetch(one.fragments.values())
                starts.append((one.offset, self._make(one)))
            except CatalogueError as error:
                if not starts:
                    raise
                log.warning("judging by the next revision of the catalogue", lost=one.revision, reason=str(error))
                starts.append((one.offset, starts[-1][1]))
        return starts[::-1]

    async def _fetch(self, digests: Iterable[str]) -> None:
        """Have these fragments here. Raises CatalogueError."""
        for digest in digests:
            if digest not in self._fragments:
                await self._keep(digest, await self._store.document(digest))

    async def _keep(self, digest: str, document: Mapping[str, Any]) -> None:
        """Read a document. In a thread, because a great one takes some tenths of a second."""
        try:
            self._fragments[digest] = await asyncio.to_thread(read_accepted, document)
        except InvalidFragment as error:
            raise CatalogueError(f"this version of the gateway cannot read the document {digest}: {error}") from None

    def _make(self, planned: _Planned) -> Catalogue:
        """Return a revision whose fragments are here; always the same object. Raises CatalogueError."""
        key = planned.revision, frozenset(planned.fragments.items())
        catalogue = self._catalogues.get(key)
        if catalogue is None:
            fragments = {name: self._fragments[digest] for name, digest in planned.fragments.items()}
            try:
                catalogue = Catalogue.of(planned.revision, fragments)
            except InvalidFragment as error:
                raise CatalogueError(
                    f"this version of the gateway cannot read revision {planned.revision} of the catalogue: {error}"
                ) from None
            self._catalogues[key] = catalogue
        return catalogue

    def _hear(self, subject: bytes, _reply: bytes, body: bytes, _headers: bytes | None) -> None:
        """Something was written into the bucket: read a document before its marker comes."""
        key = subject.decode(errors="replace")
        digest = key.removeprefix(_DOCUMENT)
        if digest != key and body and digest not in self._fragments:
            self._preloading += 1
            self._spawn(self._preload(digest, body))
        else:
            self._news.set()

    async def _preload(self, digest: str, body: bytes) -> None:
        try:
            document = json.loads(body)
            if digest_of(document) == digest:
                await self._keep(digest, document)
        except (ValueError, RecursionError, CatalogueError) as error:
            log.warning("could not read a document of the catalogue", digest=digest, reason=str(error)[:300])
        finally:
            self._preloading -= 1
            self._news.set()

    async def _forget(self) -> None:
        """Forget revisions that no event of the stream needs any more."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                self._timeline.forget((await self._reader.stream_state()).first)
        self._drop_unused()

    def _drop_unused(self) -> None:
        used = self._timeline.catalogues()
        self._catalogues = {key: one for key, one in self._catalogues.items() if one in used or one is self._newest}
        if len(self._fragments) > KEPT_FRAGMENTS:
            needed = {id(fragment) for one in used for fragment in one.fragments.values()}
            self._fragments = {digest: one for digest, one in self._fragments.items() if id(one) in needed}

    def _took_up(self, offset: int, catalogue: Catalogue) -> None:
        self.problem = None
        REVISION.set(self._timeline.current.revision)
        log.info(
            "took up a revision of the catalogue",
            revision=catalogue.revision,
            offset=offset,
            fragments=sorted(catalogue.fragments),
        )

    def _complain(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            log.warning("the catalogue is not known", reason=problem)


def _since(committed: Committed, planned: list[_Planned], epoch: str) -> int:
    """Return the offset behind which a revision counts whose marker was not read."""
    if not planned:
        return 0
    return max(committed.offset, planned[-1].offset) if committed.epoch == epoch else planned[-1].offset
