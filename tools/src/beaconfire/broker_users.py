"""Define what each broker user may publish and subscribe to.

`beaconfire up`, the tests and `deploy/nats/*.conf` all use this one table. Only the server publishes `live.>`, and only
auth publishes membership changes, because the gateways act on those.

nats-server reads permissions from its configuration, and no push of a catalogue changes that. So the rows of gateways
and auth name no root. The publisher's row names the roots that the catalogue declares, and further publishers have
their own rows: both need a new configuration (`beaconfire.broker_config`), which the server takes over at a signal.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from beaconfire_kit.authorization import AUTHORIZE, GRANT, QUEUE
from beaconfire_kit.backend import ACCESS
from beaconfire_kit.broker import (
    BUILT_IN_ROOTS,
    CATALOGUE,
    DEADLETTER_PREFIX,
    DEADLETTERS,
    EPHEMERAL_PREFIX,
    GATEWAY_PREFIX,
    LIVE_PREFIX,
    PRESENCE_PREFIX,
    SEND,
    SENT,
    STREAM,
    WAKE,
)
from beaconfire_kit.catalogue_store import BUCKET, KV_STREAM
from beaconfire_kit.gateway_buckets import BUCKETS
from beaconfire_kit.lookup import consumer
from beaconfire_kit.sending import SENDING_QUEUE
from beaconfire_kit.subjects import MEMBERSHIP, RESERVED_KINDS

PUBLISHER = "publisher"
USER_INFO = "$SYS.REQ.USER.INFO"
"""Every user may ask the broker what it may do. `beaconfire doctor` does, as each of them."""

_PUSHES = (CATALOGUE, f"$KV.{BUCKET}.>")
"""What writes a revision of the catalogue, and the marker that commits it."""
_READS_CATALOGUE = f"$JS.API.STREAM.MSG.GET.{KV_STREAM}"
_FOLLOWS_CATALOGUE = (_READS_CATALOGUE, f"$JS.API.STREAM.MSG.GET.{STREAM}")
"""What a service needs to follow the catalogue. The marker is a message of the stream, so any message can be read."""
_RECORDS = tuple(
    subject
    for bucket in BUCKETS.values()
    for subject in (f"$KV.{bucket.name}.>", f"$JS.API.STREAM.MSG.GET.{bucket.stream}")
)
"""What a gateway needs to write and read its records of clients."""
_STREAM_INFO = f"$JS.API.STREAM.INFO.{STREAM}"
_NO_EVENTS = (*sorted(RESERVED_KINDS), "_INBOX", "$BEACONFIRE", "$JS", "$KV", "$MQTT", "$O", "$SRV", "$SYS")
"""First words of subjects that are not events. A pattern that begins with `*` matches them too."""


def _consumer(name: str) -> tuple[str, ...]:
    """Return the permissions to read the stream with one durable consumer, and no other.

    A user that could fetch and acknowledge from another's consumer would take its messages away.
    """
    return (
        _STREAM_INFO,
        f"$JS.API.CONSUMER.CREATE.{STREAM}.{name}",
        f"$JS.API.CONSUMER.INFO.{STREAM}.{name}",
        f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{name}",
        f"$JS.ACK.{STREAM}.{name}.>",
    )


def _looks_up(name: str) -> tuple[str, ...]:
    """Return the permissions to look up old events before they are sent again (`beaconfire_kit/lookup.py`)."""
    return (
        "tick",
        f"$JS.API.CONSUMER.CREATE.{STREAM}.{consumer(name)}",
        f"$JS.API.CONSUMER.DELETE.{STREAM}.{consumer(name)}",
    )


def _worker(name: str) -> "BrokerUser":
    """Return a worker's user. It reads the stream with its own durable consumer. The publisher relays its events."""
    return BrokerUser(
        name,
        publish=(*_consumer(name), WAKE),
    )


