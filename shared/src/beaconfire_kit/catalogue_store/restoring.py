"""Rebuild the catalogue's bucket after it was lost, from the documents that it had."""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from beaconfire_kit.catalogue_store.reading import CatalogueReader
from beaconfire_kit.catalogue_store.records import CatalogueError, Document, Revision, as_json, digest_of
from beaconfire_kit.catalogue_store.reviewing import read


@dataclass(frozen=True, slots=True)
class Missing:
    """A document that a revision needs, and that is nowhere."""

    revision: int
    fragment: str
    digest: str
    is_given: bool
    """Whether a document of this fragment was given, although another version of it."""

    def __str__(self) -> str:
        why = "the given document is another version of it" if self.is_given else "it was not given"
        return f"{self.fragment} as of revision {self.revision} (sha256 {self.digest[:16]}…): {why}"


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of a restore."""

    revision: int
    """The revision that counts now."""
    written: tuple[int, ...]
    """Every revision whose manifest or documents were missing before."""
    missing: tuple[Missing, ...]
    """What older revisions still lack, which events in the stream need."""


class CannotRestore(CatalogueError):
    """Documents that the catalogue needs are neither in the bucket nor among those that were given."""

    def __init__(self, missing: Sequence[Missing]) -> None:
        lines = "\n".join(f"  {one}" for one in missing)
        super().__init__(f"documents of the catalogue are missing:\n{lines}")
        self.missing = tuple(missing)


class Restoring:
    """One restore, from these documents."""

    def __init__(self, reader: CatalogueReader, documents: Iterable[Document], *, by: str) -> None:
        self._reader = reader
        self._bucket = reader.bucket
        self._given = {name: fragment.document for name, fragment in read(documents).items()}
        self._found = {digest_of(document): document for document in self._given.values()}
        self._by = by

    async def run(self, *, accept_different: bool) -> Restored:
        """Write what the bucket lacks (`CatalogueStore.restore`)."""
        wanted = await self._wanted()
        if not wanted:
            raise CatalogueError("there is nothing to restore: no revision was ever committed. Push the fragments")
        missing: list[Missing] = []
        written: list[int] = []
        for revision in wanted:
            lacks = await self._lacking(revision)
            if accept_different:
                self._found |= {one.digest: self._given[one.fragment] for one in lacks if one.is_given}
                lacks = [one for one in lacks if not one.is_given]
            if lacks and revision is wanted[0]:
                raise CannotRestore(lacks)
            missing += lacks
            if not lacks and await self._write(revision):
                written.append(revision.number)
        return Restored(wanted[0].number, tuple(written), tuple(missing))

    async def _wanted(self) -> list[Revision]:
        """Return the revisions that count for the stream, newest first, with all that is still known of them."""
        markers, committed = await self._reader.markers(), await self._reader.committed()
        now = datetime.now(UTC)
        known = [Revision(one.revision, one.previous, one.fragments, now, self._by, "restored") for one in markers]
        if committed and committed.revision not in [revision.number for revision in known]:
            # The marker is too old for the stream. Without the manifest too, the given documents are taken as they are.
            value = await self._bucket.get(f"rev.{committed.revision}")
            digests = {name: digest_of(document) for name, document in self._given.items()}
            as_given = Revision(committed.revision, None, digests, now, self._by, "restored")
            known.append((Revision.decoded(value) if value else None) or as_given)
        return sorted(known, key=lambda revision: revision.number, reverse=True)

    async def _lacking(self, revision: Revision) -> list[Missing]:
        return [
            Missing(revision.number, name, digest, name in self._given)
            for name, digest in revision.fragments.items()
            if digest not in self._found and await self._bucket.get(f"fragment.{digest}") is None
        ]

    async def _write(self, revision: Revision) -> bool:
        """Write what the bucket lacks of a revision. Returns whether it lacked something."""
        lacking = [
            digest
            for digest in revision.fragments.values()
            if digest in self._found and await self._bucket.get(f"fragment.{digest}") is None
        ]
        for digest in lacking:
            await self._bucket.put(f"fragment.{digest}", as_json(self._found[digest]))
        manifest = await self._bucket.last(f"rev.{revision.number}")
        if manifest is None or manifest.deleted:
            at = manifest.at if manifest else 0
            await self._bucket.put(f"rev.{revision.number}", revision.encoded(uuid.uuid4().hex), after=at)
            return True
        return bool(lacking)
