"""The catalogue in the broker: its revisions in a key-value bucket, and the marker in the stream that commits one.

    store = CatalogueStore(nc)  # user `catalogue`
    pushed = await store.push([document], by="ci@logistics")
    catalogue = await store.load(pushed.revision)

A push must never leave two gateways with different catalogues, whatever fails in between (ADR 0033):

1. It reads the head: the last marker in the stream, and the revision that this commits. It checks itself against that.
2. It writes `rev.N`, the manifest of the new revision, under a number that was never used, and then its documents.
3. It publishes the marker into the stream, if the head's marker is still the last one there. *This commits.*
4. It writes `committed`, so that the revision is found when the marker is too old for the stream.

A push that loses the race at 3 deletes its own `rev.N` and begins again. A push that gets no answer at 3 repeats the
marker until it knows: either it is stored, or another one is, and then this one never can be. What a push leaves behind
that died before 3 is deleted by a later one, as soon as that has committed. What it leaves after 3, `heal` completes.

Every call waits for the broker as long as it takes: bound it with `asyncio.timeout`.
"""

import asyncio
import base64
import hashlib
import json
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from nats.aio.client import Client

from beaconfire_kit import broker, logs
from beaconfire_kit.broker import CATALOGUE, MESSAGE_NOT_FOUND, STREAM, STREAM_NOT_FOUND, BrokerRefused, WrongSequence
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.compatibility import Changes, compare
from beaconfire_kit.catalogue.fragment import Fragment, InvalidFragment
from beaconfire_kit.catalogue.profile import read_fragment
from beaconfire_kit.key_value import EXPECTED, Entry, KeyValue

log = logs.get(__name__)

BUCKET = "CATALOGUE"
KV_STREAM = f"KV_{BUCKET}"
COMMITTED = "committed"
MAX_BYTES = 1024**3
"""Room for 5,000 documents of the greatest size."""
MAX_DOCUMENT_BYTES = 200 * 1024
MAX_VALUE_BYTES = MAX_DOCUMENT_BYTES + 1_024
MAX_FRAGMENTS = 400
"""A marker names all of them, and it is a message of the stream, so it must fit into 64 KiB."""
KEPT_REVISIONS = 20
"""Revisions that `rollback` can go back to, although no event in the stream needs them any more."""
AT_ONCE = 32
MAX_REMEMBERED = 1_000

T = TypeVar("T")
R = TypeVar("R")
Document = Mapping[str, Any]
Fragments = Mapping[str, Fragment]
"""By name."""


class CatalogueError(Exception):
    """The catalogue cannot be read or changed. The text says why, and what to do."""


class CatalogueLost(CatalogueError):
    """The bucket lacks a revision that the stream says is committed."""


class UnknownRevision(CatalogueError):
    """There is no such revision, or it is not kept any more."""


class CannotRestore(CatalogueError):
    """Documents that the catalogue needs are neither in the bucket nor among those that were given."""

    def __init__(self, missing: "Sequence[Missing]") -> None:
        lines = "\n".join(f"  {one}" for one in missing)
        super().__init__(f"documents of the catalogue are missing:\n{lines}")
        self.missing = tuple(missing)


class UnknownFragment(CatalogueError):
    """The catalogue has no fragment of that name."""


class RemovalRefused(CatalogueError):
    """A push would remove types that it was not meant to remove, or would do so together with other changes."""


class StreamLacksSubjects(CatalogueError):
    """The stream does not store the events of a root that a push declares. Nothing was pushed."""

    def __init__(self, subjects: Sequence[str]) -> None:
        super().__init__(
            f"the stream {STREAM} does not take {', '.join(subjects)} yet. The broker user `setup` must add "
            "that before the push, or the first events would be lost"
        )
        self.subjects = tuple(subjects)


