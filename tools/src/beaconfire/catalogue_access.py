"""Reach the catalogue in the broker from the command line, and push fragments in the order that loses no event."""

import asyncio
import getpass
import importlib
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from beaconfire import fragment_files
from beaconfire_kit import broker
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.fragment import InvalidFragment, Problem, RootKind
from beaconfire_kit.catalogue.from_classes import document_of
from beaconfire_kit.catalogue.profile import read_fragment
from beaconfire_kit.catalogue_store import CatalogueStore, StreamLacksSubjects
from beaconfire_kit.event import Event
from beaconfire_kit.settings import Settings
from beaconfire_kit.stream_setup import add_catalogue_subjects, add_stream_subjects

R = TypeVar("R")
TIMEOUT_S = 30.0


class CatalogueUnusable(Exception):
    """The command could not read or change the catalogue. The text says why, and what to do."""


class BrokerAway(CatalogueUnusable):
    """The broker did not answer in time."""


@dataclass(frozen=True, slots=True)
class Pushers:
    """The broker users that change the catalogue."""

    catalogue: Settings
    setup: Settings | None
    """None if its password is not known. Only a push with a new root needs it."""
    permit: Callable[[Sequence[str]], None] = lambda _kinds: None
    """Lets publishers publish in new roots, before the push. It waits."""


@dataclass(frozen=True, slots=True)
class Source:
    """A document of a fragment, and where each part of it was read."""

    name: str
    """The file, or the Python module."""
    document: Mapping[str, Any]
    lines: Mapping[str, int]
    """The line of each part of the document, by its JSON Pointer. Empty if it was not read from a file."""

    @property
    def fragment(self) -> str | None:
        """The name that the document gives its fragment, if it does."""
        try:
            return str(self.document["x-beaconfire"]["fragment"])
        except (KeyError, TypeError):
            return None

    def place(self, pointer: str) -> str:
        """Return the file and the line of a part, or of the closest part around it that is there."""
        while pointer and pointer not in self.lines:
            pointer = pointer.rpartition("/")[0]
        line = self.lines.get(pointer)
        return f"{self.name}:{line}" if line else self.name


def read_sources(files: Iterable[Path]) -> list[Source]:
    """Read files of fragments. Raises the errors of `fragment_files.load`."""
    return [Source(str(path), *fragment_files.load(path)) for path in files]


def source_of_module(module: str, name: str, *, title: str | None, roots: Iterable[str]) -> Source:
    """Make a fragment from the event classes of a Python module. Raises CatalogueUnusable."""
    sys.path.insert(0, "")  # as `python -m` does: the module may be in the current folder
    try:
        imported = importlib.import_module(module)
    except Exception as error:
        raise CatalogueUnusable(f"the module {module} cannot be imported: {type(error).__name__}: {error}") from None
    finally:
        sys.path.remove("")
    classes = [
        one
        for one in vars(imported).values()
        if isinstance(one, type)
        and issubclass(one, Event)
        and one.__module__.split(".")[: module.count(".") + 1] == module.split(".")
        and "type" in vars(one)
    ]
    if not classes:
        raise CatalogueUnusable(f"the module {module} has no event class: no subclass of Event with a `type`")
    kinds = [RootKind(kind) for kind in roots]
    return Source(module, document_of(classes, name=name, title=title or name.capitalize(), roots=kinds), {})


def explained(error: InvalidFragment, sources: Sequence[Source]) -> str:
    """Return an error's problems as lines, each with the file, its line and the JSON Pointer."""
    return "\n".join(described(problem, sources) for problem in error.problems)


def described(problem: Problem, sources: Sequence[Source]) -> str:
    """Return a problem as a line, with the file and its line if it is in one of these."""
    source = next((one for one in sources if problem.fragment and one.fragment == problem.fragment), None)
    if source is None and len(sources) == 1 and not problem.fragment:
        source = sources[0]
    if source is None:
        return str(problem)
    return f"{source.place(problem.pointer)}: {problem.message} (at {problem.pointer or '/'})"


