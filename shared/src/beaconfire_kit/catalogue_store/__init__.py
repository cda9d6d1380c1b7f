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

from beaconfire_kit.catalogue_store.records import (
    BUCKET,
    KV_STREAM,
    CatalogueError,
    CatalogueLost,
    Committed,
    Head,
    Marker,
    RemovalRefused,
    Revision,
    StreamLacksSubjects,
    UnknownFragment,
    UnknownRevision,
    digest_of,
)
from beaconfire_kit.catalogue_store.restoring import CannotRestore, Restored
from beaconfire_kit.catalogue_store.reviewing import changes_of
from beaconfire_kit.catalogue_store.store import CatalogueStore, Pushed

__all__ = [
    "BUCKET",
    "KV_STREAM",
    "CannotRestore",
    "CatalogueError",
    "CatalogueLost",
    "CatalogueStore",
    "Committed",
    "Head",
    "Marker",
    "Pushed",
    "RemovalRefused",
    "Restored",
    "Revision",
    "StreamLacksSubjects",
    "UnknownFragment",
    "UnknownRevision",
    "changes_of",
    "digest_of",
]
