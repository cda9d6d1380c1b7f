"""What a type checker of any language can say of JSON: shapes, and how they combine.

`payload_shapes` reads them from schemas, `typescript` and `python` write them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Primitive:
    """`anything` accepts every value, `nothing` none."""

    name: Literal["string", "integer", "number", "boolean", "null", "anything", "nothing"]


@dataclass(frozen=True, slots=True)
class Literals:
    """One of some values: texts, whole numbers, booleans, null."""

    values: tuple[str | int | bool | None, ...]


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list. The values at its beginning may have shapes of their own."""

    item: "Shape"
    first: "tuple[Shape, ...]" = ()
    required: int = 0
    """How many values of `first` are always there."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several shapes."""

    options: "tuple[Shape, ...]"


@dataclass(frozen=True, slots=True)
class Member:
    """A property of an object."""

    name: str
    shape: "Shape"
    is_required: bool
    description: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """An object. Other properties than its members may always be there."""

    members: tuple[Member, ...] = ()
    others: "Shape | None" = None
    """The shape of every other property, if it is known."""
    description: str = ""
    label: str = ""
    """What tells it from its alternatives, for its name."""


@dataclass(frozen=True, slots=True)
class Named:
    """A shape that is declared under this name."""

    name: str


Shape = Primitive | Literals | ListOf | Choice | Record | Named

ANYTHING, NOTHING, NULL = Primitive("anything"), Primitive("nothing"), Primitive("null")


@dataclass(frozen=True, slots=True)
class Declaration:
    """A shape with a name of its own."""

    name: str
    shape: Shape
    description: str = ""


def parts(shape: Shape) -> Iterator[Shape]:
    """Yield the shapes that this one is directly made of."""
    match shape:
        case ListOf(item, first):
            yield from (*first, item)
        case Choice(options):
            yield from options
        case Record(members, others):
            yield from (member.shape for member in members)
            if others is not None:
                yield others


def merged(records: Sequence[Record]) -> Record:
    """Return one object with the members of all. Of a member that several have, the most special shape counts."""
    members: dict[str, Member] = {}
    for record in records:
        for member in record.members:
            before = members.get(member.name)
            if before is None:
                members[member.name] = member
                continue
            members[member.name] = Member(
                member.name,
                before.shape if member.shape == ANYTHING else member.shape,
                before.is_required or member.is_required,
                member.description or before.description,
            )
    others = [one.others for one in records if one.others is not None]
    return Record(
        tuple(members.values()),
        others[0] if len(others) == len(records) else None,
        next((one.description for one in records if one.description), ""),
        next((one.label for one in reversed(records) if one.label), ""),
    )


def choice(options: Iterable[Shape]) -> Shape:
    """Return one of the options: flat, each once, literals together."""
    flat: list[Shape] = []
    for one in options:
        flat += one.options if isinstance(one, Choice) else [one]
    if ANYTHING in flat:
        return ANYTHING
    literals = [value for one in flat if isinstance(one, Literals) for value in one.values]
    rest: list[Shape] = list(dict.fromkeys(one for one in flat if not isinstance(one, Literals) and one != NOTHING))
    if literals:
        rest.insert(0, Literals(_each_once(literals)))
    if not rest:
        return NOTHING
    return rest[0] if len(rest) == 1 else Choice(tuple(rest))


def literals_of(values: Sequence[Any]) -> Shape:
    """Return the shape of an `enum`. Values that no language has as literals count by their type."""
    scalar = [one for one in values if one is None or isinstance(one, str | bool | int)]
    others: list[Shape] = [Primitive("number") for one in values if isinstance(one, float)]
    if len(scalar) + len(others) < len(values):
        return ANYTHING
    return choice([*([Literals(_each_once(scalar))] if scalar else []), *others])


def _each_once(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple({(type(one), one): one for one in values}.values())  # True is not 1
