"""Look up known vulnerabilities of the npm packages in lock files, with `npm audit`."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LOCKS = ("clients/js", "clients/react", "scripts/site", "examples/react", "examples/node")
"""Folders of packages that we publish, of the site, and of examples. Those of tests alone are left out."""
AUDIT_S = 60.0


class CannotAudit(Exception):
    """The registry has no advisories, or npm is missing. The text says why."""


def findings() -> list[str]:
    """Return what is vulnerable, a line each. Raises CannotAudit."""
    return [line for folder in LOCKS for line in judged(folder, _report(ROOT / folder))]


def judged(folder: str, report: Mapping[str, Any]) -> list[str]:
    """Return the findings of npm's JSON."""
    if "vulnerabilities" not in report:
        raise CannotAudit(f"the registry has no advisories ({report.get('message') or report.get('error')})")
    return [
        f"{folder}: {name} {one['range']} ({one['severity']}): npm audit fix --package-lock-only"
        for name, one in report["vulnerabilities"].items()
    ]


def _report(folder: Path) -> dict[str, Any]:
    command = ["npm", "audit", "--package-lock-only", "--json", "--loglevel=silent", "--fetch-retries=0"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=AUDIT_S)
        return dict(json.loads(done.stdout))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise CannotAudit(f"npm audit failed ({error})") from None
