"""Decide what the broker of `beaconfire up` lets publishers do, and change it while it runs.

Two files decide: the file of further publishers (`--publishers`), and `roots.json` in the data folder, with every kind
of root that a catalogue in this folder ever declared. Both are watched.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from beaconfire.broker_config import quoted
from beaconfire.broker_users import Publisher
from beaconfire.data_folder import DataFolder
from beaconfire.nats_server import BrokerDidNotReload, NatsServer
from beaconfire.publishers_file import InvalidPublishers, read_publishers
from beaconfire_kit.broker import BUILT_IN_ROOTS

Say = Callable[[str, str], None]
"""Prints a sentence, at a level."""


class LocalPermissions:
    """The roots and the further publishers of one `up`."""

    def __init__(
        self,
        folder: DataFolder,
        publishers_file: Path | None,
        environment: Mapping[str, str],
        applications: Sequence[Publisher] = (),
    ) -> None:
        """Read both files. `applications` are the users of the demo's services. Raises InvalidPublishers."""
        self._folder = folder
        self._applications = tuple(applications)
        self._file = publishers_file
        self._environment = environment
        self._seen = self._stamps()
        self.roots, self.publishers = self._read()
        self.passwords = self._passwords(self.publishers)

    def check(self, nats: NatsServer, say: Say) -> bool:
        """Let the broker take over a change of the files. Return whether it has new permissions."""
        stamps = self._stamps()
        if stamps == self._seen:
            return False
        self._seen = stamps
        try:
            roots, publishers = self._read()
            nats.passwords.update(self._passwords(publishers))
            nats.permit(roots=roots, publishers=publishers)
        except (InvalidPublishers, BrokerDidNotReload) as error:
            say(f"the broker's permissions stay as they were. {error}", "error")
            return False
        for sentence in self._changes(roots, publishers):
            say(sentence, "info")
        self.roots, self.publishers = roots, publishers
        return True

    def _read(self) -> tuple[frozenset[str], tuple[Publisher, ...]]:
        own = read_publishers(self._file) if self._file else ()
        for taken in {one.name for one in own} & {one.name for one in self._applications}:
            raise InvalidPublishers(
                f"{self._file}: {taken!r} is the broker user of an application of the demo. Choose another name, or "
                "start other applications with --only."
            )
        return self._folder.roots(), (*self._applications, *own)

    def _stamps(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(path) for path in (self._folder.path / "roots.json", self._file) if path is not None]

    def _passwords(self, publishers: Iterable[Publisher]) -> dict[str, str]:
        """Return the password of each publisher: that of its variable, or else one that the folder keeps."""
        found: dict[str, str] = {}
        for publisher in publishers:
            name, variable = publisher.name, publisher.password_variable
            found[name] = self._environment.get(variable) or self._folder.password(name)
            try:
                quoted(found[name])
            except ValueError as error:
                raise InvalidPublishers(f"{variable}: {error}") from None
        return found

    def _changes(self, roots: frozenset[str], publishers: tuple[Publisher, ...]) -> Iterable[str]:
        for kind in sorted(roots - self.roots):
            yield f"the publisher may now publish in {kind}.>"
        for publisher in publishers:
            if publisher not in self.publishers:
                yield f"the broker user {publisher.name} may now publish in {', '.join(publisher.subtrees)}"
        for gone in {one.name for one in self.publishers} - {one.name for one in publishers}:
            yield f"the broker user {gone} is gone"


def permit_roots(folder: DataFolder, kinds: Collection[str], *, timeout_s: float = 20.0) -> None:
    """Let the broker of a running `up` take over kinds of roots, before a push declares them.

    Raises DataFolderUnusable if no `up` runs, BrokerDidNotReload if it does not take them over in time.
    """
    folder.add_roots(set(kinds) - set(BUILT_IN_ROOTS))
    deadline = time.monotonic() + timeout_s
    while not folder.roots() <= set(folder.running().roots):
        if time.monotonic() > deadline:
            raise BrokerDidNotReload("the running `beaconfire up` did not reload its broker: its terminal says why")
        time.sleep(0.05)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
