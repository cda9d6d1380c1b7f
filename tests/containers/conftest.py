"""An engine, the images built once, and one deployment for the tests of a module."""

from collections.abc import Iterator

import pytest
from testcontainers.core.config import testcontainers_config

from tests.containers import engine
from tests.containers.before import tree_before
from tests.containers.deployment import IMAGES_BEFORE, Deployment
from tests.docs.tree import Tree


@pytest.fixture(scope="session", autouse=True)
def _engine() -> None:
    assert engine.is_reachable(), engine.MISSING
    # A container that would remove the others. Its image may be out of reach, and the tests remove what they start.
    testcontainers_config.ryuk_disabled = True


@pytest.fixture(name="built", scope="session")
def _built(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """This version with its images and secrets, not started yet."""
    one = Deployment(Tree(tmp_path_factory.mktemp("this-version")).root)
    one.build()
    return one


@pytest.fixture(name="before", scope="session")
def _before(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """The version before with its images and secrets, not started yet."""
    one = Deployment(tree_before(tmp_path_factory.mktemp("version-before") / "tree"), images=IMAGES_BEFORE)
    one.build()
    return one


@pytest.fixture(name="deployment", scope="module")
def _deployment(built: Deployment) -> Iterator[Deployment]:
    """This version, brought up as documented."""
    try:
        built.bring_up()
        yield built
    finally:
        built.remove()
