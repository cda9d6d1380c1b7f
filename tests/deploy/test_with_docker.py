"""deploy/ci/with-docker.sh where it cannot provide an engine: it says why, and does not run the command."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT

SCRIPT = (ROOT / "deploy/ci/with-docker.sh").read_text()
PROGRAMS = ("awk", "bash", "cat", "dirname", "id", "mktemp", "rm", "setpriv", "sort", "timeout", "umount", "xargs")


@pytest.fixture(name="path")
def _path() -> Iterator[str]:
    """A PATH without docker, which every user may read."""
    with tempfile.TemporaryDirectory(prefix="beaconfire-path-") as folder:
        Path(folder).chmod(0o755)
        for program in PROGRAMS:
            found = shutil.which(program)
            assert found
            (Path(folder) / program).symlink_to(found)
        yield folder


def ended(*before: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `echo` with the script, and wait for its end. The script is passed as text: another user may not read it."""
    return subprocess.run(
        [*before, "bash", "-c", SCRIPT, "/with-docker.sh", "echo", "it ran"],
        env={"HOME": "/", "UV": "uv", **environment},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_without_an_engine_and_without_root_it_says_so(path: str) -> None:
    other = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups") if os.geteuid() == 0 else ()

    done = ended(*other, PATH=path)

    assert done.returncode == 1
    assert "No Docker engine is reachable, and only root can start one." in done.stderr
    assert done.stdout == ""


def test_an_engine_that_does_not_answer_is_named(path: str, tmp_path: Path) -> None:
    done = ended(PATH=path, DOCKER_HOST=f"unix://{tmp_path}/none.sock")

    assert done.returncode == 1
    assert f"The Docker engine at DOCKER_HOST=unix://{tmp_path}/none.sock does not answer." in done.stderr
    assert done.stdout == ""
