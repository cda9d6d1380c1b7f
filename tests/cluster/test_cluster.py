"""A cluster of three brokers under load and hurt: nothing lost, nothing twice, nothing out of order, and it is said.

`make faults` runs the same for longer and prints a report.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from shared import broker
from tests.cluster.brokers import SIZE
from tests.cluster.scenarios import SCENARIOS
from tests.cluster.world import ClusterWorld, cluster_world
from tests.conftest import connected

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(150)]


@pytest_asyncio.fixture(name="whole", scope="module", loop_scope="module")
async def _whole(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ClusterWorld]:
    """One cluster for all scenarios: each leaves it whole."""
    async with cluster_world(tmp_path_factory.mktemp("cluster")) as one:
        yield one


@pytest.mark.parametrize("name", SCENARIOS)
async def test_nothing_lost(whole: ClusterWorld, name: str) -> None:
    """Whatever is done to the cluster, every client ends up with every event of its rooms, once, in order."""
    await whole.be_seated()
    for _ in range(4):
        whole.newcomer()
    await whole.everybody_is_there()
    before = await whole.repaired()
    async with whole.writing():
        await SCENARIOS[name](whole, 1)
    verdicts = await whole.judged()

    assert {name: str(verdict) for name, verdict in verdicts.items() if not verdict.is_clean or verdict.told} == {}
    assert all(verdict.delivered > 0 for verdict in verdicts.values())
    if name == "routes between brokers cut":
        assert await whole.repaired() > before, "the live path lost nothing: the scenario shows nothing"
    if name == "two of three killed":
        assert {follower.connects for follower in whole.last_followers} == {1}


async def test_declared_again(whole: ClusterWorld) -> None:
    """Declaring the streams again, by who does not say how many replicas, leaves them as many as they have."""
    async with connected(whole.brokers, "setup") as nc:
        assert await broker.declare_stream(nc) == whole.epoch
        infos = [await broker._api(nc, f"STREAM.INFO.{name}", {}) for name in (broker.STREAM, broker.DEADLETTERS)]

    assert [info["config"]["num_replicas"] for info in infos if info] == [SIZE, SIZE]
