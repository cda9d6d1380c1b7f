"""Manage the data folder of `beaconfire up`: its lock, its passwords, and the addresses of the running services."""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from beaconfire.broker_users import USERS
from beaconfire_auth.settings import DEVELOPMENT_SECRET
from beaconfire_demo.applications import APPLICATIONS

# Everything that we write there. `--fresh` deletes only these, because the folder may be the wrong one.
OURS = (
    "nats",
    "logs",
    "page",
    "keys",
    "auth.db*",
    "publisher.db*",
    *(f"{one.name}.db*" for one in APPLICATIONS.values() if one.has_service),
    "passwords.json",
    "tokens.json",
    "demo.json",
    "running.json",
    "roots.json",
)
OPERATOR_TOKEN = "operator-token"  # noqa: S105  (its name among the passwords)
SERVICE_TOKEN = "service-token"  # noqa: S105  (its name among the passwords)
KEYS_SECRET = "keys-secret"  # noqa: S105  (its name among the passwords)
_WHOSE = "only the user who started `beaconfire up` can read it. Run this as that user, or give another --data"
TOKENS = (OPERATOR_TOKEN, SERVICE_TOKEN, KEYS_SECRET)


class DataFolderUnusable(Exception):
    """The folder cannot be used. The text contains the reason and what to do."""


@dataclass(frozen=True, slots=True)
class Running:
    """The addresses of the services of a running `up`, for the other commands."""

    address: str
    auth_url: str
    publisher_url: str
    nats_url: str
    auth_ops_url: str
    monitoring_url: str = ""
    """URL of the broker's monitoring port, or empty."""
    gateway_ops_urls: Sequence[str] = ()
    ops_urls: Mapping[str, str] = field(default_factory=dict)
    """URLs of the operations ports of all services, by name."""
    processes: Mapping[str, int] = field(default_factory=dict)
    """Process ids by name."""
    roots: Sequence[str] = ()
    """The kinds of roots, besides the built-in ones, in which the broker lets the publisher publish."""
    outside_issuers: str = ""
    """The setting of this name, as the services have it."""
    application_urls: Mapping[str, str] = field(default_factory=dict)
    """The addresses of the services of the demo's applications, by name. The campaign's is the publisher."""
    working_folder: str = ""
    """The folder from which relative paths in the services' settings count."""


class DataFolder:
    """The folder with the data of one `up`."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder and lock it. Only this user can read what is written to it in the block.

        Raises DataFolderUnusable.
        """
        umask = os.umask(0o077)  # signing keys, passwords, all events
        try:
            with self._lock():
                self._close_to_others()
                try:
                    yield
                finally:
                    (self.path / "running.json").unlink(missing_ok=True)
        finally:
            os.umask(umask)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Create the folder and hold its lock. Raises DataFolderUnusable."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / "lock").open("a+")
        except (FileExistsError, NotADirectoryError):
            raise DataFolderUnusable(
                f"{self.path} is not a folder: move that file away, or give another --data"
            ) from None
        except OSError as error:
            raise DataFolderUnusable(f"cannot write in {self.path}: {error.strerror}. Give another --data") from None
        with lock:
            self._acquire(lock.fileno())
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def clear(self) -> None:
        """Delete the data of earlier runs. Other files stay."""
        for pattern in OURS:
            for path in self.path.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def passwords(self) -> dict[str, str]:
        """Return the secrets: a password per broker user, the operator and service tokens, and auth's keys secret.

        They are created once, in a file that only this user can read. Raises DataFolderUnusable.
        """
        path = self.path / "passwords.json"
        try:
            kept = _read(path) if path.exists() else {}
        except PermissionError as error:
            raise DataFolderUnusable(f"{self.path} cannot be read ({error.strerror}): {_WHOSE}") from None
        missing = [name for name in (*(user.name for user in USERS), *TOKENS) if name not in kept]
        if missing:
            kept |= {name: secrets.token_hex(24) for name in missing}
            _write_private(path, kept)
        return kept

    def password(self, name: str) -> str:
        """Return the password of a further broker user. It is created once, and kept like the others."""
        kept = self.passwords()
        if name not in kept:
            kept |= {name: secrets.token_hex(24)}
            _write_private(self.path / "passwords.json", kept)
        return kept[name]

    def roots(self) -> frozenset[str]:
        """Return the kinds of roots, besides the built-in ones, that catalogues in this folder ever declared."""
        path = self.path / "roots.json"
        return frozenset(_read(path)["roots"]) if path.exists() else frozenset()

    def add_roots(self, kinds: Iterable[str]) -> None:
        """Add kinds of roots before a push declares them. A running `up` notices, and reloads its broker.

        To wait for it, look for the kinds in `running().roots`.
        """
        there = self.roots()
        if not there.issuperset(kinds):
            _write_private(self.path / "roots.json", {"roots": sorted({*there, *kinds})})

    def keys_secret(self) -> str:
        """Return the secret that encrypts auth's signing keys, then the default that older folders used."""
        return f"{self.passwords()[KEYS_SECRET]},{DEVELOPMENT_SECRET}"

    def kept_token(self, name: str) -> str | None:
        """Return a token that an earlier command kept, or None. It may have expired."""
        return self._kept_tokens().get(name)

    def keep_token(self, name: str, token: str) -> None:
        """Keep a token for the next command, in a file that only this user can read. If that fails, it is not kept."""
        with contextlib.suppress(OSError):  # two commands may write at once
            _write_private(self.path / "tokens.json", {**self._kept_tokens(), name: token})

    def _kept_tokens(self) -> dict[str, str]:
        try:
            return _read(self.path / "tokens.json")
        except DataFolderUnusable:
            return {}

    def write_running(self, running: Running) -> None:
        """Write down where everything listens. The file is deleted when the lock is released."""
        _write_private(self.path / "running.json", asdict(running))

    def running(self) -> Running:
        """Return where the services of the `up` on this folder listen. Raises DataFolderUnusable if there is none."""
        nothing = DataFolderUnusable(
            f"nothing runs on {self.path}: start it with `beaconfire up`, or give the right --data"
        )
        try:
            lock = (self.path / "lock").open()
        except (FileNotFoundError, NotADirectoryError):
            raise nothing from None
        except OSError as error:
            raise DataFolderUnusable(f"{self.path} cannot be read ({error.strerror}): {_WHOSE}") from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                if (self.path / "running.json").exists():
                    return Running(**_read(self.path / "running.json"))
        raise nothing  # it is just starting or stopping, or was killed

    def holder(self) -> int:
        """Return the process id of the `up` on this folder. Raises DataFolderUnusable."""
        try:
            return int((self.path / "lock").read_text())
        except (OSError, ValueError):
            raise DataFolderUnusable(f"nothing runs on {self.path}: start it with `beaconfire up`") from None

    def _close_to_others(self) -> None:
        """Remove other users' access to files of older versions. The folder itself may be the user's own."""
        for pattern in OURS:
            for path in self.path.glob(pattern):
                path.chmod(0o700 if path.is_dir() else 0o600)

    def _acquire(self, lock: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = (self.path / "lock").read_text().strip() or "unknown"
            raise DataFolderUnusable(
                f"{self.path} is in use by another `beaconfire up` (process {holder}): "
                "stop that one, or give another --data"
            ) from None


def _write_private(path: Path, content: Mapping[str, Any]) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(content, file, indent=2)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataFolderUnusable(f"{path} cannot be read ({error}): delete it, and it is created again") from None
    if not isinstance(content, dict):
        raise DataFolderUnusable(f"{path} cannot be read: delete it, and it is created again")
    return content
