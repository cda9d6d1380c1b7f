"""Read the catalogue from the broker: which revision counts, and what it consists of."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

from nats.aio.client import Client

from beaconfire_kit import broker, logs
from beaconfire_kit.broker import CATALOGUE, MESSAGE_NOT_FOUND, STREAM, STREAM_NOT_FOUND
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.fragment import Fragment, InvalidFragment
from beaconfire_kit.catalogue.profile import read_accepted
from beaconfire_kit.catalogue_store.records import (
    BUCKET,
    COMMITTED,
    CatalogueError,
    CatalogueLost,
    Committed,
    Document,
    Fragments,
    Head,
    Marker,
    Revision,
    UnknownRevision,
)
from beaconfire_kit.key_value import KeyValue

log = logs.get(__name__)

AT_ONCE = 32
MAX_REMEMBERED = 1_000

T = TypeVar("T")
R = TypeVar("R")


class CatalogueReader:
    """Reads the catalogue of a deployment. Needs `STREAM.MSG.GET` of the bucket, and of the stream for markers."""

    def __init__(self, nc: Client) -> None:
        self.connection = nc
        self.bucket = KeyValue(nc, BUCKET)

    async def committed(self) -> Committed | None:
        """Return which revision counts now, as the bucket knows it; None before the first push.

        After a pusher died at a bad moment, the stream's last marker may be newer. Raises BucketMissing.
        """
        value = await self.bucket.get(COMMITTED)
        return None if value is None else Committed.decoded(value)

    async def head(self) -> Head:
        """Return which revision counts now, as the stream and the bucket know it together. Raises BucketMissing."""
        (marker, at), committed = await asyncio.gather(self._last_marker(), self.committed())
        if committed and (marker is None or committed.revision > marker.revision):
            # The marker is too old for the stream, or the stream was made again or restored from a backup.
            return Head(committed.revision, (await self._committed_revision(committed.revision)).fragments, at)
        return Head(marker.revision, marker.fragments, at) if marker else Head(None, {}, at)

    async def revision(self, number: int) -> Revision:
        """Return a revision. Raises UnknownRevision, BucketMissing."""
        value = await self.bucket.get(f"rev.{number}")
        revision = None if value is None else Revision.decoded(value)
        if revision is None:
            raise UnknownRevision(
                f"the catalogue has no revision {number}: `beaconfire catalogue list --revisions` shows them"
            )
        return revision

    async def _committed_revision(self, number: int) -> Revision:
        try:
            return await self.revision(number)
        except UnknownRevision:
            raise CatalogueLost(
                f"the bucket {BUCKET} lacks revision {number}, which counts now: `beaconfire catalogue restore`"
            ) from None

    async def document(self, digest: str) -> Document:
        """Return a fragment's document. Raises CatalogueLost if the bucket does not have it."""
        value = await self.bucket.get(f"fragment.{digest}")
        if value is None:
            raise CatalogueLost(f"the bucket {BUCKET} lacks the document {digest}: `beaconfire catalogue restore`")
        try:
            document = json.loads(value)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise CatalogueLost(
                f"the document {digest} in the bucket {BUCKET} is broken. "
                "Delete that key, and run `beaconfire catalogue restore`"
            )
        return document

    async def fragments(self, digests: Mapping[str, str]) -> Fragments:
        """Return the fragments of a revision, of a head or of a marker. Raises CatalogueLost."""
        found = await each(self._fragment, digests.values())
        return dict(zip(digests, found, strict=True))

    async def load(self, revision: int | Revision | Marker | Head) -> Catalogue:
        """Return the catalogue of a revision, which is empty at a head without one.

        Raises UnknownRevision, CatalogueLost.
        """
        if isinstance(revision, int):
            revision = await self.revision(revision)
        number = revision.number if isinstance(revision, Revision) else revision.revision or 0
        return Catalogue.of(number, await self.fragments(revision.fragments))

    async def _fragment(self, digest: str) -> Fragment:
        """Return the fragment of a document. It is read in a thread: a great one takes some tenths of a second."""
        if (known := _fragments.get(digest)) is None:
            try:
                known = await asyncio.to_thread(read_accepted, await self.document(digest))
            except InvalidFragment as error:
                raise CatalogueError(
                    f"this version of Beaconfire cannot read the document {digest} of the catalogue. Use the version "
                    f"that pushed it, or a later one. {error}"
                ) from None
            _remember(digest, known)
        return known

    async def revisions(self) -> list[Revision]:
        """Return the committed revisions that are kept, newest first."""
        head = await self.head()
        everything = await self.manifests()
        return [everything[number] for number in chain_of(everything, head.revision)]

    async def markers(self, *, after: int = 0) -> list[Marker]:
        """Return the markers that the stream has after an offset. Other messages on their subject are ignored."""
        markers: list[Marker] = []
        while (found := await self._message({"seq": after + 1, "next_by_subj": CATALOGUE})) is not None:
            after, body = found
            try:
                markers.append(Marker.read(after, body))
            except CatalogueError as error:
                log.warning("ignored a message among the markers of the catalogue", reason=str(error))
        return markers

    async def last_marker(self) -> Marker | None:
        """Return the last marker of the stream."""
        return (await self._last_marker())[0]

    async def _last_marker(self) -> tuple[Marker | None, int]:
        """Return the last marker of the stream, and the offset of the last message on its subject: mostly the same."""
        found = await self._message({"last_by_subj": CATALOGUE})
        if found is None:
            return None, 0
        try:
            return Marker.read(*found), found[0]
        except CatalogueError:
            markers = await self.markers()
            return (markers[-1] if markers else None), found[0]

    async def _message(self, which: Mapping[str, Any]) -> tuple[int, bytes] | None:
        """Return the offset and the body of a message of the stream."""
        absent = frozenset({MESSAGE_NOT_FOUND, STREAM_NOT_FOUND})
        found = await broker.call_api(self.connection, f"STREAM.MSG.GET.{STREAM}", which, missing=absent)
        if found is None:
            return None
        return found["message"]["seq"], base64.b64decode(found["message"].get("data", ""))

    async def manifests(self) -> dict[int, Revision]:
        """Return every manifest in the bucket by its number, also those of pushes that did not commit."""
        keys = await self.bucket.keys("rev.*")
        values = await each(self.bucket.get, keys)
        found = [Revision.decoded(value) for value in values if value is not None]
        return {revision.number: revision for revision in found if revision is not None}


def chain_of(everything: Mapping[int, Revision], head: int | None) -> list[int]:
    """Return the numbers of the committed revisions that are kept, newest first."""
    chain: list[int] = []
    while head is not None and head in everything:
        chain.append(head)
        head = everything[head].previous
    return chain


async def each(call: Callable[[T], Awaitable[R]], arguments: Iterable[T]) -> list[R]:
    """Call it for each argument, several at a time. Returns the results in the order of the arguments."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(argument: T) -> R:
        async with slots:
            return await call(argument)

    return await asyncio.gather(*map(one, arguments))


_fragments: dict[str, Fragment] = {}
"""Fragments that were read before, by their digest. Most revisions have most fragments in common."""


def _remember(digest: str, fragment: Fragment) -> None:
    while len(_fragments) >= MAX_REMEMBERED:
        del _fragments[next(iter(_fragments))]
    _fragments[digest] = fragment
