"""The Makefile on a machine without a network: each failed download says what to do."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT
from tests.docs.tree import Tree, fresh_environment

MAKEFILE = (ROOT / "Makefile").read_text()
NOBODY = "http://127.0.0.1:1/"
OFFLINE = {
    "HTTPS_PROXY": NOBODY,
    "PIP_INDEX_URL": NOBODY,
    "PIP_FIND_LINKS": "",
    "PIP_RETRIES": "0",
    "UV_HTTP_RETRIES": "0",
    "UV_NO_CACHE": "1",
    "NPM_CONFIG_REGISTRY": NOBODY,
    "NPM_CONFIG_FETCH_RETRIES": "0",
}
DOWNLOADS = re.compile(r"^\t@.*(?:pip install|\) sync |npm ci|deploy/install-).*$", re.MULTILINE)


@pytest.mark.parametrize(
    ("target", "what"),
    [
        (["UV=.uv/bin/uv", ".uv/bin/uv"], "uv"),
        ([".venv/.synced"], "Python packages of uv.lock"),
        (["clients/js/node_modules/.package-lock.json"], "npm packages of clients/js"),
    ],
    ids=["uv", "packages", "npm"],
)
def test_failed_download_says_that_the_network_may_be_missing(tmp_path: Path, target: list[str], what: str) -> None:
    done = subprocess.run(
        ["make", *target],
        cwd=Tree(tmp_path).root,
        env={**fresh_environment(), **OFFLINE, "npm_config_cache": str(tmp_path / "npm")},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert done.returncode != 0
    assert f"{what} could not be downloaded (see above). Check the network." in done.stderr
    assert "HTTPS_PROXY" in done.stderr


def test_every_download_in_the_makefile_explains_its_failure() -> None:
    lines = DOWNLOADS.findall(MAKEFILE)

    assert len(lines) >= 6
    assert [line for line in lines if "$(call fetched," not in line] == []