@dataclass(frozen=True, slots=True)
class BrokerUser:
    """A row of the table. Every user may also subscribe to its own inbox, `_INBOX_<name>.>`."""

    name: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...] = ()
    deny_publish: tuple[str, ...] = ()
    replies: bool = False
    """May answer requests, once each, within 5 s."""


@dataclass(frozen=True, slots=True)
class Publisher:
    """A program of your own that publishes events onto the broker. It gets a broker user."""

    name: str
    subtrees: tuple[str, ...]
    """Patterns of the subjects on which it may publish: `depot.>`, `campaign.*.quest.*`."""
    kit: bool = False
    """It is built on beaconfire-kit: it may ask auth, and look up in the stream what it published. So it could read
    every event."""
    password_variable: str = ""
    """The environment variable with its password. Empty: the usual one."""


_OURS: tuple[BrokerUser, ...] = (
    # Backups of a stream are made with snapshots, and restored from them.
    # It pushes the built-in fragments of the catalogue.
    BrokerUser("setup", publish=("$JS.API.>", "$JS.SNAPSHOT.>", "anchor", *_PUSHES)),
    # It reads the stream to find the markers of the catalogue, and so could read the events too.
    BrokerUser(
        "catalogue",
        publish=(
            *_PUSHES,
            _STREAM_INFO,
            f"$JS.API.STREAM.MSG.GET.{STREAM}",
            f"$JS.API.STREAM.INFO.{KV_STREAM}",
            _READS_CATALOGUE,
        ),
    ),
    BrokerUser(
        "operator",
        publish=(
            "$JS.API.INFO",
            _STREAM_INFO,
            f"$JS.API.STREAM.INFO.{DEADLETTERS}",
            f"$JS.API.CONSUMER.LIST.{STREAM}",
            f"$JS.API.CONSUMER.CREATE.{DEADLETTERS}.>",
            f"$JS.API.CONSUMER.MSG.NEXT.{DEADLETTERS}.>",
            f"$JS.API.STREAM.MSG.DELETE.{DEADLETTERS}",  # of those that were replayed
            f"$JS.API.STREAM.INFO.{KV_STREAM}",
            *(f"$JS.API.STREAM.INFO.{bucket.stream}" for bucket in BUCKETS.values()),
            *_FOLLOWS_CATALOGUE,  # the doctor compares the marker in the stream with the bucket
            "tick",  # the doctor checks whether the broker can store messages
        ),
        subscribe=(f"{DEADLETTER_PREFIX}>",),
    ),
    BrokerUser(
        PUBLISHER,
        publish=(
            # `users` adds the roots, in which it may publish everything except membership changes.
            "ephemeral.>",
            SENT,
            SEND,
            AUTHORIZE,
            GRANT,
            ACCESS,
            WAKE,
            _STREAM_INFO,
            *_FOLLOWS_CATALOGUE,
            *_looks_up("publisher"),
        ),
        subscribe=(WAKE, f"{LIVE_PREFIX}{CATALOGUE}", f"{SEND} {SENDING_QUEUE}"),
        deny_publish=MEMBERSHIP,
        replies=True,
    ),
    BrokerUser(
        "gateway",
        publish=(
            "tick",
            "anchor",
            "ephemeral.>",
            f"{DEADLETTER_PREFIX}>",
            f"{GATEWAY_PREFIX}>",
            f"{PRESENCE_PREFIX}>",
            AUTHORIZE,
            _STREAM_INFO,
            f"$JS.API.STREAM.MSG.GET.{STREAM}",
            _READS_CATALOGUE,
            # Its reads of the history, named at random. Consumers of others are denied by name: see `_protected`.
            f"$JS.API.CONSUMER.CREATE.{STREAM}.*",
            f"$JS.API.CONSUMER.DELETE.{STREAM}.*",
            *_RECORDS,
        ),
        subscribe=(
            "live.>",
            "ephemeral.>",
            SENT,
            f"{GATEWAY_PREFIX}>",
            f"{PRESENCE_PREFIX}>",
            f"$KV.{BUCKET}.>",
            f"$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.{STREAM}",
        ),
    ),
    BrokerUser(
        "auth",
        # It deletes its own consumer to start its projection over, if its database was restored from a backup.
        publish=(
            *MEMBERSHIP,
            *_consumer("auth-parents"),
            f"$JS.API.CONSUMER.DELETE.{STREAM}.auth-parents",
            *_looks_up("auth"),
            *_FOLLOWS_CATALOGUE,
        ),
        subscribe=(f"{AUTHORIZE} {QUEUE}", f"{GRANT} {QUEUE}", f"{ACCESS} {QUEUE}", f"{LIVE_PREFIX}{CATALOGUE}"),
        replies=True,
    ),
    _worker("rules-engine"),
    _worker("scheduler"),
)


