"""Write the nats-server configuration that enforces the table of broker users.

nats-server takes a changed configuration over at a signal (`nats-server --signal reload=PID`, or SIGHUP). Connections
stay, with the new permissions.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from beaconfire.broker_users import USERS, BrokerUser, Publisher, password_variable, users

ROUTES_USER = "routes"
"""The user with which the servers of a cluster connect to each other. Clients do not use it, so it is not in the
table."""
NODE_NAME_VARIABLE = "BEACONFIRE_NATS_NAME"
ROUTES_VARIABLE = "BEACONFIRE_NATS_ROUTES"
ROUTES_PASSWORD_VARIABLE = "BEACONFIRE_NATS_ROUTES_PASSWORD"  # noqa: S105  (a name)


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
    table: Sequence[BrokerUser] = USERS,
    more_users: str = "",
    include: str = "",
) -> str:
    """Return a nats-server configuration that enforces the table, for one server or for a node of a cluster.

    `passwords` are as the configuration file has them: `quoted("…")`, or `$NAME` for an environment variable.
    `monitoring` is the address of nats-server's own HTTP pages, which need no password. `more_users` are users besides
    those of the table, as the configuration file has them. `include` is a file beside it that defines variables. ADR 3
    explains `sync_interval: always`.
    """
    rows = "\n".join([*(_user(user, passwords[user.name]) for user in table), *more_users.splitlines()])
    http = f'http: "{monitoring}"\n' if monitoring else ""
    included = f'include "{include}"\n' if include else ""
    return f"""\
# Written by Beaconfire from tools/src/beaconfire/broker_users.py. Do not edit.
{included}server_name: {node.name if node else "beaconfire"}
host: "{host}"
port: {port}
{http}max_payload: 256KB
write_deadline: "5s"
# Without "always", a power loss destroys acknowledged messages.
jetstream {{ store_dir: "{store}", max_file_store: {max_store_gb}GB, max_mem_store: 256MB, sync_interval: always }}
{node or ""}authorization {{
  timeout: 2
  users = [
{rows}
  ]
}}
"""


def container_config(
    *, cluster: bool = False, roots: Iterable[str] = (), publishers: Sequence[Publisher] = (), include: str = ""
) -> str:
    """Return the configuration for a container, or with `cluster` for each of three servers.

    Passwords are in the environment or in the included file, and the store is on a volume. In a cluster, the
    environment has each server's name and routes. `deploy/nats` has both for the built-in catalogue.
    """
    node = Node(
        name=f"${NODE_NAME_VARIABLE}",
        listen='"0.0.0.0:6222"',
        routes=f"${ROUTES_VARIABLE}",
        password=f"${ROUTES_PASSWORD_VARIABLE}",
    )
    variables = {publisher.name: publisher.password_variable for publisher in publishers}
    table = users(roots, publishers)
    return render(
        host="0.0.0.0",  # noqa: S104  (inside a container, and the table decides which users may connect)
        port=4222,
        store="/data",
        passwords={user.name: f"${variables.get(user.name) or password_variable(user.name)}" for user in table},
        monitoring="127.0.0.1:8222",
        node=node if cluster else None,
        table=table,
        include=include,
    )


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
