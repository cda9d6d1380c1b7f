"""What is written of the catalogue, and how: manifests, markers, and which revision counts. No I/O."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import NoneType
from typing import Any

from beaconfire_kit.broker import STREAM
from beaconfire_kit.catalogue.fragment import Fragment

BUCKET = "CATALOGUE"
KV_STREAM = f"KV_{BUCKET}"
COMMITTED = "committed"

_BROKEN = (ValueError, KeyError, TypeError, RecursionError)
"""Raised by reading a record that was not written by a push."""
_BROKEN_COMMITTED = f"`{COMMITTED}` in the bucket {BUCKET} is broken. Delete it, and run `beaconfire catalogue restore`"

Document = Mapping[str, Any]
Fragments = Mapping[str, Fragment]
"""By name."""


class CatalogueError(Exception):
    """The catalogue cannot be read or changed. The text says why, and what to do."""


class CatalogueLost(CatalogueError):
    """The bucket lacks a revision that the stream says is committed."""


class UnknownRevision(CatalogueError):
    """There is no such revision, or it is not kept any more."""


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

    def encoded(self, push: str) -> bytes:
        """Return the manifest. `push` is random, so that the manifests of two pushes always differ."""
        return as_json(
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
    def decoded(cls, value: bytes) -> "Revision | None":
        """Read a manifest. None if it is none: somebody wrote into the bucket by hand."""
        try:
            found = json.loads(value)
            revision = cls(
                number=found["revision"],
                previous=found["previous"],
                fragments=dict(found["fragments"]),
                pushed_at=datetime.fromisoformat(found["pushedAt"]),
                by=found["by"],
                about=found["about"],
            )
        except _BROKEN:
            return None
        return revision if _counts(revision.number, revision.previous) and _names(revision.fragments) else None


@dataclass(frozen=True, slots=True)
class Marker:
    """A message of the stream: from its offset on, this revision counts."""

    offset: int
    revision: int
    previous: int | None
    fragments: Mapping[str, str]

    @staticmethod
    def body_of(revision: Revision) -> bytes:
        """Return the body of a revision's marker."""
        fragments = dict(revision.fragments)
        return as_json({"revision": revision.number, "previous": revision.previous, "fragments": fragments})

    @classmethod
    def read(cls, offset: int, body: bytes) -> "Marker":
        """Read the body of a marker. Raises CatalogueError if it is none."""
        try:
            found = json.loads(body)
            marker = cls(offset, found["revision"], found["previous"], dict(found["fragments"]))
        except _BROKEN:
            raise CatalogueError(f"the message at offset {offset} of the stream is no marker of a catalogue") from None
        if not _counts(marker.revision, marker.previous):
            raise CatalogueError(f"the marker at offset {offset} of the stream has no revision number")
        if not _names(marker.fragments):
            raise CatalogueError(f"the marker at offset {offset} of the stream names no documents")
        return marker


@dataclass(frozen=True, slots=True)
class Committed:
    """The revision that counts now, as the bucket knows it."""

    revision: int
    offset: int
    """The offset of its marker, in this epoch. In another epoch the revision counts from the first offset."""
    epoch: str

    def encoded(self) -> bytes:
        return as_json({"revision": self.revision, "offset": self.offset, "epoch": self.epoch})

    @classmethod
    def decoded(cls, value: bytes) -> "Committed":
        """Read it. A later version may have written more into it. Raises CatalogueError if it is broken."""
        try:
            found = json.loads(value)
            committed = cls(found["revision"], found["offset"], found["epoch"])
        except _BROKEN:
            raise CatalogueError(_BROKEN_COMMITTED) from None
        if not (type(committed.revision) is type(committed.offset) is int and isinstance(committed.epoch, str)):
            raise CatalogueError(_BROKEN_COMMITTED)
        return committed


@dataclass(frozen=True, slots=True)
class Head:
    """What a push is checked against."""

    revision: int | None
    fragments: Mapping[str, str]
    marker: int
    """The offset of the last marker in the stream; 0 if it has none."""


def _counts(number: Any, other: Any) -> bool:
    """Whether these are the numbers of a record. Its second one may be missing."""
    return type(number) is int and type(other) in (int, NoneType)


def _names(fragments: Mapping[Any, Any]) -> bool:
    """Whether names stand for digests."""
    return all(isinstance(text, str) for pair in fragments.items() for text in pair)


def digest_of(document: Document) -> str:
    """Return the name by which a document is known: of its content, whatever file it came from."""
    return hashlib.sha256(as_json(document)).hexdigest()


def as_json(value: Any) -> bytes:
    """Return the JSON of a value, always the same. Raises ValueError for what JSON has no number for."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
