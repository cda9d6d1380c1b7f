"""Parse subjects and rooms. No I/O, and no knowledge of the catalogue.

A subject is a path of `kind.id` pairs, outermost first, with at most one trailing word that has no id (the
*aspect*): `campaign.c1.settlement.s1`, `campaign.c1.world_time`. Every pair is a room; the outermost pair is the
*root*, which owns membership. This one rule replaces all room-targeting code (DESIGN: "a subject is an address,
and its rooms").

On a socket a room is `kind:id`, or `root:id/kind:id` if the client knows the root. Ids and kinds match
`[A-Za-z0-9_-]{1,64}`, on publish and on subscribe. NATS *can* store `campaign.*.x`, and a room id of `*` would
otherwise reach every campaign.

Parsing checks the form alone. Which kinds are roots is known to the catalogue: pass `Catalogue.root_kinds` where it
matters (`Room.key`), or ask auth.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

ID_PATTERN = r"[A-Za-z0-9_-]{1,64}"
RESERVED_KINDS = frozenset(
    {"auth", "live", "ephemeral", "presence", "deadletter", "outbox", "tick", "anchor", "catalogue"}
)
"""First tokens of subjects that are not events. No root can have such a kind, and none that begins with `_INBOX`."""
# A subject of a hundred tokens is an attack, not an address: the deepest of ours has four pairs and an aspect.
MAX_TOKENS = 17

_id = re.compile(ID_PATTERN).fullmatch


def membership_of(root_kind: str) -> str:
    """Return the pattern of the subjects of membership changes in roots of this kind."""
    return f"{root_kind}.*.member.*"


MEMBERSHIP = (membership_of("*"), "user.*.access")
"""Patterns of the subjects on which only auth may publish, because gateways act on these events."""


class InvalidSubject(ValueError):
    """A subject that is not a path of `kind.id` pairs below a root."""


class InvalidRoom(ValueError):
    """A room that is not `kind:id` or `root:id/kind:id`."""


class Pair(NamedTuple):
    """One step of a subject; also a room, and (outermost) a root."""

    kind: str
    id: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"


class RoomKey(NamedTuple):
    """A room and the root that owns it. Two roots may each have a `settlement:s1`; these are two rooms."""

    root: Pair
    pair: Pair

    def __str__(self) -> str:
        return str(self.pair) if self.root == self.pair else f"{self.root}/{self.pair}"


@dataclass(frozen=True, slots=True)
class Subject:
    """A parsed subject. `str()` gives back what was parsed."""

    pairs: tuple[Pair, ...]
    aspect: str | None = None

    @property
    def root(self) -> Pair:
        return self.pairs[0]

    @property
    def rooms(self) -> tuple[RoomKey, ...]:
        """The rooms of an event on this subject, outermost first, each once."""
        return tuple(RoomKey(self.root, pair) for pair in dict.fromkeys(self.pairs))

    def __str__(self) -> str:
        path = ".".join(f"{kind}.{id_}" for kind, id_ in self.pairs)
        return f"{path}.{self.aspect}" if self.aspect else path


@dataclass(frozen=True, slots=True)
class Room:
    """A room as a client names it. `root` is None if the client did not give it."""

    root: Pair | None
    pair: Pair

    def key(self, root_kinds: Collection[str]) -> RoomKey | None:
        """Return the room's key if it needs no look-up: the client gave the root, or the room is a root.

        Raises InvalidRoom if the root has none of these kinds, and if the room is named as a part of another root but
        is a root itself. Events may have such subjects, but nobody hears them in such a room.
        """
        if self.root is None:
            return RoomKey(self.pair, self.pair) if self.pair.kind in root_kinds else None
        if self.root.kind not in root_kinds:
            raise InvalidRoom(f"{self}: {self.root.kind} is not a kind of root in the catalogue")
        if self.pair.kind in root_kinds and self.pair != self.root:
            raise InvalidRoom(f"{self}: {self.pair} is a root of its own, not a room of {self.root}")
        return RoomKey(self.root, self.pair)

    def __str__(self) -> str:
        return f"{self.root}/{self.pair}" if self.root else str(self.pair)


def is_id(text: str) -> bool:
    """Return whether the text is valid as an id or a kind."""
    return _id(text) is not None


def is_reserved(kind: str) -> bool:
    """Return whether no root can be of this kind, because the broker's other traffic begins with it."""
    return kind in RESERVED_KINDS or kind.startswith("_INBOX")


def parse_subject(text: str) -> Subject:
    """Parse a subject.

    Raises InvalidSubject, naming the token, for wildcards, empty tokens, white space and tokens over 64 characters.
    Also raises it if the first token is reserved.
    """
    tokens = text.split(".")
    if len(tokens) > MAX_TOKENS:
        raise InvalidSubject(f"subject has {len(tokens)} tokens, {MAX_TOKENS} at most")
    for token in tokens:
        if not is_id(token):
            raise InvalidSubject(f"{_show(token)} in a subject is not an id: expected {ID_PATTERN}")
    if is_reserved(tokens[0]):
        raise InvalidSubject(f"{_show(text)} starts with {tokens[0]}, which is reserved: start with a kind of root")
    if len(tokens) < 2:
        raise InvalidSubject(f"{_show(text)} does not start with a kind of root and its id")
    aspect = tokens.pop() if len(tokens) % 2 else None
    pairs = tuple(Pair(kind, id_) for kind, id_ in zip(tokens[::2], tokens[1::2], strict=True))
    return Subject(pairs, aspect)


def root_name(subject: str) -> str:
    """Return the root of a valid subject, as a room: `campaign:c1`."""
    return ":".join(subject.split(".", 2)[:2])


def matches(pattern: str, subject: str) -> bool:
    """Match as NATS does: `*` stands for one word, a final `>` for one or more."""
    wanted, words = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        if len(words) <= len(wanted):
            return False
        words = words[: len(wanted)]
    return len(wanted) == len(words) and all(one in ("*", word) for one, word in zip(wanted, words, strict=True))


def is_membership(subject: str) -> bool:
    """Return whether only auth may publish on this subject: membership changes and revoked access."""
    return any(matches(pattern, subject) for pattern in MEMBERSHIP)


def parse_pair(text: str) -> Pair:
    """Parse `kind:id`. Raises InvalidRoom."""
    kind, colon, id_ = text.partition(":")
    if not colon or not is_id(kind) or not is_id(id_):
        raise InvalidRoom(f"{_show(text)} is not kind:id, both {ID_PATTERN}")
    return Pair(kind, id_)


def parse_root(text: str) -> Pair:
    """Parse the `kind:id` of a root. Raises InvalidRoom if no root can have this kind."""
    pair = parse_pair(text)
    if is_reserved(pair.kind):
        raise InvalidRoom(f"{_show(text)} is not a root: the kind {pair.kind} is reserved")
    return pair


def parse_room(text: str) -> Room:
    """Parse a room as a client writes it: `settlement:s1` or `campaign:c1/settlement:s1`. Raises InvalidRoom."""
    root, slash, pair = text.rpartition("/")
    return Room(parse_root(root) if slash else None, parse_pair(pair))


def _show(text: str) -> str:
    """Return the invalid value, shortened and quoted."""
    return repr(text if len(text) <= 80 else text[:80] + "…")
