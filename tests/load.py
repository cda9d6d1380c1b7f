"""Requests that go on while something happens to a service, and how they were answered."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.databases import execute

CHANGES = 12


class Load:
    """Requests that go on, and how they were answered."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()
        self.enough = asyncio.Event()

    async def keep(self, name: str, ask: Callable[[], Awaitable[Any]]) -> None:
        while not self.enough.is_set():
            self.answers[name, (await ask()).status] += 1

    @asynccontextmanager
    async def running(self, **asked: Callable[[], Awaitable[Any]]) -> AsyncIterator["Load"]:
        async with asyncio.TaskGroup() as tasks:
            for name, ask in asked.items():
                for _ in range(2):
                    tasks.create_task(self.keep(name, ask))
            try:
                yield self
            finally:
                self.enough.set()

    async def until(self, names: Collection[str], more: int) -> None:
        """Wait until each was answered with success so many times more."""
        wanted = {name: self._good(name) + more for name in names}
        while any(self._good(name) < number for name, number in wanted.items()):
            await asyncio.sleep(0)

    def _good(self, name: str) -> int:
        return sum(number for (named, status), number in self.answers.items() if named == name and status < 300)

    @property
    def statuses(self) -> set[int]:
        return {status for _, status in self.answers}


async def alter(folder: Path, service: str, load: Load, names: Collection[str], columns: Collection[str]) -> None:
    """Change the type of columns again and again, while every kind of request is being answered."""
    for number in range(CHANGES):
        for column in columns:
            table, _, name = column.partition(".")
            change = f"ALTER TABLE {table} ALTER COLUMN {name} TYPE varchar({500 + number})"
            await asyncio.to_thread(execute, folder, service, change)
        async with asyncio.timeout(30):
            await load.until(names, 3)
