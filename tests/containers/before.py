"""The files of the version before, from the history of the repository."""

import os
import re
import subprocess
from pathlib import Path

from tests.architecture.sources import ROOT
from tests.containers import engine
from tests.upgrade import release


def tree_before(folder: Path) -> Path:
    """Write the files of the version before."""
    archive = subprocess.run(["git", "archive", release.COMMIT], cwd=ROOT, capture_output=True, check=False)
    assert archive.returncode == 0, f"{archive.stderr.decode()}This test needs the history: git fetch --unshallow"
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    if os.environ.get("STAND_IN_IMAGES"):
        for now, before in zip(base_images(ROOT), base_images(folder), strict=True):
            engine.docker("tag", now, before)
    return folder


def base_images(tree: Path) -> list[str]:
    """The images of others that a version starts from. Where none can be pulled, a stand-in has the name of today's."""
    files = ("deploy/Dockerfile", "deploy/proxy/Dockerfile", "docker-compose.yml")
    text = "\n".join((tree / name).read_text() for name in files)
    return [re.findall(rf"(?:FROM|image:) ({name}:\S+)", text)[0] for name in ("python", "caddy", "postgres")]
