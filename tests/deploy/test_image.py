"""deploy/Dockerfile: the build stage, followed here with its own commands, without a container engine."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.sources import PROJECTS, ROOT
from tests.packaging.environments import uv

BUILD = (ROOT / "deploy/Dockerfile").read_text().rpartition("\nFROM ")[0]
INSTRUCTION = re.compile(r"^(COPY|RUN) ((?:.*\\\n)*.*)$", re.MULTILINE)
BUILD_S = 180
SERVICES = ("gateway", "auth", "publisher")


def built(folder: Path, service: str) -> Path:
    """Follow the build stage in a folder, and return the environment that the image gets."""
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")},
        "SERVICE": service,
        "PATH": f"{Path(uv()).parent}:{os.environ['PATH']}",
        "UV_PYTHON": sys.executable,
    }
    for instruction, text in INSTRUCTION.findall(BUILD):
        if instruction == "RUN" and "pip install" not in text:
            done = subprocess.run(
                ["sh", "-c", text.replace("\\\n", " ")],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout
        elif instruction == "COPY":
            *sources, target = text.split()
            for source in sources:
                copy(ROOT / source, folder / target / ("" if (ROOT / source).is_dir() else Path(source).name))
    return folder / ".venv"


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder's content, with links as links."""
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def ours(environment: Path) -> set[str]:
    """The packages of ours in an environment, each as files and not as a link to its sources."""
    (packages,) = environment.glob("lib/python*/site-packages")
    assert not list(packages.glob("*beaconfire*.pth"))
    return {path.name for path in packages.iterdir() if path.name.startswith("beaconfire") and "." not in path.name}


@pytest.mark.timeout(BUILD_S)
@pytest.mark.parametrize("service", SERVICES)
def test_image_contains_only_its_service_and_the_kit(service: str, tmp_path: Path) -> None:
    environment = built(tmp_path, service)

    assert ours(environment) == {"beaconfire_kit", f"beaconfire_{service}"}


@pytest.mark.timeout(BUILD_S)
def test_image_of_the_jobs_contains_every_part(tmp_path: Path) -> None:
    """It migrates the tables of every service, and has the demo's page with the browser client."""
    environment = built(tmp_path, "tools")
    (client,) = environment.glob("lib/python*/site-packages/beaconfire_demo/client/index.js")

    assert ours(environment) == {str(project["name"]).replace("-", "_") for project in PROJECTS.values()}
    assert client.is_file()
    assert not client.parent.is_symlink()
