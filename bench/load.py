"""Compile and start the load client `load.c`, and drive it with commands."""

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

ROUNDS = 20
"""How often a refused client tries again, as all our clients do."""
SOURCE = Path(__file__).with_name("load.c")
STAMP = '"correlationId":"t'
EVENT = (
    '{"id":"bench-0123456789abcdef-{n}","type":"settlement_updated","version":1,"payload":{"campaignId":"bench",'
    '"settlementId":"s{r}","operation":"update","changedFields":["population"]},"metadata":{"timestamp":'
    '"2026-01-01T00:00:00Z","source":"bench","correlationId":"t{t}"}}'
)
"""An event of the catalogue with about 250 bytes. `load.c` fills in number, room and time."""

PAYLOAD_EVENT = EVENT.replace(',"correlationId":"t{t}"', "").replace(
    '"population"]', '"population"],"correlationId":"t{t}"'
)
"""The same with the time in the payload, for a protocol whose messages are the payload alone."""


class LoadFailed(Exception):
    """The load client cannot be compiled, or a command failed. The text contains the reason."""


def compile_c(source: Path, target: Path, *, options: Sequence[str] = ()) -> Path:
    """Compile one C file. Raises LoadFailed if there is no compiler, or if it fails."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise LoadFailed(
            "no C compiler: the load client is written in C, because Python cannot receive millions of events a "
            "second. Install one (Debian: apt-get install gcc libc6-dev) and try again"
        )
    done = subprocess.run([compiler, "-O2", *options, "-o", str(target), str(source)], capture_output=True, text=True)
    if done.returncode:
        raise LoadFailed(f"{compiler} could not compile {source}:\n{done.stderr}")
    return target


@dataclass(frozen=True, slots=True)
class Target:
    """A server for the load client: its address, what a client sends, and where events for it are published."""

    port: int
    publish: str
    subject: str
    steps: Sequence[str]
    path: str = "/ws"
    headers: Sequence[str] = ()
    answers: int | None = None
    """The number of answers after which a client is ready. None means one per room it joins, plus `extra_answers`."""
    extra_answers: int = 0
    room: str = "r%d"
    event: str = EVENT
    options: Sequence[str] = ()
    tokens: Path | None = None
    watch: Mapping[str, int] = field(default_factory=dict)
    """Process ids, by name, of processes whose CPU time is reported."""

    def watching(self, **pids: int) -> "Target":
        """Return the same target with further watched processes."""
        return replace(self, watch={**self.watch, **pids})


class Load:
    """A running load client. Use it as a context manager: it ends with the block."""

    def __init__(
        self, binary: Path, target: Target, *, clients: int, rooms: int = 1, joins: int = 1, options: Sequence[str] = ()
    ) -> None:
        answers = target.answers if target.answers is not None else joins + target.extra_answers
        words = ["--port", str(target.port), "--path", target.path, "--stamp", STAMP, "--event", target.event]
        words += ["--clients", str(clients), "--rooms", str(rooms), "--joins", str(joins), "--room", target.room]
        words += ["--answers", str(answers), "--publish", target.publish, "--subject", target.subject]
        for header in target.headers:
            words += ["--header", header]
        for step in target.steps:
            words += ["--step", step]
        for name, pid in target.watch.items():
            words += ["--watch", f"{name}={pid}"]
        if target.tokens is not None:
            words += ["--tokens", str(target.tokens)]
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `close`)
        self._process = subprocess.Popen(
            [str(binary), *words, *target.options, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, command: str) -> dict[str, Any]:
        """Run a command and return its figures. Raises LoadFailed."""
        self.say(command)
        return self.hear(command)

    def say(self, command: str) -> None:
        """Start a command. `hear` waits for its figures."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{command}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise LoadFailed(f"{command}: {self.words()}") from None

    def hear(self, command: str = "") -> dict[str, Any]:
        """Return the figures of the command that was started. Raises LoadFailed."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise LoadFailed(f"{command}: {self.words()}")
        return dict(json.loads(line))

    def connect(self, count: int, at_once: int = 64, rounds: int = ROUNDS) -> dict[str, Any]:
        """Open clients. Refused clients try again `rounds` times. Raises LoadFailed if not all of them connect."""
        figures = self.ask(f"connect {count} {at_once} {rounds}")
        if figures["ok"] != count:
            raise LoadFailed(f"{figures['ok']} of {count} clients connected: {self.words()}")
        return figures

    def words(self) -> str:
        """Return what it wrote to stderr so far."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip()[-2000:]

    def close(self) -> None:
        """End the load client, which resets its connections."""
        if self._process.poll() is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(5)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()


def wait_until(is_done: Any, what: str, timeout_s: float = 30.0) -> None:
    """Check `is_done()` ten times a second until it is true. Raises LoadFailed after the timeout."""
    deadline = time.monotonic() + timeout_s
    while not is_done():
        if time.monotonic() > deadline:
            raise LoadFailed(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(0.1)
