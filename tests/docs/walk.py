"""Follow a page line by line, as a reader does: each file it shows is written, and each command is run.

    walk = Walk("docs/start/your_own_application.md", folder, {"127.0.0.1:8080": "127.0.0.1:9000"})
    await walk.section("1. Install")

A code block's first line may say more than its language:

* `title="NAME"`: the block is that file, or with `append` the end of it.
* `terminal="1"`: the commands run until the reader presses Ctrl-C.
* `shows="1"`: the lines appear in that terminal, later than all that was shown there before. `…` stands for any text.
* `fails`: the last command is refused.
* A block of another language without such a mark, such as `text`, is only for the reader.
"""

import asyncio
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from beaconfire.processes import Process
from tests.docs.tree import ROOT, fresh_environment

RUN_S = 600  # an installation, on a machine that is busy with other tests
STOP_S = 60
_BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


class Block(NamedTuple):
    """A code block of a page."""

    language: str
    marks: str
    text: str

    @property
    def title(self) -> str | None:
        return self._mark("title")

    @property
    def terminal(self) -> str | None:
        return self._mark("terminal")

    @property
    def shows(self) -> str | None:
        return self._mark("shows")

    def _mark(self, name: str) -> str | None:
        found = re.search(rf'{name}="([^"]+)"', self.marks)
        return found[1] if found else None


class Walk:
    """A reader who follows a page in a folder."""

    def __init__(self, page: str, folder: Path, replacing: Mapping[str, str], **environment: str) -> None:
        """`replacing` is what differs here: ports that may be taken, and the folder of the wheels."""
        self._folder = folder
        self._replacing = replacing
        self.variables = {**fresh_environment(), **environment}
        text = (ROOT / page).read_text()
        beginning, *parts = _HEADING.split(text)
        assert not _BLOCK.search(beginning), f"{page} has code before its first heading"
        self._sections = dict(zip(parts[::2], parts[1::2], strict=True))
        self._followed: set[str] = set()
        self._terminals: dict[str, Process] = {}
        self._seen: dict[str, int] = {}
        """The number of lines that were looked at in each terminal."""

    async def section(self, title: str) -> list[str]:
        """Do everything that a section says. Returns what each of its commands printed."""
        self._followed.add(title)
        printed = []
        for block in self._blocks(title):
            if block.title:
                self._write(block.title, block)
            elif block.terminal:
                await self._open(block.terminal, block.text)
            elif block.shows:
                for line in block.text.splitlines():
                    await self.wait_for(block.shows, line.strip())
            elif block.language == "sh":
                printed.append(await asyncio.to_thread(self._run, block))
        return printed

    def unread(self) -> list[str]:
        """Return the sections with files or commands that were not followed."""
        return [
            title
            for title in self._sections.keys() - self._followed
            if any(block.title or block.language == "sh" for block in self._blocks(title))
        ]

    async def wait_for(self, terminal: str, text: str) -> None:
        """Wait until a terminal shows a new line with this text, in which `…` stands for any text."""
        wanted = re.compile(".*".join(map(re.escape, text.split("…"))))
        process, log = self._terminals[terminal], self._log(terminal)
        async with asyncio.timeout(RUN_S):
            while True:
                lines = log.read_text().splitlines() if log.exists() else []
                start = self._seen.get(terminal, 0)
                if found := next((at for at in range(start, len(lines)) if wanted.search(lines[at])), -1) + 1:
                    self._seen[terminal] = found
                    return
                assert process.is_running, f"{text!r} is not in:\n" + "\n".join(lines)
                await asyncio.sleep(0.1)

    async def interrupt(self, terminal: str) -> None:
        """Press Ctrl-C in a terminal, and wait until its command has ended."""
        process = self._terminals.pop(terminal)
        if process.pid is not None and process.is_running:
            os.killpg(process.pid, signal.SIGINT)
        await asyncio.to_thread(process.stop, STOP_S)
        self._log(terminal).rename(self._log(f"{terminal}-{process.pid}"))
        self._seen.pop(terminal, None)

    async def again(self, title: str) -> None:
        """Run the terminal commands of a section again."""
        for block in self._blocks(title):
            if block.terminal:
                await self._open(block.terminal, block.text)

    async def close(self) -> None:
        """Press Ctrl-C in every terminal."""
        for terminal in list(self._terminals):
            await self.interrupt(terminal)

    def _blocks(self, title: str) -> list[Block]:
        return [
            Block(language, marks, self.here(text)) for language, marks, text in _BLOCK.findall(self._sections[title])
        ]

    def here(self, text: str) -> str:
        """Return a text of the page with what differs here."""
        for theirs, ours in self._replacing.items():
            text = text.replace(theirs, ours)
        return text

    def _write(self, name: str, block: Block) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a" if "append" in block.marks.split() else "w") as file:
            file.write(block.text)

    async def _open(self, terminal: str, text: str) -> None:
        variables = [f"{name}={value}" for name, value in self.variables.items()]
        process = Process(
            f"terminal {terminal}",
            ["env", "-i", *variables, "bash", "-c", f"cd '{self._folder}'\n{text}"],
            log_path=self._log(terminal),
        )
        self._terminals[terminal] = process
        await asyncio.to_thread(process.start)

    def _run(self, block: Block) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=self._folder,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_S,
            check=False,
        )
        assert (done.returncode != 0) == ("fails" in block.marks.split()), f"{block.text}\n{done.stdout}"
        return done.stdout

    def _log(self, terminal: str) -> Path:
        return self._folder.parent / f"terminal-{terminal}.log"
