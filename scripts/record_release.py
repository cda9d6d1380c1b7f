"""Record a release, against which the next version is tested: `make record COMMIT=…`.

`tests/upgrade/before` then has the wheels and the documents of that commit. Tests need no history of the repository.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path

from scripts.uv import ROOT, uv

BEFORE = ROOT / "tests" / "upgrade" / "before"
PARTS = ("kit", "auth", "gateway", "publisher", "client")
"""The parts that are replaced independently of one another, and what they share."""
DOCUMENTS = (
    "docs/reference/asyncapi.json",
    "docs/reference/openapi.json",
    "docs/reference/openapi-auth.json",
    "clients/js/src/messages.d.ts",
    "tests/conformance/fixtures",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.record_release", description=__doc__)
    parser.add_argument("commit", help="the commit of the release")
    given = parser.parse_args()
    commit = _run("git", "rev-parse", f"{given.commit}^{{commit}}", cwd=ROOT).decode().strip()
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        tree.mkdir()
        archive = _run("git", "archive", commit, cwd=ROOT)
        subprocess.run(["tar", "-x", "-C", tree], input=archive, check=True)
        record(tree, commit, BEFORE)
    print(f"{BEFORE.relative_to(ROOT)} has release {commit[:8]}. Commit the folder.")


def record(tree: Path, commit: str, folder: Path) -> None:
    """Write the wheels and documents of a tree into a folder, in place of what is there."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "documents").mkdir(parents=True)
    for part in PARTS:
        _run(uv(), "build", "--quiet", "--wheel", "--package", f"beaconfire-{part}", "--out-dir", "built", cwd=tree)
    (folder / "wheels").mkdir()
    for wheel in (tree / "built").glob("*.whl"):
        shutil.copy(wheel, folder / "wheels")
    for name in DOCUMENTS:
        copy = shutil.copytree if (tree / name).is_dir() else shutil.copy
        copy(tree / name, folder / "documents" / Path(name).name)
    version = tomllib.loads((tree / "shared" / "pyproject.toml").read_text())["project"]["version"]
    (folder / "release.json").write_text(json.dumps({"version": version, "commit": commit}, indent=2) + "\n")


def _run(*command: str, cwd: Path) -> bytes:
    return subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, check=True).stdout


if __name__ == "__main__":
    main()
