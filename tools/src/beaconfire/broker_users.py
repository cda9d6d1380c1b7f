"""Define what each broker user may publish and subscribe to, and write the nats-server configuration from it.

`beaconfire up`, the tests and `deploy/nats/*.conf` all use this one table. Only the server publishes `live.>`, and only
auth publishes membership changes, because the gateways act on those.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from beaconfire_kit.authorization import AUTHORIZE, GRANT, QUEUE
from beaconfire_kit.broker import CATALOGUE, DEADLETTER_PREFIX, DEADLETTERS, LIVE_PREFIX, STREAM, WAKE
from beaconfire_kit.catalogue_store import BUCKET, KV_STREAM
from beaconfire_kit.lookup import consumer
from beaconfire_kit.subjects import MEMBERSHIP, RESERVED_KINDS

_PUSHES = (CATALOGUE, f"$KV.{BUCKET}.>")
"""What writes a revision of the catalogue, and the marker that commits it."""
_READS_CATALOGUE = f"$JS.API.STREAM.MSG.GET.{KV_STREAM}"
_STREAM_INFO = f"$JS.API.STREAM.INFO.{STREAM}"

ROUTES_USER = "routes"
"""The user with which the servers of a cluster connect to each other. Clients do not use it, so it is not in the
table."""
NODE_NAME_VARIABLE = "BEACONFIRE_NATS_NAME"
ROUTES_VARIABLE = "BEACONFIRE_NATS_ROUTES"
ROUTES_PASSWORD_VARIABLE = "BEACONFIRE_NATS_ROUTES_PASSWORD"  # noqa: S105  (a name)


_NO_EVENTS = (*sorted(RESERVED_KINDS), "_INBOX", "$JS", "$KV", "$MQTT", "$O", "$SRV", "$SYS")
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


USERS: tuple[BrokerUser, ...]
USERS = (
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
            f"$JS.API.STREAM.INFO.{KV_STREAM}",
            _READS_CATALOGUE,
            "tick",  # the doctor checks whether the broker can store messages
        ),
        subscribe=(f"{DEADLETTER_PREFIX}>",),
    ),
    BrokerUser(
        "publisher",
        publish=(
            "campaign.>",
            "workspace.>",
            "user.>",
            "ephemeral.>",
            AUTHORIZE,
            GRANT,
            WAKE,
            _STREAM_INFO,
            _READS_CATALOGUE,
            *_looks_up("publisher"),
        ),
        subscribe=(WAKE, f"{LIVE_PREFIX}{CATALOGUE}"),
        deny_publish=MEMBERSHIP,
    ),
    BrokerUser(
        "gateway",
        publish=(
            "tick",
            "anchor",
            "ephemeral.>",
            f"{DEADLETTER_PREFIX}>",
            AUTHORIZE,
            _STREAM_INFO,
            f"$JS.API.STREAM.MSG.GET.{STREAM}",
            _READS_CATALOGUE,
            # Its reads of the history, named at random. Consumers of others are denied by name: see `_protected`.
            f"$JS.API.CONSUMER.CREATE.{STREAM}.*",
            f"$JS.API.CONSUMER.DELETE.{STREAM}.*",
        ),
        subscribe=("live.>", "ephemeral.>", f"$KV.{BUCKET}.>", f"$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.{STREAM}"),
    ),
    BrokerUser(
        "auth",
        # It deletes its own consumer to start its projection over, if its database was restored from a backup.
        publish=(
            *MEMBERSHIP,
            *_consumer("auth-parents"),
            f"$JS.API.CONSUMER.DELETE.{STREAM}.auth-parents",
            *_looks_up("auth"),
            _READS_CATALOGUE,
        ),
        subscribe=(f"{AUTHORIZE} {QUEUE}", f"{GRANT} {QUEUE}", f"{LIVE_PREFIX}{CATALOGUE}"),
        replies=True,
    ),
    _worker("rules-engine"),
    _worker("scheduler"),
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


USERS = _protected(USERS)


@dataclass(frozen=True, slots=True)
class Node:
    """One server of a cluster. Every value is as the configuration file has it: quoted, or `$NAME` for a variable."""

    name: str
    listen: str
    routes: str
    """The list of the servers' addresses, each with `ROUTES_USER` and its password. It may contain its own."""
    password: str
    advertise: str | None = None
    """The address at which the others reach this one, if it differs from `listen`."""

    def __str__(self) -> str:
        advertise = f"\n  advertise: {self.advertise}" if self.advertise else ""
        return f"""\
cluster {{
  name: beaconfire
  listen: {self.listen}{advertise}
  # Clients get all addresses from their settings. They may not be able to reach the addresses that a server knows.
  no_advertise: true
  authorization {{ user: {ROUTES_USER}, password: {self.password}, timeout: 2 }}
  routes: {self.routes}
}}
"""


