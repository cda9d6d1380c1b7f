"""Push the fragments of `beaconfire up --catalogue FILE…` at start, and again whenever a file is saved."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from beaconfire import catalogue_access as access
from beaconfire.catalogue_access import BrokerAway, CatalogueUnusable, Pushers
from beaconfire.data_folder import DataFolderUnusable
from beaconfire.fragment_files import InvalidFile
from beaconfire.nats_server import BrokerDidNotReload
from beaconfire_kit.broker import BrokerRefused
from beaconfire_kit.catalogue_store import CatalogueError
from beaconfire_kit.key_value import BucketMissing

Say = Callable[[str, str], None]
"""Prints a sentence, at a level."""

WATCH_S = 0.2
TIMEOUT_S = 5.0
BY = "beaconfire up"
REFUSED = (
    BrokerDidNotReload,
    BrokerRefused,
    BucketMissing,
    CatalogueError,
    CatalogueUnusable,
    DataFolderUnusable,
    InvalidFile,
)

Stamp = tuple[tuple[int, int] | None, ...]


class LocalCatalogue:
    """The files of one `up`, and the thread that watches them."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Read the files. Raises InvalidFile, CatalogueUnusable if one is broken."""
        self._files = tuple(files)
        sources = access.read_sources(files)
        self.roots = access.roots_of(sources)
        """The kinds of roots that they declare at start."""
        self._pushers: Pushers | None = None
        self._say: Say = lambda _sentence, _level: None
        self._pushed: Stamp | None = None
        self._seen: Stamp | None = None
        self._is_waiting = False
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="catalogue", daemon=True)

    def start(self, pushers: Pushers, say: Say) -> None:
        """Push the files, and go on with those that are saved. Call it once the broker runs."""
        self._pushers, self._say = pushers, say
        if self._files:
            self.check()
            self._thread.start()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """End the watching at the end of the block. A push that runs ends within `TIMEOUT_S`."""
        try:
            yield
        finally:
            self._ending.set()
            if self._thread.is_alive():
                self._thread.join()

    def check(self) -> None:
        """Push the files if one has changed, but not since the last check, when an editor was still writing."""
        stamp = tuple(_stamp(path) for path in self._files)
        is_quiet, self._seen = stamp == self._seen or self._seen is None, stamp
        if not is_quiet or stamp == self._pushed:
            return
        try:
            self._push()
        except BrokerAway as error:  # the files are pushed as soon as it is back
            if not self._is_waiting:
                self._say(f"the catalogue waits for the broker: {error}", "warning")
            self._is_waiting = True
            return
        except REFUSED as error:
            self._say(f"the catalogue stays as it was. {error}", "error")
        self._is_waiting = False
        self._pushed = stamp

    def _push(self) -> None:
        assert self._pushers is not None
        sources = access.read_sources(self._files)
        access.check_sources(sources)
        documents = [source.document for source in sources]
        with access.explaining(sources):
            pushed = asyncio.run(
                access.change(self._pushers, lambda store: store.push(documents, by=BY), timeout_s=TIMEOUT_S)
            )
        if pushed.changed:
            self._say(f"revision {pushed.revision} of the catalogue counts from offset {pushed.offset} on", "info")

    def _watch(self) -> None:
        while not self._ending.wait(WATCH_S):
            self.check()


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
