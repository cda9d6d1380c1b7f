"""Show the logs of several processes as one readable stream, in which warnings and errors stand out."""

import contextlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.text import Text

US = "beaconfire"
LAST_WORDS = 3
LEVELS = ("debug", "info", "warning", "error")
_COLOURS = ("cyan", "blue", "bright_cyan", "bright_blue")
_KNOWN_COLOURS = {
    "broker": "yellow",
    "auth": "magenta",
    "publisher": "green",
    "rules-engine": "bright_green",
    "scheduler": "bright_magenta",
    US: "white",
}
_SHOWN_ELSEWHERE = {"event", "level", "timestamp", "service", "logger", "exception"}
# [4711] 2026/11/21 10:00:00.123456 [INF] Server is ready
_NATS = re.compile(r"\[\d+\] (?P<day>[\d/]+) (?P<time>[\d:]+)\.\d+ \[(?P<level>\w{3})\] ?(?P<text>.*)")
_NATS_LEVELS = {
    "INF": "debug",
    "WRN": "warning",
    "ERR": "error",
    "FTL": "error",
}  # its INF is our debug: messages of the start
_EXPECTED = "Plaintext passwords detected"  # ours are random, in a file of this user's alone


@dataclass(frozen=True, slots=True)
class Line:
    """One parsed line of a log. `time` is local and may be empty."""

    level: str
    sentence: str
    time: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)


class LogStream:
    """Print lines of many processes, from any thread. A line that a process repeats is counted instead."""

    def __init__(self, console: Console, *, level: str = "info") -> None:
        self._console = console
        self._least = LEVELS.index(level)
        self._lock = threading.Lock()
        self._colours = dict(_KNOWN_COLOURS)
        self._last: dict[str, Line] = {}
        self._repeats: dict[str, int] = {}
        self.is_open = False
        """Until then only lines of `say` are printed."""

    def show(self, name: str, line: str) -> None:
        """Print a line of a process's output if its level is high enough."""
        understood = parse_line(line)
        if self.is_open and understood is not None and LEVELS.index(understood.level) >= self._least:
            self._print(name, understood)

    def say(self, sentence: str, *, level: str = "info") -> None:
        """Print a line of `beaconfire up` itself."""
        self._print(US, Line(level, sentence, f"{datetime.now():%H:%M:%S}"))

    def _print(self, name: str, line: Line) -> None:
        with self._lock:
            last = self._last.get(name)
            if last is not None and (last.sentence, last.fields) == (line.sentence, line.fields):
                self._repeats[name] = self._repeats.get(name, 0) + 1
                return
            if count := self._repeats.pop(name, 0):
                self._write(name, Line("debug", f"(and {count} more {'time' if count == 1 else 'times'})", line.time))
            self._last[name] = line
            self._write(name, line)

    def _write(self, name: str, line: Line) -> None:
        colour = self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
        with contextlib.suppress(OSError):  # the reader is gone; the processes continue
            self._console.print(_render(name, colour, line), soft_wrap=True, highlight=False)


def parse_line(line: str) -> Line | None:
    """Parse a line of our own logs (JSON), of nats-server, or any other output. None for an empty line."""
    if not line.strip():
        return None
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if isinstance(record, dict) and "event" in record:
        return _ours(record)
    if match := _NATS.fullmatch(line):
        return _nats(match["level"], match["text"], match["time"])
    return Line("info", line)


def plain(lines: list[str]) -> str:
    """Return the end of a process's output for an error message: sentences without stack traces."""
    return "\n".join(f"  {sentence}" for sentence in errors(lines) or last_words(lines))


def errors(lines: list[str]) -> list[str]:
    """Return the errors in a log as sentences."""
    understood = [parse_line(line) for line in lines]
    return [_text(one) for one in understood if one is not None and one.level == "error"]


def last_words(lines: list[str]) -> list[str]:
    """Return the last lines of a log as sentences."""
    understood = [parse_line(line) for line in lines]
    return [_text(one) for one in understood if one is not None][-LAST_WORDS:]


def _ours(record: dict[str, Any]) -> Line:
    level = str(record.get("level", "info"))
    fields = {name: value for name, value in record.items() if name not in _SHOWN_ELSEWHERE and value is not None}
    if trace := str(record.get("exception", "")).strip():
        fields["because"] = trace.splitlines()[-1]
    return Line(
        level if level in LEVELS else "error" if level == "critical" else "info",
        str(record["event"]),
        _local_time(str(record.get("timestamp", ""))),
        fields,
    )


def _nats(level: str, text: str, time: str) -> Line | None:
    if not text or _EXPECTED in text:
        return None
    return Line(_NATS_LEVELS.get(level, "debug"), text, time)


def _local_time(timestamp: str) -> str:
    try:
        return f"{datetime.fromisoformat(timestamp).astimezone():%H:%M:%S}"
    except ValueError:
        return ""


def _render(name: str, colour: str, line: Line) -> Text:
    text = Text()
    text.append(f"{line.time or '        '} ", style="dim")
    text.append(f"{name:<13}", style="bold" if name == US else colour)
    match line.level:
        case "error":
            text.append(" error ", style="bold white on red")
            text.append(f" {line.sentence}", style="bold red")
        case "warning":
            text.append(" warning ", style="black on yellow")
            text.append(f" {line.sentence}", style="yellow")
        case "debug":
            text.append(line.sentence, style="dim")
        case _:
            text.append(line.sentence)
    for field_name, value in line.fields.items():
        text.append(f"  {field_name}=", style="dim")
        text.append(_short(value), style="dim")
    return text


def _text(line: Line) -> str:
    return "  ".join([line.sentence, *(f"{name}={_short(value)}" for name, value in line.fields.items())])


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else text[:200] + "…"
