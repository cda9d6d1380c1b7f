"""Change the catalogue in the broker, whatever fails in between."""

import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from nats.aio.client import Client

from beaconfire_kit import broker, logs
from beaconfire_kit.broker import CATALOGUE, STREAM, BrokerRefused, WrongSequence
from beaconfire_kit.catalogue import plain
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.compatibility import Changes
from beaconfire_kit.catalogue_store.reading import CatalogueReader, chain_of, each
from beaconfire_kit.catalogue_store.records import (
    COMMITTED,
    Committed,
    Document,
    Fragments,
    Head,
    Marker,
    Revision,
    StreamLacksSubjects,
    as_json,
    digest_of,
)
from beaconfire_kit.catalogue_store.restoring import Restored, Restoring
from beaconfire_kit.catalogue_store.reviewing import (
    Change,
    adding_to,
    changes_of,
    check_count,
    read,
    removing,
    replacing,
)
from beaconfire_kit.key_value import EXPECTED, Entry

log = logs.get(__name__)

MAX_BYTES = 1024**3
"""Room for 5,000 documents of the greatest size."""
MAX_VALUE_BYTES = plain.MAX_BYTES + 1_024
KEPT_REVISIONS = 20
"""Revisions that `rollback` can go back to, although no event in the stream needs them any more."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What came of a push."""

    revision: int
    offset: int
    """The offset of the revision's marker. 0 if it is not in the stream any more."""
    changed: bool
    """False if the catalogue was like this before, so that no revision was made."""
    changes: Mapping[str, Changes]
    """What is different in each fragment that changed in a way that matters to events."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """A change that was checked against a head."""

    head: Head
    wanted: Fragments
    changes: Mapping[str, Changes]
    digests: Mapping[str, str]
    lacking: Sequence[str]
    """Subjects that the stream must take first."""
    epoch: str


class CatalogueStore(CatalogueReader):
    """Reads and changes the catalogue of a deployment."""

    def __init__(self, nc: Client) -> None:
        super().__init__(nc)
        self.uncertain: int | None = None
        """The revision whose marker was sent and not yet acknowledged: it may have committed."""

    async def prepare(self, *, replicas: int | None = None) -> None:
        """Create the bucket or update its configuration, as user `setup`."""
        await self.bucket.declare(replicas=replicas, max_bytes=MAX_BYTES, max_value_bytes=MAX_VALUE_BYTES)

    async def push(self, documents: Iterable[Document], *, by: str, allow_removals: bool = False) -> Pushed:
        """Put fragments into the catalogue, each in place of the one of the same name, as one revision.

        If the catalogue has all of them already, nothing is written. With `allow_removals`, the push may take types
        out, and do nothing else. Raises InvalidFragment if a document is no fragment, does not go together with the
        others, or would break events that are valid. Raises RemovalRefused, CatalogueError.
        """
        new = read(documents)
        change = replacing(new, allow_removals=allow_removals)
        return await self._commit(change, by=by, about=f"push {', '.join(new)}")

    async def check(self, documents: Iterable[Document], *, allow_removals: bool = False) -> Pushed:
        """Check a push without changing anything. Returns the revision that counts now, and raises as `push` does."""
        plan = await self._plan(replacing(read(documents), allow_removals=allow_removals))
        changed = plan.digests != plan.head.fragments
        return Pushed(plan.head.revision or 0, plan.head.marker, changed=changed, changes=plan.changes)

    async def push_builtin(self, fragments: Fragments, *, by: str) -> Pushed:
        """Push the fragments that come with Beaconfire, except those of which the catalogue has a later version.

        Ours never take anything away. Raises InvalidFragment if another fragment has one of our types or roots.
        """
        return await self._commit(adding_to(fragments), by=by, about="built-in fragments")

    async def remove(self, names: Sequence[str], *, by: str) -> Pushed:
        """Take fragments out of the catalogue. Raises UnknownFragment, InvalidFragment, CatalogueError."""
        return await self._commit(removing(names), by=by, about=f"remove {', '.join(names)}")

    async def rollback(self, number: int, *, by: str) -> Pushed:
        """Make a new revision that is like an older one. Raises UnknownRevision, CatalogueError."""
        back = await self.fragments((await self.revision(number)).fragments)
        return await self._commit(lambda _there: back, by=by, about=f"rollback to {number}")

    async def restore(self, documents: Iterable[Document], *, by: str, accept_different: bool = False) -> Restored:
        """Write what the bucket has lost, from the documents that it had. The stream's markers say which these are.

        With `accept_different`, another version of a fragment takes the place of one that is nowhere. Raises
        CannotRestore if the revision that counts now would not be complete, and then writes nothing. Raises
        InvalidFragment, CatalogueError.
        """
        restored = await Restoring(self, documents, by=by).run(accept_different=accept_different)
        await self.heal()
        return restored

    async def heal(self) -> None:
        """Complete a push that died after its marker was stored."""
        marker = await self.last_marker()
        if marker is None:
            return
        committed = await self.committed()
        if committed is None or committed.revision < marker.revision:
            await self._write_committed(
                Committed(marker.revision, marker.offset, broker.epoch_of(await self._stream()))
            )

    async def _commit(self, change: Change, *, by: str, about: str) -> Pushed:
        await self.heal()
        while True:
            plan = await self._plan(change)
            head = plan.head
            if plan.digests == head.fragments and head.revision is not None:
                return Pushed(head.revision, head.marker, changed=False, changes={})
            if plan.lacking:
                raise StreamLacksSubjects(plan.lacking)
            revision = await self._write_revision(head, plan.digests, by=by, about=about)
            await self._write_documents(fragment.document for fragment in plan.wanted.values())
            self.uncertain = revision.number
            try:
                offset = await self._mark(revision, head)
            except BrokerRefused:
                self.uncertain = None
                await self._discard(revision.number)
                await self._prune()
                raise
            self.uncertain = None
            if offset is not None:
                break
            log.info("another push was faster, checking again", revision=revision.number)
            await self._discard(revision.number)
            await self._prune()
        await self._write_committed(Committed(revision.number, offset, plan.epoch))
        await self._prune()
        return Pushed(revision.number, offset, changed=True, changes=plan.changes)

    async def _plan(self, change: Change) -> "_Plan":
        """Read the head and check a change against it. Raises what `change` raises, InvalidFragment, CatalogueError."""
        config = await self._stream()
        head = await self.head()
        there = await self.fragments(head.fragments)
        wanted = change(there)
        check_count(wanted)
        lacking = set(Catalogue.of(0, wanted).stream_subjects).difference(config["subjects"])
        digests = {name: digest_of(fragment.document) for name, fragment in wanted.items()}
        return _Plan(head, wanted, changes_of(there, wanted), digests, sorted(lacking), broker.epoch_of(config))

    async def _write_revision(self, head: Head, fragments: Mapping[str, str], *, by: str, about: str) -> Revision:
        """Write the manifest of a new revision under a number that was never used."""
        names = [key.removeprefix("rev.") for key in await self.bucket.keys("rev.*")]
        used = [int(name) for name in names if name.isdecimal()]
        number = max([*used, head.revision or 0])
        while True:
            number += 1
            revision = Revision(number, head.revision, fragments, datetime.now(UTC), by, about)
            try:
                await self.bucket.put(f"rev.{number}", revision.encoded(uuid.uuid4().hex), after=0)
            except WrongSequence:  # another push has taken it since
                continue
            return revision

    async def _write_documents(self, documents: Iterable[Document]) -> None:
        """Write documents, even those that are there: a push that deletes unused ones may have listed them before."""

        async def write(document: Document) -> None:
            await self.bucket.put(f"fragment.{digest_of(document)}", as_json(document))

        await each(write, documents)

    async def _mark(self, revision: Revision, head: Head) -> int | None:
        """Publish the marker. Returns its offset, or None if another push has committed since the head was read.

        Repeats it until either is certain. So this revision's manifest may be deleted afterwards, also if this raises
        BrokerRefused, because the broker takes no marker at all.
        """
        body = Marker.body_of(revision)
        try:
            return await broker.publish(
                self.connection,
                CATALOGUE,
                body,
                message_id=f"catalogue-{revision.number}-{hashlib.sha256(body).hexdigest()[:16]}",
                headers={EXPECTED: str(head.marker)},
            )
        except BrokerRefused as refused:
            # An attempt that looked lost may be the one that was stored.
            markers = await self.markers(after=head.marker)
            own = next((marker.offset for marker in markers if marker.revision == revision.number), None)
            if own is None and not isinstance(refused, WrongSequence):
                raise
            return own

    async def _write_committed(self, committed: Committed) -> None:
        """Write which revision counts, unless a newer one is written there already."""
        while True:
            there = await self.bucket.last(COMMITTED)
            if (
                there is not None
                and not there.deleted
                and Committed.decoded(there.value).revision >= committed.revision
            ):
                return
            try:
                await self.bucket.put(COMMITTED, committed.encoded(), after=there.at if there else 0)
            except WrongSequence:
                continue
            return

    async def _prune(self) -> None:
        """Delete revisions that no event in the stream and no rollback needs, pushes that lost, and their documents.

        A manifest with a number below the head's that is not in the chain of committed ones can never commit: its
        marker expects a head that was replaced. One with a greater number may still commit, so it stays.
        """
        keys = await self.bucket.keys("fragment.*")
        documents = dict(zip(keys, await each(self.bucket.last, keys), strict=True))
        # Read after the documents, because a push writes its manifest before its documents.
        everything = await self.manifests()
        committed = await self.committed()
        if committed is None:
            return
        markers = await self.markers()
        needed_from = (markers[0].previous or markers[0].revision) if markers else committed.revision
        chain = chain_of(everything, committed.revision)
        if not chain or (chain[-1] > needed_from and everything[chain[-1]].previous is not None):
            return  # some were lost: what is behind them may be needed
        kept = {number for at, number in enumerate(chain) if at < KEPT_REVISIONS or number >= needed_from}
        passed = [number for number in everything if number < committed.revision and number not in kept]
        await each(lambda number: self._discard(number, forget=True), passed)
        stays = {
            digest for number in everything if number not in passed for digest in everything[number].fragments.values()
        }
        for key, entry in documents.items():
            if entry and not entry.deleted and key.removeprefix("fragment.") not in stays:
                await self._delete(key, entry)

    async def _discard(self, number: int, *, forget: bool = False) -> None:
        """Delete the manifest of a revision that cannot commit any more. Its number stays used, unless forgotten."""
        entry = await self.bucket.last(f"rev.{number}")
        if entry is not None and not entry.deleted:
            await self._delete(f"rev.{number}", entry, forget=forget)

    async def _delete(self, key: str, entry: Entry, *, forget: bool = True) -> None:
        try:
            await self.bucket.delete(key, after=entry.at, forget=forget)
        except WrongSequence:  # another push wrote it again, so it needs it, or deleted it
            log.debug("not deleted, it changed", key=key)

    async def _stream(self) -> dict[str, Any]:
        """Return the configuration of the stream of events."""
        config = await broker.config_of(self.connection, STREAM)
        if not config:
            raise BrokerRefused(f"there is no stream {STREAM}: `beaconfire setup` declares it")
        return config
