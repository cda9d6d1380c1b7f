"""Tokens are in no log line, metric or error of real services at the most verbose log level (A2, T3)."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from beaconfire.local_services import Plan, Services
from tests.client import Closed, SocketClient, open_plain, open_socket
from tests.e2e.conftest import Line
from tests.forked import all_running

DEBUG = {"BEACONFIRE_LOG_LEVEL": "debug", "BEACONFIRE_ARGON2_TIME_COST": "1", "BEACONFIRE_ARGON2_MEMORY_KIB": "64"}


@pytest.fixture(name="talkative")
def _talkative(tmp_path: Path) -> Iterator[Services]:
    """A set whose services log everything."""
    with all_running(Plan(tmp_path, environment=dict.fromkeys(("auth", "publisher", "gateway"), DEBUG))) as services:
        yield services


@pytest.fixture(name="http")
async def _http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as http:
        yield http


async def said_to(url: str, request: bytes) -> bytes:
    """Return the answer to a raw request."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(request)
        async with asyncio.timeout(15):
            return await reader.read()
    finally:
        writer.close()


async def open_again(url: str, token: str) -> None:
    """A token in the header, and a part of it for a room."""
    async with open_socket(url, headers={"Authorization": f"Bearer {token}"}) as client:
        ack = await client.ask("connect", rooms=[token[:290]])
    assert ack["type"] == "connection.ack"


async def test_no_token_appears_in_logs_metrics_close_reasons_or_errors_however_it_is_sent(
    talkative: Services, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    [gateway] = talkative.gateways
    line = Line(talkative, http)
    person = await line.sign_up("Secretive")
    campaign = await line.campaign(person)
    forged = person.token[:-8] + "AAAAAAAA"
    errors: list[str] = []
    async with open_socket(gateway.url) as client:
        await client.connect(person.token, [f"campaign:{campaign}"])
        await client.ask("refresh", token=person.token)
        errors.append(str((await client.ask("refresh", token=forged))["error"]))
        for wrong in (
            {"type": "subscribe", "id": 1, "rooms": [[person.token]]},
            {"type": "ping", "token": person.token},
        ):
            await client.socket.send_json(wrong)
            errors.append(str(await client.next("error")))
    async with open_socket(gateway.url, headers={"Authorization": f"Bearer {person.token}"}) as client:
        with contextlib.suppress(Closed):  # it is longer than a room's name may be
            await client.ask("connect", rooms=[person.token])
        await open_again(gateway.url, person.token)
    async with open_socket(gateway.url) as client:
        with pytest.raises(Closed) as end:
            await client.connect(forged)
        errors.append(end.value.reason)
    upgrade = f"{gateway.url.replace('http', 'ws')}/ws?token={person.token}"
    async with http.ws_connect(upgrade, protocols=["beaconfire.v1"]) as socket:
        await SocketClient(socket).ask("connect")
    async with open_plain(gateway.url, person.token) as plain:
        await plain.socket.send_json({"type": "subscribe", "payload": {"rooms": [[person.token]]}})
        errors.append(str(await plain.next("error")))
    async with open_plain(gateway.url, forged) as plain:
        errors.append((await plain.closed()).reason)
    for path in (f"/ws?token={person.token}", f"/nowhere?token={person.token}", f"/{person.token}"):
        async with http.get(f"{gateway.url}{path}") as answer:
            errors.append(await answer.text())
    broken = f"GET /ws?token={person.token} HTTP/1.1\r\nHost x\r\n\r\n".encode()
    errors.append((await said_to(gateway.url, broken)).decode())
    for url in (talkative.auth_url, talkative.publisher_url):
        headers = {"Authorization": f"Bearer {forged}"}
        async with http.get(f"{url}/v1/campaigns?token={person.token}", headers=headers) as answer:
            errors.append(await answer.text())
    for service in talkative.services:
        async with http.get(f"{service.ops_url}/metrics") as answer:
            errors.append(await answer.text())
    await asyncio.to_thread(talkative.stop)

    logs = {path.name: path.read_text() for path in tmp_path.rglob("*.log")}
    secrets = [part[:40] for token in (person.token, forged) for part in token.split(".")[1:]]
    everything = {**logs, **{f"answer {number}": text for number, text in enumerate(errors)}}
    assert [name for name, text in everything.items() if any(secret in text for secret in secrets)] == []
    assert re.search('"level": ?"debug"', "".join(logs.values()))
    assert "refused token" in logs["gateway-1.log"]
