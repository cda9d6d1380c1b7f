"""Compare two fragments of one name: what the newer one adds and removes, and what it would break. No I/O.

    changes = compare(known, pushed)
    if changes.breaks:
        raise InvalidFragment(changes.breaks)

A change is compatible if every payload that was valid is still valid, as far as it has only declared fields. So a new
optional field is compatible, although the old schema let any value pass under its name.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from beaconfire_kit.catalogue.fragment import EventType, Fragment, Problem, RootKind
from beaconfire_kit.catalogue.pointers import locate, pointer
from beaconfire_kit.catalogue.widening import Break, breaks


@dataclass(frozen=True, slots=True)
class Changes:
    """What a push would change in one fragment. Every entry is a sentence or a problem."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    """What changes without breaking anything."""
    removed: tuple[str, ...] = ()
    """Types, versions and the fragment itself that would go. Later events of theirs are set aside."""
    breaks: tuple[Problem, ...] = ()
    """What cannot change in this version of a type: what would break, and what to do."""

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed or self.breaks)


def compare(old: Fragment | None, new: Fragment | None) -> Changes:
    """Return what changes from an old fragment to a new one of the same name. None: there is none."""
    before, after = (_types(old), _types(new))
    roots_before, roots_after = (old.roots if old else {}), (new.roots if new else {})
    added = [_added(key, before) for key in after if key not in before]
    added += [f"The root `{kind}` is new." for kind in roots_after if kind not in roots_before]
    removed = [f"`{name}` version {version} is removed." for name, version in before if (name, version) not in after]
    changed: list[str] = []
    problems: list[Problem] = []
    if old and new:
        problems += _broken_roots(new, roots_before, roots_after)
        for key in before.keys() & after.keys():
            found = list(_broken(new, before[key], after[key]))
            problems += found
            if not found and before[key] != after[key]:
                changed.append(f"`{key[0]}` version {key[1]} changes, and every event that was valid is still valid.")
        changed += [f"The root `{kind}` changes." for kind in _changed_roots(roots_before, roots_after)]
        if old.title != new.title:
            changed.append(f"The title changes to {new.title!r}.")
    elif old:
        removed += [f"The root `{kind}` is removed." for kind in roots_before]
    return Changes(tuple(added), tuple(sorted(changed)), tuple(removed), tuple(sorted(problems, key=str)))


def _types(fragment: Fragment | None) -> Mapping[tuple[str, int], EventType]:
    return fragment.types if fragment else {}


def _added(key: tuple[str, int], before: Iterable[tuple[str, int]]) -> str:
    name, version = key
    if any(name == known for known, _ in before):
        return f"`{name}` gets version {version}, beside those that it has."
    return f"`{name}` version {version} is new."


def _changed_roots(before: Mapping[str, RootKind], after: Mapping[str, RootKind]) -> list[str]:
    return [kind for kind in before.keys() & after.keys() if after[kind].presence and not before[kind].presence]


def _broken_roots(new: Fragment, before: Mapping[str, RootKind], after: Mapping[str, RootKind]) -> Iterator[Problem]:
    for kind in before:
        place = pointer("x-beaconfire", "roots", kind)
        if kind not in after:
            yield Problem(
                pointer("x-beaconfire", "roots"),
                f"The root `{kind}` is missing. Its members and rooms would be lost. Declare it again, or remove the "
                f"whole fragment with `beaconfire catalogue remove {new.name}`.",
                new.name,
            )
        elif before[kind].presence and not after[kind].presence:
            yield Problem(
                f"{place}/presence",
                f"`presence` of the root `{kind}` was true, and clients rely on it. "
                "Write it as it was, or declare another root.",
                new.name,
            )


def _broken(new: Fragment, before: EventType, after: EventType) -> Iterator[Problem]:
    """Yield what breaks in one version of a type."""
    message = new.places.get((after.name, after.version), "")
    advice = f"Leave version {after.version} as it was, and declare version {_next(new, after.name)} beside it."

    def problem(place: str, what: str) -> Problem:
        return Problem(place, f"`{after.name}` version {after.version}: {what} {advice}", new.name)

    if before.subject != after.subject:
        channel = message.rpartition("/messages/")[0]
        yield problem(
            f"{channel}/address" if channel.startswith("/channels/") else message,
            f"its subject was {before.subject} and would be {after.subject}, so events on the old one become invalid.",
        )
    elif before.parameters != after.parameters:
        yield problem(message, "the fields that repeat the subject's ids change, so valid events become invalid.")
    if before.ephemeral != after.ephemeral:
        stored = ("stored", "not stored") if after.ephemeral else ("not stored", "stored")
        yield problem(
            locate(new.document, message, "x-beaconfire", "ephemeral"),
            f"its events were {stored[0]} and would be {stored[1]}, on another subject.",
        )
    key_before, key_after = (one.conflation.key if one.conflation else None for one in (before, after))
    if key_after is not None and key_before != key_after:
        yield problem(
            locate(new.document, message, "x-beaconfire", "conflate"),
            f"clients would get only the latest event for each {key_after}, and they got more.",
        )
    if before.dialect != after.dialect:
        yield problem(
            locate(new.document, message, "payload"),
            f"its schema was {before.dialect} and would be {after.dialect}, whose keywords mean other things.",
        )
        return
    for one in breaks(before.schema, after.schema):
        yield problem(_place_of(new, message, one), one.message)


def _next(fragment: Fragment, name: str) -> int:
    return max(version for known, version in fragment.types if known == name) + 1


def _place_of(new: Fragment, message: str, one: Break) -> str:
    payload = locate(new.document, message, "payload")
    inner = locate(new.document, payload, "schema")
    is_multi_format = locate(new.document, payload, "schemaFormat").endswith("/schemaFormat")
    return locate(new.document, inner if is_multi_format else payload, *one.path)


def _json(flag: bool) -> str:
    return "true" if flag else "false"