@contextmanager
def explaining(sources: Sequence[Source]) -> Iterator[None]:
    """Turn InvalidFragment into CatalogueUnusable, which names files and lines."""
    try:
        yield
    except InvalidFragment as error:
        raise CatalogueUnusable(explained(error, sources)) from None


def check_sources(sources: Sequence[Source]) -> None:
    """Check each document on its own. Raises CatalogueUnusable with the problems of all of them."""
    problems: list[str] = []
    for source in sources:
        try:
            with explaining([source]):
                read_fragment(source.document)
        except CatalogueUnusable as error:
            problems.append(str(error))
    if problems:
        raise CatalogueUnusable("\n".join(problems))


def roots_of(sources: Sequence[Source]) -> frozenset[str]:
    """Return the kinds of roots that documents declare. Raises CatalogueUnusable as `check_sources` does."""
    check_sources(sources)
    return frozenset(kind for source in sources for kind in read_fragment(source.document).roots)


async def load(store: CatalogueStore, revision: int | None) -> Catalogue:
    """Load a revision, or the one that counts now. Raises CatalogueUnusable if nothing was pushed yet."""
    if revision is not None:
        return await store.load(revision)
    head = await store.head()
    if head.revision is None:
        raise CatalogueUnusable("the catalogue is empty: `beaconfire setup` pushes the built-in fragments")
    return await store.load(head)


@asynccontextmanager
async def opened(settings: Settings, timeout_s: float = TIMEOUT_S) -> AsyncIterator[CatalogueStore]:
    """Connect to the catalogue. Raises BrokerAway if the broker does not answer in time."""
    store: CatalogueStore | None = None
    try:
        async with asyncio.timeout(timeout_s):
            nc = await broker.connect(settings, "catalogue", on_closed=lambda: None)
            try:
                store = CatalogueStore(nc)
                yield store
            finally:
                await broker.close(nc)
    except TimeoutError:
        raise BrokerAway(_no_answer(settings, timeout_s, store)) from None


def _no_answer(settings: Settings, timeout_s: float, store: CatalogueStore | None) -> str:
    text = f"{settings.nats_url} did not answer within {timeout_s:.0f} s"
    if store is not None and store.uncertain is not None:
        return (
            f"{text}. Revision {store.uncertain} may have been committed or not: "
            "`beaconfire catalogue list` shows it as soon as the broker answers"
        )
    user = settings.nats_user or "(none)"
    return f"{text}. Does it run with JetStream? May the user {user} connect? Nothing was changed"


async def change(
    pushers: Pushers, call: Callable[[CatalogueStore], Awaitable[R]], *, timeout_s: float = TIMEOUT_S
) -> R:
    """Change the catalogue. If it declares a new root, let the stream store the root's events first, as `setup`.

    The first event of a root must find a stream that takes it, so the marker comes last. Raises CatalogueUnusable.
    """
    async with opened(pushers.catalogue, timeout_s) as store:
        try:
            return await call(store)
        except StreamLacksSubjects as error:
            lacking = error
        kinds = [subject.removesuffix(".>") for subject in lacking.subjects]
        if pushers.setup is None:
            raise CatalogueUnusable(
                f"{lacking}. Set BEACONFIRE_SETUP_PASSWORD and push again, or run "
                f"`beaconfire setup {' '.join(f'--root {kind}' for kind in kinds)}` first"
            )
        await asyncio.to_thread(pushers.permit, kinds)
        await add_roots(pushers.setup, lacking.subjects, timeout_s=timeout_s)
        result = await call(store)
    async with opened(pushers.setup, timeout_s) as store:
        await add_catalogue_subjects(store.connection)
    return result


async def add_roots(setup: Settings, subjects: Iterable[str], *, timeout_s: float) -> list[str]:
    """Let the stream store the events of further roots. Returns the subjects that it lacked."""
    async with opened(setup, timeout_s) as store:
        return await add_stream_subjects(store.connection, subjects)


def pushed_by() -> str:
    """Return who pushes, as the list of revisions shows it."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):  # a container's user may have no name
        return socket.gethostname()
