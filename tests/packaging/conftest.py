"""The wheels of the workspace, built once."""

from pathlib import Path

import pytest

from tests.packaging.environments import build_wheels


@pytest.fixture(name="wheels", scope="module")
def _wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel of every part."""
    return build_wheels(tmp_path_factory.mktemp("wheels"))
