"""Look up known vulnerabilities of the Go programs that we run, and of the examples in Go, with govulncheck.

The database is a Go module, `golang.org/x/vulndb`, of which `scripts/vulnerabilities/go.mod` fixes the version. So this
works wherever Go modules can be downloaded, and offline once they were. govulncheck names only vulnerabilities in
functions that a program contains, or that an example calls.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "scripts" / "vulnerabilities"
ACCEPTED = FOLDER / "accepted.toml"
PROGRAMS = ("nats-server", "caddy")
EXAMPLES = ("examples/go", "examples/logistics/publisher")
SCAN_S = 300.0
RELEASE = "1.26.8"
"""The Go that scans. A Go before 1.21, such as Debian's, does not fetch it by itself."""
FETCHES_BY_ITSELF = (1, 21)


class CannotScan(Exception):
    """The scanner or its database is not to be had. The text says why."""


class Finding(NamedTuple):
    """One vulnerability, in one module of one program."""

    program: str
    id: str
    module: str
    version: str
    fixed: str

    def __str__(self) -> str:
        return f"{self.program}: {self.id} in {self.module} {self.version}, fixed in {self.fixed or 'no release'}"


def findings(*, examples: bool, today: date) -> tuple[list[str], list[str]]:
    """Return what is vulnerable and was never accepted, and what was until a day that has passed. A line each.

    Raises CannotScan.
    """
    found = {one for name in PROGRAMS for one in scanned(name, "-mode", "binary", _installed(name))}
    if examples:
        for folder in EXAMPLES:
            # The toolchain of this machine is not the example's.
            found |= {one for one in scanned(folder, "-C", str(ROOT / folder), "./...") if one.module != "stdlib"}
    return judged(found, tomllib.loads(ACCEPTED.read_text())["accepted"], today)


def judged(found: set[Finding], accepted: list[dict[str, Any]], today: date) -> tuple[list[str], list[str]]:
    """Compare what is found with what is accepted, as `findings` returns it."""
    known = {(one["program"], vulnerability): one["until"] for one in accepted for vulnerability in one["ids"]}
    lines = sorted(str(one) for one in found if (one.program, one.id) not in known)
    gone = sorted(known.keys() - {(one.program, one.id) for one in found})
    lines += [f"{program}: {one} is accepted and not found: delete it" for program, one in gone]
    ended = {one: until for one in found if (until := known.get((one.program, one.id), date.max)) < today}
    name = ACCEPTED.relative_to(ROOT)
    return lines, sorted(
        f"{one}. It was accepted until {until}: fix it, or renew {name}" for one, until in ended.items()
    )


def scanned(name: str, *arguments: str) -> Iterator[Finding]:
    """Run govulncheck. Yield its findings. Raises CannotScan."""
    database = _go("list", "-m", "-f", "{{.Dir}}", "golang.org/x/vulndb").strip()
    output = _go("tool", "govulncheck", "-db", f"file://{database}/data/osv", "-format", "json", *arguments)
    for message in _messages(output):
        if (one := message.get("finding")) and "function" in one["trace"][0]:
            at = one["trace"][0]
            yield Finding(name, one["osv"], at["module"], at.get("version", ""), one.get("fixed_version", ""))


def _messages(output: str) -> Iterator[dict[str, Any]]:
    """The JSON objects of an output, which follow one another."""
    decoder, rest = json.JSONDecoder(), output.lstrip()
    while rest:
        message, end = decoder.raw_decode(rest)
        yield message
        rest = rest[end:].lstrip()


def _installed(name: str) -> str:
    """The path of a program that `make setup` installed."""
    path = Path(sys.executable).parent / name
    if not path.is_file():
        raise CannotScan(f"{path} is missing")
    return str(path)


def _go(*arguments: str) -> str:
    try:
        go = _release()
        _run(go, "mod", "download", "golang.org/x/vulndb")
        return _run(go, *arguments)
    except OSError as error:
        raise CannotScan(f"go cannot be run ({error})") from None
    except subprocess.SubprocessError as error:
        why = getattr(error, "stderr", None) or error
        raise CannotScan(f"go {arguments[0]} failed ({str(why).strip()[-500:]})") from None


@cache
def _release() -> str:
    """Return the command of a Go that is new enough. Every release is also a module, so the module proxy has it."""
    found = re.search(r"go(\d+)\.(\d+)", _run("go", "version", cwd=Path("/")))
    if found is None or (int(found[1]), int(found[2])) >= FETCHES_BY_ITSELF:
        return "go"
    system, machine = _run("go", "env", "GOOS", "GOARCH", cwd=Path("/")).split()
    version = f"v0.0.1-go{RELEASE}.{system}-{machine}"
    with tempfile.TemporaryDirectory() as elsewhere:  # it cannot read our go.mod
        said = _run("go", "mod", "download", "-json", f"golang.org/toolchain@{version}", cwd=Path(elsewhere))
    folder = Path(json.loads(said)["Dir"])
    for program in (*folder.glob("bin/*"), *folder.glob("pkg/tool/*/*")):
        program.chmod(0o755)  # modules have no executable files
    return str(folder / "bin" / "go")


def _run(go: str, *arguments: str, cwd: Path = FOLDER) -> str:
    environment = {**os.environ, "GOTOOLCHAIN": f"go{RELEASE}+auto"}
    return subprocess.run(
        [go, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=True, timeout=SCAN_S
    ).stdout
