"""Each image, started alone: with the configuration that docker-compose.yml gives it, and without parts of it."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.architecture.sources import PROJECTS
from tests.containers import engine
from tests.containers.deployment import IMAGES, Deployment
from tests.containers.surroundings import Surroundings, log_of

GRACE_S = 40
ALONE = ("gateway-1", "publisher", "rules-engine", "scheduler", "admin")
"""Services that are started alone. Auth runs for all of them."""
# The first test builds the images.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(name="surroundings", scope="module")
def _surroundings(built: Deployment) -> Iterator[Surroundings]:
    with ExitStack() as stack:
        one = Surroundings(stack, built.secrets)
        one.start()
        stack.enter_context(one.container("auth"))
        yield one


def packages(image: str) -> set[str]:
    """The installed Python packages of an image."""
    command = "import importlib.metadata as m; print(*(one.name for one in m.distributions()))"
    return set(engine.docker("run", "--rm", "--network", "none", image, "python", "-c", command).split())


@pytest.mark.parametrize("service", ["gateway", "auth", "publisher"])
@pytest.mark.usefixtures("built")
def test_image_contains_only_its_service_and_the_kit(service: str) -> None:
    found = packages(f"{IMAGES}/{service}")

    assert {name for name in found if name.startswith("beaconfire")} == {"beaconfire-kit", f"beaconfire-{service}"}
    assert not {"pip", "uv", "pytest"} & found


@pytest.mark.usefixtures("built")
def test_image_of_the_jobs_contains_every_part() -> None:
    """It migrates the tables of every service, and has the demo's page with the browser client."""
    ours = {one["name"] for folder, one in PROJECTS.items() if not folder.startswith("clients/")}
    found = packages(f"{IMAGES}/tools")
    client = "import beaconfire_demo, pathlib; print(*pathlib.Path(beaconfire_demo.__path__[0], 'client').iterdir())"

    assert {name for name in found if name.startswith("beaconfire")} == ours
    assert "client/index.js" in engine.docker("run", "--rm", f"{IMAGES}/tools", "python", "-c", client)


@pytest.mark.parametrize("name", ALONE)
def test_service_starts_alone_with_its_configuration_and_ends_in_order(name: str, surroundings: Surroundings) -> None:
    """Its health check succeeds. After SIGTERM the process ends with exit code 0."""
    with surroundings.container(name) as one:
        one.get_wrapped_container().stop(timeout=GRACE_S)
        ended = engine.state(one.get_container_id())

        assert (ended["ExitCode"], ended["OOMKilled"]) == (0, False), log_of(one)


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("auth", "BEACONFIRE_KEYS_SECRET"),
        ("publisher", "BEACONFIRE_SERVICE_TOKEN"),
        ("gateway-1", "BEACONFIRE_NATS_PASSWORD"),
        ("admin", "BEACONFIRE_OPERATOR_TOKEN"),
    ],
)
def test_service_without_a_secret_names_its_variable_and_exits_with_2(
    name: str, variable: str, surroundings: Surroundings
) -> None:
    with surroundings.container(name, without=[variable]) as one:
        code = one.wait()

        assert code == 2
        assert variable in log_of(one)
