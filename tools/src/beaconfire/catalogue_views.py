"""What the commands of the catalogue print: tables for people, JSON for programs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import yaml
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from beaconfire.catalogue_access import CatalogueUnusable, Source, described
from beaconfire.tables import listing, print_table
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.compatibility import Changes
from beaconfire_kit.catalogue.fragment import EventType, Fragment
from beaconfire_kit.catalogue_store import CatalogueLost, CatalogueStore, Pushed, Restored, Revision

_SHOWN_TYPES = 6


@dataclass(frozen=True, slots=True)
class Overview:
    """The catalogue that counts now, and the revisions that are kept."""

    catalogue: Catalogue
    offset: int
    revisions: list[Revision]
    """Newest first."""

    def since(self, name: str) -> Revision:
        """Return the revision that brought a fragment as it is now, of those that are kept."""
        found = self.revisions[0]
        for revision in self.revisions:
            if revision.fragments.get(name) != self.revisions[0].fragments[name]:
                break
            found = revision
        return found


async def look(store: CatalogueStore) -> Overview:
    """Read all that `list` shows. Raises CatalogueUnusable if nothing was pushed yet."""
    head, revisions = await store.head(), await store.revisions()
    if head.revision is None:
        raise CatalogueUnusable("the catalogue is empty: `beaconfire setup` pushes the built-in fragments")
    if not revisions:
        raise CatalogueLost(
            f"revision {head.revision} is not in the bucket: `beaconfire catalogue restore` rebuilds it"
        )
    return Overview(await store.load(revisions[0]), head.marker, revisions)


def print_overview(found: Overview, console: Console) -> None:
    """Print the fragments, and since when the revision counts."""
    newest = found.revisions[0]
    console.print(
        Text.assemble(
            ("Revision ", "bold"),
            (str(newest.number), "bold cyan"),
            f" counts since offset {found.offset}. ",
            f"{newest.by} pushed it on {_moment(newest.pushed_at)}: {newest.about}",
        )
    )
    rows = [
        [
            fragment.name,
            fragment.title,
            ", ".join(fragment.roots),
            _some_types(fragment),
            f"{(since := found.since(fragment.name)).number}, {_moment(since.pushed_at)}",
        ]
        for fragment in found.catalogue.fragments.values()
    ]
    print_table(listing(["fragment", "title", "roots", "types", "since revision"], rows, whole=["fragment"]), console)


def overview_as_json(found: Overview) -> dict[str, Any]:
    newest = found.revisions[0]
    return {
        **_revision_as_json(newest),
        "offset": found.offset,
        "fragments": [
            {
                "name": fragment.name,
                "title": fragment.title,
                "roots": list(fragment.roots),
                "types": [{"name": name, "version": version} for name, version in fragment.types],
                "sha256": newest.fragments[fragment.name],
                "sinceRevision": found.since(fragment.name).number,
            }
            for fragment in found.catalogue.fragments.values()
        ],
    }


def revisions_table(found: Overview) -> Table:
    rows = [
        [str(one.number), _moment(one.pushed_at), one.by, one.about, ", ".join(one.fragments)]
        for one in found.revisions
    ]
    return listing(["revision", "pushed", "by", "what", "fragments"], rows, whole=["revision", "pushed"])


def revisions_as_json(found: Overview) -> list[dict[str, Any]]:
    return [_revision_as_json(one) | {"fragments": dict(one.fragments)} for one in found.revisions]


def _revision_as_json(revision: Revision) -> dict[str, Any]:
    return {
        "revision": revision.number,
        "previous": revision.previous,
        "pushedAt": revision.pushed_at.isoformat(),
        "by": revision.by,
        "about": revision.about,
    }


def print_one(found: Catalogue, what: str, console: Console) -> None:
    """Print a fragment's types and roots, or a type's versions. Raises CatalogueUnusable."""
    if (fragment := found.fragments.get(what)) is not None:
        _print_fragment(fragment, console)
        return
    for version in _versions(found, what).values():
        _print_type(version, console)


def document_text(found: Catalogue, what: str, *, as_yaml: bool) -> str:
    """Return a fragment's document, or a type's description. Raises CatalogueUnusable."""
    if (fragment := found.fragments.get(what)) is not None:
        document: Any = fragment.document
    else:
        document = [_type_as_json(one) for one in _versions(found, what).values()]
    if as_yaml:
        return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100).rstrip()
    return json.dumps(document, indent=2, ensure_ascii=False)


def _versions(found: Catalogue, type_: str) -> Mapping[int, EventType]:
    versions = found.types.get(type_)
    if versions is None:
        raise CatalogueUnusable(
            f"revision {found.revision} has neither a fragment nor a type {type_!r}. "
            f"The fragments are {', '.join(found.fragments) or 'none'}. "
            "`beaconfire catalogue list --json` lists the types too"
        )
    return versions


def _print_fragment(fragment: Fragment, console: Console) -> None:
    console.print(Text.assemble((fragment.name, "bold cyan"), f"  {fragment.title}"))
    for root in fragment.roots.values():
        has = ["members" if root.members else "no members", "presence" if root.presence else "no presence"]
        console.print(f"root {root.kind}: {', '.join(has)}")
    rows = [
        [one.name, str(one.version), one.subject, _notes(one), one.description.partition("\n")[0]]
        for one in fragment.types.values()
    ]
    print_table(listing(["type", "version", "subject", "", "description"], rows, whole=["type"]), console)


def _print_type(one: EventType, console: Console) -> None:
    console.print(Text.assemble((one.name, "bold cyan"), f"  version {one.version}  {_notes(one)}".rstrip()))
    if one.description:
        console.print(Text(one.description))
    console.print(Text.assemble(("subject ", "dim"), one.subject))
    console.print(Syntax(json.dumps(one.schema, indent=2, ensure_ascii=False), "json", background_color="default"))


def _notes(one: EventType) -> str:
    notes = ["ephemeral"] if one.ephemeral else []
    if one.conflation:
        notes.append(f"conflated by {one.conflation.key} within {one.conflation.window_ms} ms")
    return ", ".join(notes)


def _type_as_json(one: EventType) -> dict[str, Any]:
    return {
        "name": one.name,
        "version": one.version,
        "subject": one.subject,
        "ephemeral": one.ephemeral,
        "description": one.description,
        "schema": one.schema,
    }


def print_pushed(pushed: Pushed, *, as_json: bool, is_only_checked: bool = False) -> None:
    """Print what came of a push."""
    if as_json:
        print(
            json.dumps(
                {
                    "revision": pushed.revision,
                    "offset": pushed.offset,
                    "changed": pushed.changed,
                    "changes": _changes_as_json(pushed.changes),
                }
            )
        )
        return
    _print_changes(pushed.changes, [])
    if is_only_checked:
        print("The push would be accepted." if pushed.changed else "The push would change nothing.")
    elif pushed.changed:
        print(f"Revision {pushed.revision} counts from offset {pushed.offset} on.")
    else:
        print(f"Nothing has changed: revision {pushed.revision} is like this already.")


def print_changes(changes: Mapping[str, Changes], sources: Sequence[Source], *, as_json: bool) -> None:
    """Print what is different in each fragment. `sources` say where a file breaks something."""
    if as_json:
        print(json.dumps(_changes_as_json(changes)))
    elif changes:
        _print_changes(changes, sources)
    else:
        print("No event and no root is different.")


_MARKS = {"added": ("+", "green"), "changed": ("~", "yellow"), "removed": ("-", "magenta"), "breaks": ("!", "bold red")}


def _print_changes(changes: Mapping[str, Changes], sources: Sequence[Source]) -> None:
    console = Console(highlight=False)
    for name, one in changes.items():
        console.print(Text(name, "bold"))
        sentences = {
            "added": one.added,
            "changed": one.changed,
            "removed": one.removed,
            "breaks": [described(problem, sources) for problem in one.breaks],
        }
        for kind, (mark, colour) in _MARKS.items():
            for sentence in sentences[kind]:
                console.print(Text.assemble(("  ", ""), (mark, colour), " ", sentence), soft_wrap=True)


def _changes_as_json(changes: Mapping[str, Changes]) -> dict[str, Any]:
    return {
        name: {
            "added": list(one.added),
            "changed": list(one.changed),
            "removed": list(one.removed),
            "breaks": [{"pointer": problem.pointer, "message": problem.message} for problem in one.breaks],
        }
        for name, one in changes.items()
    }


def print_restored(restored: Restored, *, as_json: bool) -> None:
    """Print what came of a restore."""
    if as_json:
        missing = [
            {"revision": one.revision, "fragment": one.fragment, "sha256": one.digest} for one in restored.missing
        ]
        print(json.dumps({"revision": restored.revision, "written": restored.written, "missing": missing}))
        return
    written = ", ".join(map(str, sorted(restored.written)))
    print(f"Restored: {written}." if written else "Nothing was missing.", f"Revision {restored.revision} counts now.")
    if restored.missing:
        print("Events in the stream need older documents that are still missing. Give their files too:")
        for one in restored.missing:
            print(f"  {one}")


def _some_types(fragment: Fragment) -> str:
    names = list(dict.fromkeys(name for name, _ in fragment.types))
    more = len(names) - _SHOWN_TYPES
    return ", ".join(names[:_SHOWN_TYPES]) + (f" and {more} more" if more > 0 else "")


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