@dataclass(frozen=True, slots=True)
class Revision:
    """What the catalogue consisted of at one time."""

    number: int
    previous: int | None
    """The revision that was committed before. None for the first one."""
    fragments: Mapping[str, str]
    """The digest of each fragment's document, by the fragment's name."""
    pushed_at: datetime
    by: str
    """The person or program that pushed it."""
    about: str
    """What the push was: `push logistics`, `rollback to 3`."""

    def _encoded(self, push: str) -> bytes:
        return _json(
            {
                "revision": self.number,
                "previous": self.previous,
                "fragments": dict(self.fragments),
                "pushedAt": self.pushed_at.isoformat(),
                "by": self.by,
                "about": self.about,
                "push": push,
            }
        )

    @classmethod
    def _decoded(cls, value: bytes) -> "Revision":
        found = json.loads(value)
        return cls(
            number=found["revision"],
            previous=found["previous"],
            fragments=found["fragments"],
            pushed_at=datetime.fromisoformat(found["pushedAt"]),
            by=found["by"],
            about=found["about"],
        )


@dataclass(frozen=True, slots=True)
class Marker:
    """A message of the stream: from its offset on, this revision counts."""

    offset: int
    revision: int
    previous: int | None
    fragments: Mapping[str, str]

    @classmethod
    def read(cls, offset: int, body: bytes) -> "Marker":
        """Read the body of a marker. Raises CatalogueError if it is none."""
        try:
            found = json.loads(body)
            marker = cls(offset, found["revision"], found["previous"], dict(found["fragments"]))
        except (ValueError, KeyError, TypeError):
            raise CatalogueError(f"the message at offset {offset} of the stream is no marker of a catalogue") from None
        if type(marker.revision) is not int:
            raise CatalogueError(f"the marker at offset {offset} of the stream has no revision number")
        return marker


@dataclass(frozen=True, slots=True)
class Committed:
    """The revision that counts now, as the bucket knows it."""

    revision: int
    offset: int
    """The offset of its marker, in this epoch. In another epoch the revision counts from the first offset."""
    epoch: str


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


@dataclass(frozen=True, slots=True)
class Head:
    """What a push is checked against."""

    revision: int | None
    fragments: Mapping[str, str]
    marker: int
    """The offset of the last marker in the stream; 0 if it has none."""


Change = Callable[[Fragments], Fragments]
"""From the fragments of the head to those of the new revision. Raises to refuse the push."""


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


