"""What operators learn about clients that come back: their software, how their connection ended, `resync`."""

import asyncio

import prometheus_client
import pytest
from structlog.testing import capture_logs

from tests.client import Closed, open_socket
from tests.cursors import cursor_of
from tests.gateway.conftest import Gateway
from tests.polling import polling


def reconnects(last_close: str) -> float:
    """How many clients said that their last connection ended with this close code."""
    name = "beaconfire_gateway_reconnects_total"
    return prometheus_client.REGISTRY.get_sample_value(name, {"last_close": last_close}) or 0.0


def durations() -> tuple[float, float]:
    """How many clients said how long they were away, and the sum of these times in seconds."""
    name = "beaconfire_gateway_reconnect_duration_seconds"
    count, seconds = (prometheus_client.REGISTRY.get_sample_value(f"{name}_{part}") for part in ("count", "sum"))
    return count or 0.0, seconds or 0.0


async def test_client_and_last_close_are_logged(gateway: Gateway) -> None:
    """The log line of a new session has the client's name and version, the last close code, and how long ago it was."""
    with capture_logs() as lines:
        async with open_socket(gateway.url) as client:
            ack = await client.connect(
                gateway.auth.token("viewer"), client={"name": "my-app", "version": "2.1.0"}, lastClose=1006, awayMs=1840
            )
    (line,) = [line for line in lines if line["event"] == "connected"]

    assert (line["session"], line["user"]) == (ack["sessionId"], "viewer")
    assert (line["client"], line["client_version"], line["last_close"]) == ("my-app", "2.1.0", 1006)
    assert line["away_ms"] == 1840


async def test_connecting_and_leaving_are_logged_with_the_session_and_its_user(gateway: Gateway) -> None:
    with capture_logs() as lines:
        async with open_socket(gateway.url) as client:
            ack = await client.connect(gateway.auth.token("viewer"))
        async with asyncio.timeout(10):
            while not (left := [line for line in lines if line["event"] == "disconnected"]):
                await asyncio.sleep(0.01)
    came = [line for line in lines if line["event"] == "connected"]

    assert [(line["session"], line["user"]) for line in (*came, *left)] == [(ack["sessionId"], "viewer")] * 2


@pytest.mark.parametrize(
    ("last_close", "label"), [(1006, "1006"), (4429, "4429"), (4503, "4503"), (4321, "other"), (0, "other")]
)
async def test_reconnects_are_counted_by_last_close_code_and_unknown_codes_together(
    gateway: Gateway, last_close: int, label: str
) -> None:
    before = reconnects(label)
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), lastClose=last_close)

    assert reconnects(label) == before + 1


async def test_a_first_connection_counts_as_no_reconnect(gateway: Gateway) -> None:
    codes = ("1000", "1006", "4503", "other")
    before = [reconnects(code) for code in codes]
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"))

    assert [reconnects(code) for code in codes] == before


async def test_time_to_reconnect_is_counted_when_a_client_reports_it(gateway: Gateway) -> None:
    """Over a WebSocket and in a request alike. A first connection reports none. More than a day counts as a day."""
    token = gateway.auth.token("viewer")
    count, seconds = durations()
    async with open_socket(gateway.url) as client:
        await client.connect(token, lastClose=1006, awayMs=1500)
    async with open_socket(gateway.url) as client:
        await client.connect(token)
    async with polling(gateway.url, token) as client:
        await client.get(waitS=0, lastClose=1006, awayMs=2500)

    async with open_socket(gateway.url) as client:
        await client.connect(token, lastClose=1006, awayMs=2**53 - 1)

    assert durations() == (count + 3, seconds + 4 + 86_400)


@pytest.mark.parametrize("away_ms", [-1, 2**53, 1.5, "1000", True])
async def test_time_away_that_is_no_number_of_milliseconds_is_refused(gateway: Gateway, away_ms: object) -> None:
    async with open_socket(gateway.url) as client:
        with pytest.raises(Closed) as refused:
            await client.connect(gateway.auth.token("viewer"), lastClose=1006, awayMs=away_ms)

    assert refused.value.code == 4400


@pytest.mark.parametrize("last_close", [-1, 65_536, 1006.5, "1006", True])
async def test_last_close_that_is_no_close_code_is_refused(gateway: Gateway, last_close: object) -> None:
    """`lastClose` is a whole number that fits into a close frame."""
    async with open_socket(gateway.url) as client:
        with pytest.raises(Closed) as refused:
            await client.connect(gateway.auth.token("viewer"), lastClose=last_close)

    assert refused.value.code == 4400


@pytest.mark.parametrize(
    ("cursor", "reason", "cause"),
    [
        ("another:5", "epoch_changed", "cursor_of_other_epoch"),
        ("five", "epoch_changed", "cursor_unreadable"),
        ("{epoch}:99999999", "ahead", "cursor_ahead"),
    ],
)
async def test_resync_is_logged_with_its_cause_the_cursor_and_the_session(
    gateway: Gateway, cursor: str, reason: str, cause: str
) -> None:
    """The line leads an operator from a client to what happened."""
    async with open_socket(gateway.url) as client:
        epoch = cursor_of((await client.connect(gateway.auth.token("viewer")))["cursor"]).epoch
    cursor = cursor.replace("{epoch}", epoch)
    with capture_logs() as lines:
        async with open_socket(gateway.url) as client:
            ack = await client.connect(gateway.auth.token("viewer"), ["campaign:c1"], cursor=cursor)
            await client.next("resync")
    (line,) = [line for line in lines if line["event"] == "resync"]

    assert (line["reason"], line["cause"], line["cursor"]) == (reason, cause, cursor)
    assert (line["session"], line["user"]) == (ack["sessionId"], "viewer")
