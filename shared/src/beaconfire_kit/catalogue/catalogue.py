"""One revision of the catalogue: the fragments of all teams, merged and looked up. No I/O.

catalogue = Catalogue.of(7, {"logistics": fragment})
catalogue.types["parcel.moved"][1].subject
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from beaconfire_kit.catalogue.checking import CheckedEvent, Checker
from beaconfire_kit.catalogue.fragment import (
    VENDOR,
    Conflation,
    EventType,
    Fragment,
    InvalidFragment,
    Problem,
    RootKind,
)
from beaconfire_kit.catalogue.pointers import pointer
from beaconfire_kit.catalogue.system import SYSTEM
from beaconfire_kit.catalogue.templates import parse_template

USER = RootKind("user", members=False)
"""Root of every catalogue: each user is the only member of their own."""


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """A revision. It never changes: a push makes another one."""

    revision: int
    fragments: Mapping[str, Fragment]
    """By name."""
    roots: Mapping[str, RootKind]
    """By kind, `user` included."""
    types: Mapping[str, Mapping[int, EventType]]
    """By type, then by version. The two types of the system are among them."""
    checker: Checker = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "checker", Checker(self.types))

    @classmethod
    def of(cls, revision: int, fragments: Mapping[str, Fragment]) -> "Catalogue":
        """Merge fragments. Raises InvalidFragment if they cannot be in one catalogue."""
        problems: list[Problem] = []
        roots = {USER.kind: USER}
        types: dict[str, dict[int, EventType]] = {}
        owners: dict[str, str] = {event_type.name: "" for event_type in SYSTEM.values()}
        for event_type in SYSTEM.values():
            types.setdefault(event_type.name, {})[event_type.version] = event_type
        for fragment in fragments.values():
            problems += _taken(fragment, fragments, owners)
            roots.update(fragment.roots)
            for event_type in fragment.types.values():
                owners.setdefault(event_type.name, fragment.name)
                types.setdefault(event_type.name, {})[event_type.version] = event_type
        for fragment in fragments.values():
            problems += _misplaced(fragment, roots)
        if problems:
            raise InvalidFragment(problems)
        return cls(
            revision,
            MappingProxyType(dict(fragments)),
            MappingProxyType(roots),
            MappingProxyType({name: MappingProxyType(versions) for name, versions in types.items()}),
        )

    def check(self, subject: str, body: bytes) -> CheckedEvent:
        """Check a message on the subject it was published on. Raises InvalidEvent. See `checking.Checker.check`."""
        return self.checker.check(subject, body)

    @property
    def conflations(self) -> Mapping[str, Conflation]:
        """How events are conflated, by type. The newest version of a type decides for all, so that they keep order."""
        newest = {name: versions[max(versions)] for name, versions in self.types.items()}
        return {name: one.conflation for name, one in newest.items() if one.conflation is not None}

    @property
    def root_kinds(self) -> frozenset[str]:
        return frozenset(self.roots)

    @property
    def stream_subjects(self) -> tuple[str, ...]:
        """The subjects that the stream must store for the events of this catalogue, in order."""
        return tuple(f"{kind}.>" for kind in sorted(self.roots))


def _taken(fragment: Fragment, fragments: Mapping[str, Fragment], owners: Mapping[str, str]) -> Iterator[Problem]:
    """Yield what this fragment declares and an earlier one has already declared."""
    for other in fragments.values():
        if other is fragment:
            break
        for kind in fragment.roots.keys() & other.roots.keys():
            yield Problem(
                pointer(VENDOR, "roots", kind),
                f"The root `{kind}` belongs to the fragment `{other.name}`. Use it without declaring it again.",
                fragment.name,
            )
    for (name, version), place in fragment.places.items():
        owner = owners.get(name, fragment.name)
        if owner != fragment.name:
            whose = f"belongs to the fragment `{owner}`" if owner else "is a type of the system"
            yield Problem(place, f"`{name}` version {version}: the type {whose}. Choose another name.", fragment.name)


def _misplaced(fragment: Fragment, roots: Mapping[str, RootKind]) -> Iterator[Problem]:
    """Yield the types whose root nobody declares, or that use a root's kind inside another root."""
    for key, event_type in fragment.types.items():
        template = parse_template(event_type.subject)
        if template.root not in roots:
            yield Problem(
                fragment.places.get(key, ""),
                f"`{key[0]}` is on {event_type.subject}, and no fragment declares the root `{template.root}`. "
                f"Declare it: `x-beaconfire: {{roots: {{{template.root}: {{}}}}}}`.",
                fragment.name,
            )
        for kind in roots.keys() & set(template.inner_kinds):
            yield Problem(
                fragment.places.get(key, ""),
                f"`{key[0]}` is on {event_type.subject}, and `{kind}` is the kind of a root. "
                "A kind is either a root or inside one: rename one of them.",
                fragment.name,
            )
