"""Look up known vulnerabilities of everything that is installed from a registry: `python -m scripts.audit`.

* Python packages of uv.lock: with pip-audit. If the registry has no advisories, by age (`audits.lock_dates`).
* Go programs, with --examples also the examples in Go: with govulncheck and a fixed database (`audits.go_programs`).
* npm packages: with `npm audit`.

The exit code is 1 if something is found. What cannot be asked is named in a warning, and passes: a registry mirror may
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
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from scripts.audits import go_programs, lock_dates, npm_packages

LOCK = Path(__file__).parents[1] / "uv.lock"
ADVISORIES = "https://pypi.org/pypi/{}/json"
"""The address that pip-audit asks, for `name/version`."""
PROBE_TIMEOUT_S = 5.0
AUDIT_TIMEOUT_S = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.audit", description=__doc__)
    parser.add_argument("--examples", action="store_true", help="compile and audit the examples in Go, too")
    given = parser.parse_args()
    found = _python_packages()
    try:
        found += go_programs.findings(examples=given.examples, today=_today())
    except go_programs.CannotScan as error:
        _warn(f"Go programs NOT AUDITED for vulnerabilities: {error}")
    try:
        found += npm_packages.findings()
    except npm_packages.CannotAudit as error:
        _warn(f"npm packages NOT AUDITED for vulnerabilities: {error}")
    if found:
        sys.exit("\n".join(found))


def _python_packages() -> list[str]:
    """Return what pip-audit finds or, without advisories, the packages that stay behind."""
    wanted = locked(LOCK)
    why_not = unreachable(ADVISORIES.format(wanted[0].replace("==", "/")))
    if why_not is None:
        findings, unknown = audited(wanted)
        if not unknown:
            return findings
        why_not = f"they know nothing of {', '.join(unknown)}"
    else:
        findings = []
    _warn(f"{len(wanted)} Python packages NOT AUDITED for vulnerabilities, only by age: {why_not}")
    try:
        return findings + lock_dates.behind(_today())
    except lock_dates.CannotResolve as error:
        _warn(f"{len(wanted)} Python packages NOT AUDITED by age: {error}")
        return findings


def _today() -> date:
    return datetime.now(UTC).date()


def _warn(text: str) -> None:
    print(f"WARNING: {text}", file=sys.stderr)


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
