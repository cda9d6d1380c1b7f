"""Compare what a deployment knows of its catalogue: this version's code, the bucket, the stream and its marker.

Used by `beaconfire doctor`. `diagnosis` judges everything else.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nats.aio.client import Client

from beaconfire.diagnosis import SETUP, Check
from beaconfire_kit.broker import STREAM, STREAM_SUBJECTS, BrokerRefused
from beaconfire_kit.catalogue import builtin
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.fragment import InvalidFragment
from beaconfire_kit.catalogue_store import CatalogueError, CatalogueLost, CatalogueStore, Committed, Marker
from beaconfire_kit.catalogue_store.reviewing import is_older
from beaconfire_kit.key_value import BucketMissing

PART = "catalogue"


@dataclass(frozen=True, slots=True)
class CatalogueSeen:
    """The catalogue, as the bucket and the stream have it."""

    committed: Committed | None = None
    """What the bucket says counts now."""
    marker: Marker | None = None
    """The last marker in the stream."""
    catalogue: Catalogue | None = None
    """What counts now. None if there is none, or if it cannot be read."""
    problem: str = ""
    """Why it cannot be read."""
    advice: str = ""

    @property
    def roots(self) -> frozenset[str]:
        """The kinds of roots, as far as they are known."""
        return self.catalogue.root_kinds if self.catalogue else frozenset()


async def see(nc: Client, *, answer_s: float) -> CatalogueSeen:
    """Read the catalogue."""
    store = CatalogueStore(nc)
    try:
        async with asyncio.timeout(answer_s):
            committed, marker = await store.committed(), await store.last_marker()
            head = await store.head()
            catalogue = await store.load(head.revision) if head.revision is not None else None
            return CatalogueSeen(committed, marker, catalogue)
    except BucketMissing:
        return CatalogueSeen(problem="there is no bucket CATALOGUE: gateways have no catalogue", advice=f"run {SETUP}")
    except CatalogueLost as error:
        return CatalogueSeen(problem=str(error), advice="run `beaconfire catalogue restore` with the fragments' files")
    except (CatalogueError, InvalidFragment, BrokerRefused) as error:
        return CatalogueSeen(problem=str(error), advice="run a version that is as new as the one that pushed it")
    except TimeoutError:
        return CatalogueSeen(problem=f"no answer within {answer_s:.0f} s")


def examine(seen: CatalogueSeen, stream: Mapping[str, Any] | None) -> Iterator[Check]:
    """Compare the four. `stream` is STREAM.INFO of the stream of events, if it was read."""
    if seen.problem:
        yield Check(PART, "revision", "wrong" if seen.advice else "unseen", seen.problem, seen.advice)
        return
    if seen.catalogue is None:
        yield Check(PART, "revision", "wrong", "nothing was pushed: gateways have no catalogue", f"run {SETUP}")
        return
    yield _revision(seen, seen.catalogue)
    yield from _built_in(seen.catalogue)
    if stream:
        yield _subjects(seen.catalogue, stream["config"].get("subjects", ()))


def _revision(seen: CatalogueSeen, catalogue: Catalogue) -> Check:
    committed, marker = seen.committed, seen.marker
    number = catalogue.revision
    if marker is not None and (committed is None or committed.revision < marker.revision):
        known = f"revision {committed.revision}" if committed else "none"
        found = f"the stream says revision {marker.revision} counts, the bucket says {known}: a push was interrupted"
        return Check(PART, "revision", "wrong", found, f"run {SETUP}: it completes the push")
    if marker is not None and committed is not None and committed.revision > marker.revision:
        found = f"{number}, whose marker the stream no longer has: it counts from the stream's first offset"
        return Check(PART, "revision", "ok", found)
    where = f"from offset {marker.offset:,}" if marker else "from the stream's first offset"
    return Check(PART, "revision", "ok", f"{number} counts {where}: {', '.join(catalogue.fragments)}")


def _built_in(catalogue: Catalogue) -> Iterator[Check]:
    """Compare the built-in fragments of the code with those of the catalogue."""
    for name, ours in builtin.fragments().items():
        there, title = catalogue.fragments.get(name), f"fragment {name}"
        if there is not None and there.document == ours.document:
            yield Check(PART, title, "ok", "as in this version")
        elif there is None:
            yield Check(PART, title, "wrong", "missing: its events are set aside", f"run {SETUP}")
        elif is_older(there, ours):
            found = "older than this version's: services may publish events that gateways set aside"
            yield Check(PART, title, "wrong", found, f"run {SETUP}")
        else:
            yield Check(PART, title, "ok", "of a later version than this command")


def _subjects(catalogue: Catalogue, subjects: Iterable[str]) -> Check:
    there = {*subjects, *STREAM_SUBJECTS}  # another check looks for the built-in ones
    missing = [subject for subject in catalogue.stream_subjects if subject not in there]
    if missing:
        found = f"the stream {STREAM} does not take {', '.join(missing)}: events published there are refused"
        return Check(PART, "roots", "wrong", found, f"run {SETUP}: it adds the catalogue's roots to the stream")
    return Check(PART, "roots", "ok", ", ".join(sorted(catalogue.roots)))
