"""The folder of `beaconfire up`: whose it is now, its broker passwords, and what runs on it."""

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from beaconfire.broker_users import USERS
from beaconfire_auth.settings import DEVELOPMENT_SECRET

# What we write there, and all that `--fresh` removes: the folder may be the wrong one.
OURS = ("nats", "logs", "page", "keys", "auth.db*", "publisher.db*", "passwords.json", "demo.json", "running.json")
OPERATOR_TOKEN = "operator-token"  # noqa: S105  (its name among the passwords)
SERVICE_TOKEN = "service-token"  # noqa: S105  (its name among the passwords)
KEYS_SECRET = "keys-secret"  # noqa: S105  (its name among the passwords)
_WHOSE = "it is for the user alone who started `beaconfire up`; run this as that user, or give another --data"
TOKENS = (OPERATOR_TOKEN, SERVICE_TOKEN, KEYS_SECRET)


class DataFolderUnusable(Exception):
    """The folder cannot be used. The text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Running:
    """Where the parts of a running `up` are found, for the other commands."""

    address: str
    auth_url: str
    publisher_url: str
    nats_url: str
    auth_ops_url: str
    monitoring_url: str = ""
    """The broker's own HTTP pages; empty: it has none."""
    processes: Mapping[str, int] = field(default_factory=dict)
    """The process id of each part, by name."""


class DataFolder:
    """One folder with the data of one `up`."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and keep it for us alone. What is written to it meanwhile, only this user can read.

        Raises DataFolderUnusable.
        """
        umask = os.umask(0o077)  # signing keys, passwords, everybody's events
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
        """Make the folder and hold its lock. Raises DataFolderUnusable."""
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
            self._take(lock.fileno())
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def clear(self) -> None:
        """Remove the data of earlier runs; what is not ours stays."""
        for pattern in OURS:
            for path in self.path.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def passwords(self) -> dict[str, str]:
        """The broker's passwords, by user, auth's operator token, the publisher's service token, and the
        secret of auth's keys.

        They are made once and readable for this user only. Raises DataFolderUnusable.
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

    def keys_secret(self) -> str:
        """What seals auth's signing keys, and after it the default that sealed those of older folders."""
        return f"{self.passwords()[KEYS_SECRET]},{DEVELOPMENT_SECRET}"

    def write_running(self, running: Running) -> None:
        """Say where everything is. It is forgotten when the lock is given back."""
        _write_private(self.path / "running.json", asdict(running))

    def running(self) -> Running:
        """Where the parts of the `up` that holds this folder are. Raises DataFolderUnusable where there is none."""
        nothing = DataFolderUnusable(f"nothing runs on {self.path}: start it with `beaconfire up`, or give its --data")
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
        raise nothing  # it starts or stops just now, or was killed

    def holder(self) -> int:
        """The process id of the `up` that holds this folder. Raises DataFolderUnusable."""
        try:
            return int((self.path / "lock").read_text())
        except (OSError, ValueError):
            raise DataFolderUnusable(f"nothing runs on {self.path}: start it with `beaconfire up`") from None

    def _close_to_others(self) -> None:
        """Close what an older version left open to everybody on the machine. The folder itself may be the user's."""
        for pattern in OURS:
            for path in self.path.glob(pattern):
                path.chmod(0o700 if path.is_dir() else 0o600)

    def _take(self, lock: int) -> None:
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
        raise DataFolderUnusable(f"{path} cannot be read ({error}): remove it, it is made again") from None
    if not isinstance(content, dict):
        raise DataFolderUnusable(f"{path} cannot be read: remove it, it is made again")
    return content
