"""The packed packages in an application of Next.js, which is built and rendered as for production."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.javascript import install_from_lock, node, pack_packages

APPLICATION = Path(__file__).parent / "next_application"
RUN_S = 240


@pytest.mark.timeout(RUN_S)
def test_next_builds_an_application_and_renders_its_hooks_on_the_server(tmp_path: Path) -> None:
    """The page that the build writes has the first values of the hooks, and the styles."""
    install_from_lock(APPLICATION)
    _install(pack_packages(tmp_path))
    _build()

    page = (APPLICATION / "build" / "server" / "app" / "index.html").read_text()
    assert "disconnected, loading, 0 here, 0 changes wait" in page.replace("<!-- -->", "")
    assert 'class="beaconfire-indicator"' in page
    styles = "".join(path.read_text() for path in (APPLICATION / "build" / "static").rglob("*.css"))
    assert ".beaconfire-indicator" in styles


def _install(packed: dict[str, Path]) -> None:
    scope = APPLICATION / "node_modules" / "@beaconfire"
    shutil.rmtree(scope, ignore_errors=True)
    scope.mkdir(parents=True)
    for name, archive in packed.items():
        subprocess.run(["tar", "-xzf", archive, "-C", scope], check=True)
        (scope / "package").rename(scope / name)


def _build() -> None:
    command = [node(), "node_modules/next/dist/bin/next", "build"]
    environment = {**os.environ, "NEXT_TELEMETRY_DISABLED": "1"}
    result = subprocess.run(command, cwd=APPLICATION, env=environment, capture_output=True, text=True, timeout=RUN_S)
    assert result.returncode == 0, result.stdout + result.stderr
