"""Write the results of a measurement into a page of the docs, between two marks, with the machine's details."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

END = "<!-- end of results -->"
_ROOT = Path(__file__).parents[1]


def begin(command: str) -> str:
    """The line before the results of a command."""
    return f"<!-- results: {command} -->"


def has_place(page: Path, command: str) -> bool:
    """Whether a page has a place for the results of a command."""
    return page.is_file() and begin(command) in page.read_text()


def put(page: Path, command: str, text: str) -> None:
    """Put the results of a command into a page, in place of earlier ones. Raises ValueError where it has no place."""
    before, mark, rest = page.read_text().partition(begin(command))
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"{page} has no place for results: it needs the lines {begin(command)} and {END}")
    page.write_text(f"{before}{mark}\n\n{text}\n\n{end}{after}")


def when() -> str:
    """The time, and the commit that was measured, with a + where files were changed since."""
    git = ["git", "-C", str(_ROOT)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    name = commit.stdout.strip() + ("+" if changed.stdout else "") if commit.returncode == 0 else "unknown"
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {name}"


def machine() -> str:
    """The machine and the Python that were measured."""
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1024**3
    return (
        f"{os.cpu_count()} x {_processor()}, {memory_gib:.0f} GiB, {platform.system()} {platform.release()}; "
        f"Python {platform.python_version()}"
    )


def versions(*packages: str) -> str:
    """The installed versions of packages."""
    return ", ".join(f"{name} {version(name)}" for name in packages)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
