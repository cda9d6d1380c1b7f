"""A fragment of the catalogue: the types and the root kinds that one team declares."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

VENDOR = "x-beaconfire"
"""The key of what AsyncAPI has no word for."""
PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_-]{0,63})\}")
"""A parameter in the template of a subject: `{depotId}`."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a fragment, for the person who wrote it."""

    pointer: str
    """Where, as a JSON Pointer into the document (RFC 6901): `/channels/parcel/address`. Empty: the whole document."""
    message: str
    """What is wrong, with the value, and what to do."""
    fragment: str = ""
    """The name of the fragment, if fragments were checked together."""

    def __str__(self) -> str:
        return f"{self.fragment}{'#' if self.fragment else ''}{self.pointer or '/'}: {self.message}"


class InvalidFragment(ValueError):
    """A document is not a valid fragment, or cannot be part of this catalogue. Nothing of it is kept."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class RootKind:
    """A kind of outermost scope, like `campaign`."""

    kind: str
    members: bool = True
    """Whether auth keeps members of these roots. False only for `user`: each user is the only member of their root."""
    presence: bool = False
    """Whether clients can see who else is there."""


@dataclass(frozen=True, slots=True)
class Conflation:
    """Of several events of a type within a window, a client may get the latest alone."""

    key: str
    """The payload field, as a JSON Pointer, whose value says which events replace each other."""
    window_ms: int


@dataclass(frozen=True, slots=True)
class EventType:
    """One version of one type of event."""

    name: str
    """As in `type`: `parcel.moved`."""
    version: int
    subject: str
    """A template: `depot.{depotId}.parcel.{parcelId}`. A `{parameter}` stands for one id."""
    parameters: Mapping[str, tuple[str, ...]]
    """The path in the payload of the id that stands for each parameter: `{"depotId": ("depotId",)}`. An event may leave
    the field out, because its subject has the id. If it is there, it must have the same value."""
    schema: Mapping[str, Any]
    """The payload's JSON Schema, complete in itself: references point into it."""
    dialect: Literal["draft-07", "2020-12"] = "draft-07"
    description: str = ""
    ephemeral: bool = False
    """Sent over core NATS below `ephemeral.`. Never stored; no offset."""
    conflation: Conflation | None = None

    @property
    def root(self) -> str | None:
        """The kind of its root; None if it is itself a parameter, as in `{rootKind}.{rootId}.member.{userId}`."""
        first = self.subject.split(".", 1)[0]
        return None if first.startswith("{") else first


@dataclass(frozen=True, slots=True)
class Fragment:
    """A valid fragment."""

    name: str
    """Its owner's name for it: `logistics`. A push replaces the fragment of the same name."""
    title: str
    document: Mapping[str, Any]
    """The AsyncAPI document it was read from."""
    types: Mapping[tuple[str, int], EventType] = field(default_factory=dict)
    """By type and version."""
    roots: Mapping[str, RootKind] = field(default_factory=dict)
    """By kind: those that this fragment declares."""
    places: Mapping[tuple[str, int], str] = field(default_factory=dict)
    """Where in the document each type's message stands, as a JSON Pointer."""
    warnings: tuple[Problem, ...] = ()
    """What is ignored: operations, traits, unknown keys."""
