"""Decide what a push may change, against the fragments that are there. No I/O."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from beaconfire_kit.catalogue.compatibility import Changes, compare
from beaconfire_kit.catalogue.fragment import Fragment, InvalidFragment
from beaconfire_kit.catalogue.profile import read_fragment
from beaconfire_kit.catalogue_store.records import (
    CatalogueError,
    Document,
    Fragments,
    RemovalRefused,
    UnknownFragment,
)

MAX_FRAGMENTS = 400
"""A marker names all of them, and it is a message of the stream, so it must fit into 64 KiB."""

Change = Callable[[Fragments], Fragments]
"""From the fragments of the head to those of the new revision. Raises to refuse the push."""


def read(documents: Iterable[Document]) -> Fragments:
    """Read documents as fragments. Raises InvalidFragment for the first that is none."""
    return {fragment.name: fragment for fragment in map(read_fragment, documents)}


def replacing(new: Fragments, *, allow_removals: bool) -> Change:
    """Return the change that a push of these fragments is."""

    def change(there: Fragments) -> Fragments:
        changes = changes_of({name: there[name] for name in new if name in there}, new)
        _check(changes, allow_removals=allow_removals)
        return {**there, **new}

    return change


def adding_to(ours: Fragments) -> Change:
    """Return the change that a push of built-in fragments is. It takes nothing away, and nothing later back."""

    def change(there: Fragments) -> Fragments:
        return {**there, **{name: one for name, one in ours.items() if is_older(there.get(name), one)}}

    return change


def removing(names: Iterable[str]) -> Change:
    """Return the change that takes fragments out. It raises UnknownFragment."""
    gone = tuple(names)

    def change(there: Fragments) -> Fragments:
        for name in gone:
            if name not in there:
                known = ", ".join(there) or "none"
                raise UnknownFragment(f"the catalogue has no fragment {name!r}. It has {known}")
        return {name: fragment for name, fragment in there.items() if name not in gone}

    return change


def check_count(fragments: Fragments) -> None:
    """Raise CatalogueError if there are too many fragments for a marker."""
    if len(fragments) > MAX_FRAGMENTS:
        raise CatalogueError(
            f"the catalogue would have {len(fragments)} fragments. At most {MAX_FRAGMENTS} are allowed"
        )


def changes_of(before: Fragments, after: Fragments) -> dict[str, Changes]:
    """Return what is different in each fragment, by name."""
    names = dict.fromkeys([*before, *after])
    found = {name: compare(before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}
    return {name: changes for name, changes in found.items() if changes}


def _check(changes: Mapping[str, Changes], *, allow_removals: bool) -> None:
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


def is_older(there: Fragment | None, ours: Fragment) -> bool:
    """Return whether a built-in fragment may take the place of the one that is there."""
    if there is None:
        return True
    if there.document == ours.document:
        return False
    version, own = (str(one.document["info"].get("version")) for one in (there, ours))
    if version.isdecimal() and own.isdecimal() and int(version) > int(own):
        return False
    changes = compare(there, ours)
    return not changes.breaks and not changes.removed
