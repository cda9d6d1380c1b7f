"""A service in Node that uses our package, for tests that run it."""

import fcntl
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
NODE = ROOT / "clients/node"
PACKAGES = ROOT / "examples/node"
RUN_S = 120


def node_service(folder: Path, script: str) -> Path:
    """Put the package and a script of this folder beside a NATS client, as in a service of somebody's."""
    for name in ("package.json", "package-lock.json"):
        shutil.copy(PACKAGES / name, folder)
    shutil.copytree(NODE, folder / "publisher")
    shutil.copy(Path(__file__).parent / script, folder)
    with (PACKAGES / "README.md").open() as lock:  # one test process after the other: the second finds the packages
        fcntl.flock(lock, fcntl.LOCK_EX)
        installed = subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, text=True, timeout=RUN_S
        )
    assert installed.returncode == 0, installed.stderr
    return folder