class CatalogueStore:
    """Reads and pushes the catalogue of a deployment. Readers need `STREAM.MSG.GET` of the bucket and of the stream."""

    def __init__(self, nc: Client) -> None:
        self.connection = nc
        self.uncertain: int | None = None
        """The revision whose marker was sent and not yet acknowledged: it may have committed."""
        self._bucket = KeyValue(nc, BUCKET)

    async def prepare(self, *, replicas: int | None = None) -> None:
        """Create the bucket or update its configuration, as user `setup`."""
        await self._bucket.declare(replicas=replicas, max_bytes=MAX_BYTES, max_value_bytes=MAX_VALUE_BYTES)

    # --- reading

    async def committed(self) -> Committed | None:
        """Return which revision counts now, as the bucket knows it; None before the first push.

        After a pusher died at a bad moment, the stream's last marker may be newer. Raises BucketMissing.
        """
        value = await self._bucket.get(COMMITTED)
        return None if value is None else Committed(**json.loads(value))

    async def head(self) -> Head:
        """Return which revision counts now, as the stream and the bucket know it together. Raises BucketMissing."""
        marker, committed = await asyncio.gather(self.last_marker(), self.committed())
        at = marker.offset if marker else 0
        if committed and (marker is None or committed.revision > marker.revision):
            # The marker is too old for the stream, or the stream was made again or restored from a backup.
            return Head(committed.revision, (await self._committed_revision(committed.revision)).fragments, at)
        return Head(marker.revision, marker.fragments, at) if marker else Head(None, {}, 0)

    async def revision(self, number: int) -> Revision:
        """Return a revision. Raises UnknownRevision, BucketMissing."""
        value = await self._bucket.get(f"rev.{number}")
        if value is None:
            raise UnknownRevision(f"the catalogue has no revision {number}: `beaconfire catalogue list` shows them")
        return Revision._decoded(value)

    async def _committed_revision(self, number: int) -> Revision:
        try:
            return await self.revision(number)
        except UnknownRevision:
            raise CatalogueLost(
                f"the bucket {BUCKET} lacks revision {number}, which counts now: `beaconfire catalogue restore`"
            ) from None

    async def document(self, digest: str) -> Document:
        """Return a fragment's document. Raises CatalogueLost if the bucket does not have it."""
        value = await self._bucket.get(f"fragment.{digest}")
        if value is None:
            raise CatalogueLost(f"the bucket {BUCKET} lacks the document {digest}: `beaconfire catalogue restore`")
        document: Document = json.loads(value)
        return document

    async def fragments(self, digests: Mapping[str, str]) -> Fragments:
        """Return the fragments of a revision, of a head or of a marker. Raises CatalogueLost."""
        found = await _each(self._fragment, digests.values())
        return dict(zip(digests, found, strict=True))

    async def load(self, revision: "int | Revision | Marker") -> Catalogue:
        """Return the catalogue of a revision. Raises UnknownRevision, CatalogueLost."""
        if isinstance(revision, int):
            revision = await self.revision(revision)
        number = revision.revision if isinstance(revision, Marker) else revision.number
        return Catalogue.of(number, await self.fragments(revision.fragments))

    async def _fragment(self, digest: str) -> Fragment:
        if (known := _fragments.get(digest)) is None:
            known = read_fragment(await self.document(digest))
            _remember(digest, known)
        return known

    async def revisions(self) -> list[Revision]:
        """Return the committed revisions that are kept, newest first."""
        head = await self.head()
        everything = await self._everything()
        return [everything[number] for number in _chain(everything, head.revision)]

    async def markers(self, *, after: int = 0) -> list[Marker]:
        """Return the markers that the stream has after an offset."""
        markers: list[Marker] = []
        while (marker := await self._marker({"seq": after + 1, "next_by_subj": CATALOGUE})) is not None:
            markers.append(marker)
            after = marker.offset
        return markers

    async def last_marker(self) -> Marker | None:
        """Return the last marker of the stream."""
        return await self._marker({"last_by_subj": CATALOGUE})

    async def _marker(self, which: Mapping[str, Any]) -> Marker | None:
        absent = frozenset({MESSAGE_NOT_FOUND, STREAM_NOT_FOUND})
        found = await broker.call_api(self.connection, f"STREAM.MSG.GET.{STREAM}", which, missing=absent)
        if found is None:
            return None
        return Marker.read(found["message"]["seq"], base64.b64decode(found["message"].get("data", "")))

    async def _everything(self) -> dict[int, Revision]:
        """Return every manifest in the bucket by its number, also those of pushes that did not commit."""
        keys = await self._bucket.keys("rev.*")
        values = await _each(self._bucket.get, keys)
        found = [Revision._decoded(value) for value in values if value is not None]
        return {revision.number: revision for revision in found}

    # --- changing

    async def push(self, documents: Iterable[Document], *, by: str, allow_removals: bool = False) -> Pushed:
        """Put fragments into the catalogue, each in place of the one of the same name, as one revision.

        If the catalogue has all of them already, nothing is written. With `allow_removals`, the push may take types
        out, and do nothing else. Raises InvalidFragment if a document is no fragment, does not go together with the
        others, or would break events that are valid. Raises RemovalRefused, CatalogueError.
        """
        new = _read(documents)
        return await self._commit(_replacing(new, allow_removals), by=by, about=f"push {', '.join(new)}")

    async def check(self, documents: Iterable[Document], *, allow_removals: bool = False) -> Pushed:
        """Check a push without changing anything. Returns the revision that counts now, and raises as `push` does."""
        plan = await self._plan(_replacing(_read(documents), allow_removals))
        changed = plan.digests != plan.head.fragments
        return Pushed(plan.head.revision or 0, plan.head.marker, changed=changed, changes=plan.changes)

    async def push_builtin(self, documents: Iterable[Document], *, by: str) -> Pushed:
        """Push the fragments that come with Beaconfire, except those of which the catalogue has a later version.

        Ours never take anything away. Raises InvalidFragment if another fragment has one of our types or roots.
        """
        ours = _read(documents)

        def change(there: Fragments) -> Fragments:
            return {**there, **{name: one for name, one in ours.items() if _is_older(there.get(name), one)}}

        return await self._commit(change, by=by, about="built-in fragments")

    async def remove(self, names: Iterable[str], *, by: str) -> Pushed:
        """Take fragments out of the catalogue. Raises UnknownFragment, InvalidFragment, CatalogueError."""
        gone = tuple(names)

        def change(there: Fragments) -> Fragments:
            for name in gone:
                if name not in there:
                    raise UnknownFragment(
                        f"the catalogue has no fragment {name!r}. It has {', '.join(there) or 'none'}"
                    )
            return {name: fragment for name, fragment in there.items() if name not in gone}

        return await self._commit(change, by=by, about=f"remove {', '.join(gone)}")

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
        given = {fragment.name: fragment.document for fragment in map(read_fragment, documents)}
        wanted = await self._lost_revisions(given, by)
        if not wanted:
            raise CatalogueError("there is nothing to restore: no revision was ever committed. Push the fragments")
        found = {digest_of(document): document for document in given.values()}
        missing: list[Missing] = []
        written: list[int] = []
        for revision in wanted:
            lacks = [
                Missing(revision.number, name, digest, name in given)
                for name, digest in revision.fragments.items()
                if digest not in found and await self._bucket.get(f"fragment.{digest}") is None
            ]
            if accept_different:
                found |= {one.digest: given[one.fragment] for one in lacks if one.is_given}
                lacks = [one for one in lacks if not one.is_given]
            if lacks and revision is wanted[0]:
                raise CannotRestore(lacks)
            missing += lacks
            if not lacks and await self._write_again(revision, found):
                written.append(revision.number)
        await self.heal()
        return Restored(wanted[0].number, tuple(written), tuple(missing))

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
            offset = await self._mark(revision, head)
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
        lacking = set(Catalogue.of(0, wanted).stream_subjects).difference(config["subjects"])
        digests = {name: digest_of(fragment.document) for name, fragment in wanted.items()}
        return _Plan(head, wanted, changes_of(there, wanted), digests, sorted(lacking), broker.epoch_of(config))

    async def _lost_revisions(self, given: Mapping[str, Document], by: str) -> list[Revision]:
        """Return the revisions that count for the stream, newest first, with all that is still known of them."""
        markers, committed = await self.markers(), await self.committed()
        now = datetime.now(UTC)
        known = [Revision(one.revision, one.previous, one.fragments, now, by, "restored") for one in markers]
        if committed and committed.revision not in [revision.number for revision in known]:
            # The marker is too old for the stream. Without the manifest too, the given documents are taken as they are.
            value = await self._bucket.get(f"rev.{committed.revision}")
            digests = {name: digest_of(document) for name, document in given.items()}
            as_given = Revision(committed.revision, None, digests, now, by, "restored")
            known.append(Revision._decoded(value) if value else as_given)
        return sorted(known, key=lambda revision: revision.number, reverse=True)

    async def _write_again(self, revision: Revision, documents: Mapping[str, Document]) -> bool:
        """Write what the bucket lacks of a revision. Returns whether it lacked something."""
        lacking = [
            digest
            for digest in revision.fragments.values()
            if digest in documents and await self._bucket.get(f"fragment.{digest}") is None
        ]
        for digest in lacking:
            await self._bucket.put(f"fragment.{digest}", _json(documents[digest]))
        manifest = await self._bucket.last(f"rev.{revision.number}")
        if manifest is None or manifest.deleted:
            at = manifest.at if manifest else 0
            await self._bucket.put(f"rev.{revision.number}", revision._encoded(uuid.uuid4().hex), after=at)
            return True
        return bool(lacking)

    async def _write_revision(self, head: Head, fragments: Mapping[str, str], *, by: str, about: str) -> Revision:
        """Write the manifest of a new revision under a number that was never used."""
        used = [int(key.removeprefix("rev.")) for key in await self._bucket.keys("rev.*")]
        number = max([*used, head.revision or 0])
        while True:
            number += 1
            revision = Revision(number, head.revision, fragments, datetime.now(UTC), by, about)
            try:
                await self._bucket.put(f"rev.{number}", revision._encoded(uuid.uuid4().hex), after=0)
            except WrongSequence:  # another push has taken it since
                continue
            return revision

    async def _write_documents(self, documents: Iterable[Document]) -> None:
        """Write documents, even those that are there: a push that deletes unused ones may have listed them before."""

        async def write(document: Document) -> None:
            await self._bucket.put(f"fragment.{digest_of(document)}", _json(document))

        await _each(write, documents)

    async def _mark(self, revision: Revision, head: Head) -> int | None:
        """Publish the marker. Returns its offset, or None if another push has committed since the head was read.

        Repeats it until either is certain. So this revision's manifest may be deleted afterwards.
        """
        body = _json(
            {"revision": revision.number, "previous": revision.previous, "fragments": dict(revision.fragments)}
        )
        try:
            return await broker.publish(
                self.connection,
                CATALOGUE,
                body,
                message_id=f"catalogue-{revision.number}-{hashlib.sha256(body).hexdigest()[:16]}",
                headers={EXPECTED: str(head.marker)},
            )
        except WrongSequence:
            # An attempt that looked lost may be the one that was stored.
            markers = await self.markers(after=head.marker)
            return next((marker.offset for marker in markers if marker.revision == revision.number), None)

    async def _write_committed(self, committed: Committed) -> None:
        """Write which revision counts, unless a newer one is written there already."""
        value = _json({"revision": committed.revision, "offset": committed.offset, "epoch": committed.epoch})
        while True:
            there = await self._bucket.last(COMMITTED)
            if there is not None and not there.deleted and json.loads(there.value)["revision"] >= committed.revision:
                return
            try:
                await self._bucket.put(COMMITTED, value, after=there.at if there else 0)
            except WrongSequence:
                continue
            return

    async def _prune(self) -> None:
        """Delete revisions that no event in the stream and no rollback needs, pushes that lost, and their documents.

        A manifest with a number below the head's that is not in the chain of committed ones can never commit: its
        marker expects a head that was replaced. One with a greater number may still commit, so it stays.
        """
        keys = await self._bucket.keys("fragment.*")
        documents = dict(zip(keys, await _each(self._bucket.last, keys), strict=True))
        # Read after the documents, because a push writes its manifest before its documents.
        everything = await self._everything()
        committed = await self.committed()
        if committed is None:
            return
        oldest = await self._marker({"seq": 1, "next_by_subj": CATALOGUE})
        needed_from = committed.revision if oldest is None else (oldest.previous or oldest.revision)
        chain = _chain(everything, committed.revision)
        kept = {number for at, number in enumerate(chain) if at < KEPT_REVISIONS or number >= needed_from}
        passed = [number for number in everything if number < committed.revision and number not in kept]
        await _each(lambda number: self._discard(number, forget=True), passed)
        stays = {
            digest for number in everything if number not in passed for digest in everything[number].fragments.values()
        }
        for key, entry in documents.items():
            if entry and not entry.deleted and key.removeprefix("fragment.") not in stays:
                await self._delete(key, entry)

    async def _discard(self, number: int, *, forget: bool = False) -> None:
        """Delete the manifest of a revision that cannot commit any more. Its number stays used, unless forgotten."""
        entry = await self._bucket.last(f"rev.{number}")
        if entry is not None and not entry.deleted:
            await self._delete(f"rev.{number}", entry, forget=forget)

    async def _delete(self, key: str, entry: Entry, *, forget: bool = True) -> None:
        try:
            await self._bucket.delete(key, after=entry.at, forget=forget)
        except WrongSequence:  # another push wrote it again, so it needs it, or deleted it
            log.debug("not deleted, it changed", key=key)

    async def _stream(self) -> dict[str, Any]:
        """Return the configuration of the stream of events."""
        config = await broker.config_of(self.connection, STREAM)
        if not config:
            raise BrokerRefused(f"there is no stream {STREAM}: `beaconfire setup` declares it")
        return config


