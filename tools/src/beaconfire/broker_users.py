"""Who may say what on the broker: the one table, and the nats-server configuration written from it.

`beaconfire up`, the tests and `deploy/nats/*.conf` all come from here. Nobody but the server publishes `live.>`, and
nobody but auth publishes a membership change: the gateways act on those.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from beaconfire_kit.authorization import AUTHORIZE, GRANT, QUEUE
from beaconfire_kit.broker import DEADLETTER_PREFIX, DEADLETTERS, STREAM, WAKE
from beaconfire_kit.lookup import consumer
from beaconfire_kit.subjects import MEMBERSHIP

_STREAM_INFO = f"$JS.API.STREAM.INFO.{STREAM}"

ROUTES_USER = "routes"
"""The servers of a cluster, towards one another. No client: it is not in the table."""
NODE_NAME_VARIABLE = "BEACONFIRE_NATS_NAME"
ROUTES_VARIABLE = "BEACONFIRE_NATS_ROUTES"
ROUTES_PASSWORD_VARIABLE = "BEACONFIRE_NATS_ROUTES_PASSWORD"  # noqa: S105  (a name)


def _consumer(name: str) -> tuple[str, ...]:
    """To read the stream by one durable consumer, and no other: who could fetch and acknowledge from another's would
    take its messages away.
    """
    return (
        _STREAM_INFO,
        f"$JS.API.CONSUMER.CREATE.{STREAM}.{name}",
        f"$JS.API.CONSUMER.INFO.{STREAM}.{name}",
        f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{name}",
        f"$JS.ACK.{STREAM}.{name}.>",
    )


def _looks_up(name: str) -> tuple[str, ...]:
    """To look up what was sent long ago before it is sent again (`beaconfire_kit/lookup.py`)."""
    return (
        "tick",
        f"$JS.API.CONSUMER.CREATE.{STREAM}.{consumer(name)}",
        f"$JS.API.CONSUMER.DELETE.{STREAM}.{consumer(name)}",
    )


def _worker(name: str) -> "BrokerUser":
    """A worker reads the stream by its own durable consumer, and publishes no event: the publisher relays for it."""
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
    # Snapshots are what backups of a stream are made of, and put back from.
    BrokerUser("setup", publish=("$JS.API.>", "$JS.SNAPSHOT.>", "anchor")),
    BrokerUser(
        "operator",
        publish=(
            "$JS.API.INFO",
            _STREAM_INFO,
            f"$JS.API.STREAM.INFO.{DEADLETTERS}",
            f"$JS.API.CONSUMER.LIST.{STREAM}",
            f"$JS.API.CONSUMER.CREATE.{DEADLETTERS}.>",
            f"$JS.API.CONSUMER.MSG.NEXT.{DEADLETTERS}.>",
            "tick",  # the doctor tries whether the broker can store anything
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
            *_looks_up("publisher"),
        ),
        subscribe=(WAKE,),
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
            # Its reads of the history, named at random. Consumers of others are denied by name: see `_protected`.
            f"$JS.API.CONSUMER.CREATE.{STREAM}.*",
            f"$JS.API.CONSUMER.DELETE.{STREAM}.*",
        ),
        subscribe=("live.>", "ephemeral.>", f"$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.{STREAM}"),
    ),
    BrokerUser(
        "auth",
        # It begins its projection anew where its database was put back from a backup: that consumer, and no other.
        publish=(
            *MEMBERSHIP,
            *_consumer("auth-parents"),
            f"$JS.API.CONSUMER.DELETE.{STREAM}.auth-parents",
            *_looks_up("auth"),
        ),
        subscribe=(f"{AUTHORIZE} {QUEUE}", f"{GRANT} {QUEUE}"),
        replies=True,
    ),
    _worker("rules-engine"),
    _worker("scheduler"),
)


def _protected(users: tuple[BrokerUser, ...]) -> tuple[BrokerUser, ...]:
    """The users, with every consumer that has an owner in the table denied to whoever may make and delete any."""
    calls = tuple(f"$JS.API.CONSUMER.{call}.{STREAM}." for call in ("CREATE", "DELETE"))
    named = {
        subject.removeprefix(calls[0]) for user in users for subject in user.publish if subject.startswith(calls[0])
    }
    owned = sorted(name for name in named if name not in ("*", ">"))
    denied = tuple(f"{call}{name}" for call in calls for name in owned)
    return tuple(
        replace(user, deny_publish=(*user.deny_publish, *denied)) if f"{calls[0]}*" in user.publish else user
        for user in users
    )


USERS = _protected(USERS)


@dataclass(frozen=True, slots=True)
class Node:
    """One server of a cluster. Every value is as the configuration file has it: quoted, or `$NAME` for a variable."""

    name: str
    listen: str
    routes: str
    """The list of the servers' addresses, each with `ROUTES_USER` and its password; its own among them is harmless."""
    password: str
    advertise: str | None = None
    """Where the others reach this one, if not where it listens."""

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
    """A nats-server configuration that enforces the table, of one server or of a node. `sync_interval: always`: ADR 3.

    `passwords` are as the configuration file has them: `quoted("…")`, or `$NAME` for an environment variable.
    `monitoring` is the address of nats-server's own HTTP pages, which ask nobody for a password. `more_users` are users
    besides those of the table, as the configuration file has them.
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
    """`deploy/nats/single.conf`: for a container, the passwords from its environment, the store on its volume."""
    return _for_a_container(node=None)


def shipped_cluster_config() -> str:
    """`deploy/nats/cluster.conf`: the same for each of three servers; who it is and where the others are, it is told
    by its environment.
    """
    node = Node(
        name=f"${NODE_NAME_VARIABLE}",
        listen='"0.0.0.0:6222"',
        routes=f"${ROUTES_VARIABLE}",
        password=f"${ROUTES_PASSWORD_VARIABLE}",
    )
    return _for_a_container(node=node)


def _for_a_container(*, node: Node | None) -> str:
    return render(
        host="0.0.0.0",  # noqa: S104  (inside a container; who may connect is said by the table)
        port=4222,
        store="/data",
        passwords={user.name: f"${password_variable(user.name)}" for user in USERS},
        monitoring="127.0.0.1:8222",
        node=node,
    )


def password_variable(user: str) -> str:
    """The environment variable with a broker user's password, as nats-server reads it."""
    return f"BEACONFIRE_{user.upper().replace('-', '_')}_PASSWORD"


def quoted(password: str) -> str:
    """A password as text of the configuration file. Raises ValueError for what would end the text."""
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
