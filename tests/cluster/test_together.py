"""Everything at once, behind each load balancer of deploy/proxy, while each part is killed, drained and replaced."""

from pathlib import Path

import pytest

from tests.cluster.everything import everything, lose_each_part
from tests.databases import Postgres
from tests.proxies import KINDS

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("on_postgresql")]


@pytest.mark.parametrize("kind", KINDS)
async def test_no_event_is_lost_repeated_or_reordered_while_each_part_is_killed_drained_and_replaced(
    kind: str, postgres: Postgres, tmp_path: Path
) -> None:
    """The clients speak every protocol, and their tokens are from a real auth."""
    async with everything(kind, tmp_path) as whole:
        await lose_each_part(whole, postgres)
        verdicts = await whole.verdicts()

    assert {name: str(one) for name, one in verdicts.items() if not one.is_clean or one.told} == {}
    assert whole.trouble == []
    assert [one.name for one in whole.clients if one.connects < 2] == []