def digest_of(document: Document) -> str:
    """Return the name by which a document is known: of its content, whatever file it came from."""
    return hashlib.sha256(_json(document)).hexdigest()


def changes_of(before: Fragments, after: Fragments) -> dict[str, Changes]:
    """Return what is different in each fragment, by name."""
    names = dict.fromkeys([*before, *after])
    found = {name: compare(before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}
    return {name: changes for name, changes in found.items() if changes}


def _read(documents: Iterable[Document]) -> Fragments:
    return {fragment.name: fragment for fragment in map(read_fragment, documents)}


def _replacing(new: Fragments, allow_removals: bool) -> Change:
    """Return the change that a push of these fragments is."""

    def change(there: Fragments) -> Fragments:
        changes = changes_of({name: there[name] for name in new if name in there}, new)
        _check_changes(changes, allow_removals=allow_removals)
        return {**there, **new}

    return change


def _check_changes(changes: Mapping[str, Changes], *, allow_removals: bool) -> None:
    """Raise InvalidFragment if a push would break something, and RemovalRefused if it removes what it must not."""
    if problems := [problem for one in changes.values() for problem in one.breaks]:
        raise InvalidFragment(problems)
    removed = _lines({name: one.removed for name, one in changes.items()})
    if removed and not allow_removals:
        raise RemovalRefused(
            f"the push would remove what is in the catalogue:\n{removed}\n"
            "Later events of these are set aside. Keep them in the file, or push with --allow-removals"
        )
    others = _lines({name: (*one.added, *one.changed) for name, one in changes.items()})
    if removed and others:
        raise RemovalRefused(
            f"a removal is a push of its own, so that it can be taken back alone. This push also changes:\n{others}\n"
            f"Push these first, and remove afterwards:\n{removed}"
        )


def _lines(sentences: Mapping[str, Sequence[str]]) -> str:
    return "\n".join(f"  {name}: {sentence}" for name, several in sentences.items() for sentence in several)


def _is_older(there: Fragment | None, ours: Fragment) -> bool:
    """Return whether a built-in fragment may take the place of the one that is there."""
    if there is None:
        return True
    version, own = (str(one.document["info"].get("version")) for one in (there, ours))
    if version.isdecimal() and own.isdecimal() and int(version) > int(own):
        return False
    changes = compare(there, ours)
    return not changes.breaks and not changes.removed


_fragments: dict[str, Fragment] = {}
"""Fragments that were read before, by their digest. Most revisions have most fragments in common."""


def _remember(digest: str, fragment: Fragment) -> None:
    while len(_fragments) >= MAX_REMEMBERED:
        del _fragments[next(iter(_fragments))]
    _fragments[digest] = fragment


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _chain(everything: Mapping[int, Revision], head: int | None) -> list[int]:
    """Return the numbers of the committed revisions that are kept, newest first."""
    chain: list[int] = []
    while head is not None and head in everything:
        chain.append(head)
        head = everything[head].previous
    return chain


async def _each(call: Callable[[T], Awaitable[R]], arguments: Iterable[T]) -> list[R]:
    """Call it for each argument, several at a time. Returns the results in the order of the arguments."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(argument: T) -> R:
        async with slots:
            return await call(argument)

    return await asyncio.gather(*map(one, arguments))
