"""What operators read from the metrics of a gateway: how many connections succeed, and how late events are written."""

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.client import open_socket
from tests.gateway.conftest import Gateway, settlement

ROOM = "campaign:c1"
OPENED = "beaconfire_gateway_connections_opened_total"
REFUSED = "beaconfire_gateway_handshakes_refused_total"
LATENCY = "beaconfire_gateway_write_latency_seconds"


async def samples(gateway: Gateway, name: str) -> dict[str, float]:
    """The samples of a metric, by the values of their labels."""
    families = text_string_to_metric_families(await gateway.metrics())
    return {
        ",".join(one.labels.values()): one.value for family in families for one in family.samples if one.name == name
    }


async def test_success_of_connections_and_lateness_of_deliveries_can_be_computed_from_the_metrics(
    gateway: Gateway,
) -> None:
    """The share of handshakes that were accepted, and the share of writes within 0.1 s."""
    token = gateway.auth.token("viewer")
    before = {name: sum((await samples(gateway, name)).values()) for name in (OPENED, REFUSED, f"{LATENCY}_count")}
    async with open_socket(gateway.url) as one, open_socket(gateway.url) as two, aiohttp.ClientSession() as http:
        for client in (one, two):
            await client.connect(token, [ROOM])
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await http.ws_connect(f"{gateway.url}/ws", origin="https://evil.example", protocols=["beaconfire.v1"])
        for number in range(3):
            await gateway.publish(settlement(f"s{number}"))
            for client in (one, two):
                await client.next("event")
        grown = {name: sum((await samples(gateway, name)).values()) - was for name, was in before.items()}
        buckets = await samples(gateway, f"{LATENCY}_bucket")

    assert (grown[OPENED], grown[REFUSED]) == (2, 1)
    assert 1 <= grown[f"{LATENCY}_count"] <= 3
    assert "0.1" in buckets
    assert sorted(buckets.values()) == list(buckets.values())
