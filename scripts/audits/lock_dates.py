"""Find Python packages that stay behind: where the advisories cannot be asked, age is what can be known.

A locked release is behind if it is old, and a newer one that would fit has been out for a while. Most fixes of
vulnerabilities arrive as such a release.
"""

import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from scripts.uv import ROOT, uv

OLD = timedelta(days=180)
OUT = timedelta(days=30)
RESOLVE_S = 120.0


class CannotResolve(Exception):
    """The index does not answer. The text says why."""


class Release(NamedTuple):
    version: str
    uploaded: date


NONE = Release("", date.min)


def behind(today: date) -> list[str]:
    """Return the packages that stay behind, a line each. Raises CannotResolve."""
    return judged(releases(ROOT / "uv.lock"), _newest(), today)


def judged(locked: Mapping[str, Release], newest: Mapping[str, Release], today: date) -> list[str]:
    """Compare what is locked with what would be locked today."""
    return [
        f"{name} {one.version} is of {one.uploaded}, and {newer.version} has been out since {newer.uploaded}: "
        f"uv lock --upgrade-package {name}"
        for name, one in locked.items()
        if (newer := newest.get(name, one)).version != one.version
        and today - one.uploaded > OLD
        and today - newer.uploaded > OUT
    ]


def releases(lock: Path) -> dict[str, Release]:
    """The newest release of each package of a lock file, with the day on which it was uploaded."""
    found: dict[str, Release] = {}
    for one in tomllib.loads(lock.read_text())["package"]:
        files = [*one.get("wheels", ()), *([one["sdist"]] if "sdist" in one else ())]
        days = [datetime.fromisoformat(file["upload-time"]).date() for file in files if "upload-time" in file]
        if days:
            # A lock file has several releases of a package that supports each Python version for a short time.
            found[one["name"]] = max(Release(one["version"], min(days)), found.get(one["name"], NONE), key=_uploaded)
    return found


def _newest() -> dict[str, Release]:
    """What a new resolution of all requirements would lock."""
    with tempfile.TemporaryDirectory() as folder:
        for path in (ROOT / "uv.lock", *ROOT.glob("pyproject.toml"), *ROOT.glob("*/pyproject.toml"),
                     *ROOT.glob("*/*/pyproject.toml")):  # fmt: skip
            copy = Path(folder) / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
        command = [uv(), "lock", "--upgrade", "--quiet"]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=RESOLVE_S)
        except (OSError, subprocess.SubprocessError) as error:
            why = getattr(error, "stderr", None) or error
            raise CannotResolve(f"uv lock failed ({str(why).strip()[-500:]})") from None
        return releases(Path(folder) / "uv.lock")


def _uploaded(release: Release) -> date:
    return release.uploaded
