"""The containers of the version before are upgraded in place, as documented."""

import asyncio
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT
from tests.containers import engine
from tests.containers.deployment import IMAGES, Deployment, documented
from tests.containers.story import Story
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


@pytest.mark.timeout(900)
async def test_upgrade_in_place_loses_no_account_change_or_event(built: Deployment, tmp_path: Path) -> None:
    """Clients that follow a campaign meanwhile have every event once and in order."""
    deployment = Deployment(tree_before(tmp_path / "deployment"), images=f"{IMAGES}-before")
    try:
        await asyncio.to_thread(deployment.build)
        await asyncio.to_thread(deployment.bring_up)
        old = image_of(deployment, "gateway-1")
        story = Story(deployment.url, deployment.certificate)
        await story.begin()
        token = await story.token()
        await story.change(1241, token)
        async with story.followed(token):
            deployment.replace_tree(built)
            for command in documented("Upgrading"):
                await asyncio.to_thread(deployment.shell, command)

        assert image_of(deployment, "gateway-1") != old
        assert await story.population(await story.token()) == 1241
    finally:
        await asyncio.to_thread(deployment.remove)


def image_of(deployment: Deployment, service: str) -> str:
    """The id of the image that a container runs."""
    return engine.docker("inspect", "--format", "{{.Image}}", deployment.container(service)).strip()