def users(roots: Iterable[str] = (), publishers: Sequence[Publisher] = ()) -> tuple[BrokerUser, ...]:
    """Return the table: our own users, and those of further publishers.

    `roots` are the kinds that the catalogue declares besides the built-in ones.
    """
    kinds = sorted({*BUILT_IN_ROOTS, *roots})
    ours = tuple(_in_every_root(user, kinds) if user.name == PUBLISHER else user for user in _OURS)
    return _protected(tuple(replace(one, publish=(*one.publish, USER_INFO)) for one in (*ours, *map(_row, publishers))))


def _in_every_root(user: BrokerUser, kinds: Iterable[str]) -> BrokerUser:
    return replace(user, publish=(*(f"{kind}.>" for kind in kinds), *user.publish))


def _row(publisher: Publisher) -> BrokerUser:
    kit = (AUTHORIZE, GRANT, ACCESS, _STREAM_INFO, *_FOLLOWS_CATALOGUE, *_looks_up(publisher.name))
    return BrokerUser(
        publisher.name,
        publish=(
            *publisher.subtrees,
            *(f"{EPHEMERAL_PREFIX}{subtree}" for subtree in publisher.subtrees),
            SEND,  # a service token says what it may send to whom
            *(kit if publisher.kit else ()),
        ),
        subscribe=(f"{LIVE_PREFIX}{CATALOGUE}",) if publisher.kit else (),
        deny_publish=MEMBERSHIP,
    )


def _protected(users: tuple[BrokerUser, ...]) -> tuple[BrokerUser, ...]:
    """Return the users. What belongs to others is denied to a user whose wildcards would match it."""
    return tuple(
        replace(user, deny_publish=(*user.deny_publish, *_consumers_of_others(user, users), *_no_events(user, users)))
        for user in users
    )


def _no_events(user: BrokerUser, users: tuple[BrokerUser, ...]) -> tuple[str, ...]:
    """Return what the user's patterns for every kind of root match besides events."""
    words = (*_NO_EVENTS, *(f"_INBOX_{one.name}" for one in users))
    return tuple(word + pattern[1:] for pattern in user.publish if pattern.startswith("*.") for word in words)


def _consumers_of_others(user: BrokerUser, users: tuple[BrokerUser, ...]) -> tuple[str, ...]:
    """Return the consumers of other users, if the user may make and delete any consumer."""
    calls = tuple(f"$JS.API.CONSUMER.{call}.{STREAM}." for call in ("CREATE", "DELETE"))
    named = {
        subject.removeprefix(calls[0]) for user in users for subject in user.publish if subject.startswith(calls[0])
    }
    owned = sorted(name for name in named if name not in ("*", ">"))
    return tuple(f"{call}{name}" for call in calls for name in owned) if f"{calls[0]}*" in user.publish else ()


USERS = users()
"""The table of a deployment with the built-in catalogue and no further publishers."""


def password_variable(user: str) -> str:
    """Return the environment variable with a broker user's password, as nats-server reads it."""
    return f"BEACONFIRE_{user.upper().replace('-', '_')}_PASSWORD"
