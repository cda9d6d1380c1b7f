"""Look up known vulnerabilities of everything that is installed from a registry: `python -m scripts.audit`.

* Go programs, with --examples also the examples in Go: with govulncheck and a fixed database (`audits.go_programs`).
* Python packages of uv.lock: with pip-audit. If the registry has no advisories, by age (`audits.lock_dates`).
* npm packages: with `npm audit`.

A commit alone decides whether the exit code is 1, because the database for Go is fixed in it. What time or a registry
may change without a commit is a warning: the end of an acceptance, an advisory, a package that stays behind. With
--strict (`make audit`) these fail, too. What cannot be asked passes, and the last line says so: a registry mirror may
have the packages without the advisories. pip-audit alone would call every package unknown, and pass silently.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from scripts.audits import go_programs, lock_dates, npm_packages

LOCK = Path(__file__).parents[1] / "uv.lock"
ADVISORIES = "https://pypi.org/pypi/{}/json"
"""The address that pip-audit asks, for `name/version`."""
PROBE_TIMEOUT_S = 5.0
AUDIT_TIMEOUT_S = 300.0
MAX_WHY = 160
"""Characters of a reason, so that the last line stays one line."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What became of one kind of dependencies."""

    of: str
    findings: Sequence[str] = ()
    """What the commit decides."""
    later: Sequence[str] = ()
    """What became known, or ended, without a commit."""
    instead: str = ""
    """What was looked at instead of advisories."""
    why_not: str = ""
    """Why no advisories were asked, or empty."""

    def __str__(self) -> str:
        if self.why_not:
            why = " ".join(self.why_not.split())
            why = f"{why[:MAX_WHY]}…" if len(why) > MAX_WHY else why
            return f"{self.of} NOT AUDITED{self.instead} ({why})"
        count = len(self.findings) + len(self.later)
        return f"{self.of} audited, {count} found" if count else f"{self.of} audited"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.audit", description=__doc__)
    parser.add_argument("--examples", action="store_true", help="compile and audit the examples in Go, too")
    parser.add_argument("--strict", action="store_true", help="fail also on what became known without a commit")
    given = parser.parse_args()
    sys.exit(reported([_go_programs(examples=given.examples), _python_packages(), _npm_packages()], given.strict))


def reported(audits: Sequence[Audit], strict: bool) -> int:
    """Print what was found, and in one last line what was audited and what was not. Return the exit code."""
    for audit in audits:
        for finding in audit.findings:
            print(f"ERROR: {finding}", file=sys.stderr)
        for finding in audit.later:
            print(f"{'ERROR' if strict else 'WARNING, AND make audit FAILS'}: {finding}", file=sys.stderr)
    print(f"{'; '.join(map(str, audits))}.", file=sys.stderr)
    return int(any(audit.findings or (strict and audit.later) for audit in audits))


def _go_programs(*, examples: bool) -> Audit:
    try:
        findings, ended = go_programs.findings(examples=examples, today=_today())
    except go_programs.CannotScan as error:
        return Audit("Go programs", why_not=str(error))
    return Audit("Go programs", findings, ended)


def _python_packages() -> Audit:
    """Ask pip-audit or, without advisories, find the packages that stay behind."""
    wanted = locked(LOCK)
    name, findings = f"{len(wanted)} Python packages", list[str]()
    why_not = unreachable(ADVISORIES.format(wanted[0].replace("==", "/")))
    if why_not is None:
        findings, unknown = audited(wanted)
        if not unknown:
            return Audit(name, later=findings)
        why_not = f"the advisories know nothing of {', '.join(unknown)}"
    try:
        return Audit(name, later=findings + lock_dates.behind(_today()), instead=", only by age", why_not=why_not)
    except lock_dates.CannotResolve as error:
        return Audit(name, later=findings, instead=", not even by age", why_not=f"{why_not}; {error}")


def _npm_packages() -> Audit:
    try:
        return Audit("npm packages", later=npm_packages.findings())
    except npm_packages.CannotAudit as error:
        return Audit("npm packages", why_not=str(error))


def _today() -> date:
    return datetime.now(UTC).date()


def locked(lock: Path) -> list[str]:
    """`name==version` of every package of a lock file that comes from a registry."""
    packages = tomllib.loads(lock.read_text())["package"]
    return sorted(f"{one['name']}=={one['version']}" for one in packages if "registry" in one["source"])


def unreachable(url: str) -> str | None:
    """Why the advisories cannot be asked, None where they can."""
    try:
        with urllib.request.urlopen(url, timeout=PROBE_TIMEOUT_S) as answer:  # noqa: S310  (our own URL)
            body = json.load(answer)
    except (OSError, ValueError) as error:
        return f"{url} does not answer ({error})"
    if "vulnerabilities" not in body:
        return f"{url} has no advisories"
    return None


def audited(wanted: list[str]) -> tuple[list[str], list[str]]:
    """Return pip-audit's findings, a line each, and the packages that it could not check."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write("\n".join(wanted))
        requirements.flush()
        options = ["--no-deps", "--disable-pip", "--progress-spinner=off", "--format=json", "-r", requirements.name]
        done = subprocess.run(
            [sys.executable, "-m", "pip_audit", *options], capture_output=True, text=True, timeout=AUDIT_TIMEOUT_S
        )
    try:
        return judged(json.loads(done.stdout))
    except ValueError:
        sys.exit(f"pip-audit failed: {done.stderr.strip()[-2000:]}")


def judged(report: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The findings and the unchecked packages of pip-audit's JSON."""
    findings = [
        f"{one['name']} {one['version']}: {finding['id']} ({', '.join(finding['aliases']) or 'no alias'}), fixed in "
        f"{', '.join(finding['fix_versions']) or 'no release'}: uv lock --upgrade-package {one['name']}"
        for one in report["dependencies"]
        for finding in one.get("vulns", ())
    ]
    return findings, [one["name"] for one in report["dependencies"] if "skip_reason" in one]


if __name__ == "__main__":
    main()