def render(
    *,
    host: str,
    port: int,
    store: str,
    passwords: Mapping[str, str],
    monitoring: str | None = None,
    max_store_gb: int = 10,
    node: Node | None = None,
    more_users: str = "",
) -> str:
    """Return a nats-server configuration that enforces the table, for one server or for a node of a cluster.

    `passwords` are as the configuration file has them: `quoted("…")`, or `$NAME` for an environment variable.
    `monitoring` is the address of nats-server's own HTTP pages, which need no password. `more_users` are users besides
    those of the table, as the configuration file has them. ADR 3 explains `sync_interval: always`.
    """
    users = "\n".join([*(_user(user, passwords[user.name]) for user in USERS), *more_users.splitlines()])
    http = f'http: "{monitoring}"\n' if monitoring else ""
    return f"""\
# Written by Beaconfire from tools/src/beaconfire/broker_users.py. Do not edit.
server_name: {node.name if node else "beaconfire"}
host: "{host}"
port: {port}
{http}max_payload: 256KB
write_deadline: "5s"
# Without "always", a power loss destroys acknowledged messages.
jetstream {{ store_dir: "{store}", max_file_store: {max_store_gb}GB, max_mem_store: 64MB, sync_interval: always }}
{node or ""}authorization {{
  timeout: 2
  users = [
{users}
  ]
}}
"""


def shipped_config() -> str:
    """Return `deploy/nats/single.conf`, for a container. Passwords are in the environment, the store on a volume."""
    return _for_a_container(node=None)


def shipped_cluster_config() -> str:
    """Return `deploy/nats/cluster.conf`, the same for three servers. The environment has each one's name and routes."""
    node = Node(
        name=f"${NODE_NAME_VARIABLE}",
        listen='"0.0.0.0:6222"',
        routes=f"${ROUTES_VARIABLE}",
        password=f"${ROUTES_PASSWORD_VARIABLE}",
    )
    return _for_a_container(node=node)


def _for_a_container(*, node: Node | None) -> str:
    return render(
        host="0.0.0.0",  # noqa: S104  (inside a container, and the table decides which users may connect)
        port=4222,
        store="/data",
        passwords={user.name: f"${password_variable(user.name)}" for user in USERS},
        monitoring="127.0.0.1:8222",
        node=node,
    )


def password_variable(user: str) -> str:
    """Return the environment variable with a broker user's password, as nats-server reads it."""
    return f"BEACONFIRE_{user.upper().replace('-', '_')}_PASSWORD"


def quoted(password: str) -> str:
    """Return a password as text of the configuration file. Raises ValueError for characters that would end the text."""
    if not password.isprintable() or '"' in password or "\\" in password:
        raise ValueError("a broker password has no quotes, backslashes or control characters")
    return f'"{password}"'


def _user(user: BrokerUser, password: str) -> str:
    deny = f", deny: {_list(user.deny_publish)}" if user.deny_publish else ""
    replies = '\n        allow_responses: { max: 1, expires: "5s" }' if user.replies else ""
    return f"""\
    {{ user: {user.name}, password: {password}, permissions: {{
        publish: {{ allow: {_list(user.publish)}{deny} }}
        subscribe: {{ allow: {_list((*user.subscribe, f"_INBOX_{user.name}.>"))} }}{replies}
    }} }}"""


def _list(subjects: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{subject}"' for subject in subjects) + "]"
