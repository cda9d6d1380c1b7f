"""Everything at once, behind each load balancer of deploy/proxy, while each part is killed, drained and replaced."""

import asyncio
from pathlib import Path

import pytest

from tests.cluster.everything import PATIENCE_S, everything
from tests.databases import Postgres
from tests.proxies import KINDS

TRY_AGAIN = "try again"
"""What a client of Socket.IO is told while the brokers elect a leader. It does, and the verdict says what it got."""
pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("on_postgresql")]


@pytest.mark.parametrize("kind", KINDS)
async def test_no_event_is_lost_repeated_or_reordered_while_each_part_is_killed_drained_and_replaced(
    kind: str, postgres: Postgres, tmp_path: Path
) -> None:
    """One of each service is killed, then the leading broker and PostgreSQL. At the end all gateways are deployed anew.

    The clients speak every protocol, and their tokens are from a real auth.
    """
    async with everything(kind, tmp_path) as whole:
        services = whole.services
        async with whole.publishing():
            await whole.written(5)
            for service in (services.gateways[0], services.publishers[0], services.auths[0], services.workers[0]):
                service.kill()
                await whole.written(5)
                await services.start(service)
            leader = await whole.brokers.leader()
            whole.brokers.servers[leader].kill()
            await whole.written(5)
            await whole.brokers.start(leader)
            await asyncio.to_thread(postgres.stop_at_once)
            postgres.start()
            await whole.written(5)
            for gateway in services.gateways:  # a rolling deployment
                await asyncio.to_thread(gateway.stop, PATIENCE_S)
                await services.start(gateway)
                await whole.written(5)
        verdicts = await whole.verdicts()

    assert {name: str(one) for name, one in verdicts.items() if not one.is_clean or one.told} == {}
    assert {one.name: found for one in whole.others for found in one.problems if TRY_AGAIN not in found} == {}
    assert [one.name for one in whole.clients if one.connects < 2] == []
