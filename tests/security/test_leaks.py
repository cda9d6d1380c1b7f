"""T3 and T18: no secret in logs, metrics or answers, and nothing about our internals."""

import asyncio
import uuid

import aiohttp
import pytest

from tests.client import Closed, open_socket
from tests.security.conftest import PASSWORD, Target, hears
from tests.security.raw_http import exchange

WRONG_PASSWORD = "a-wrong-password-nobody-has"


async def test_no_secret_appears_in_logs_metrics_or_errors(target: Target) -> None:
    """T3: secrets stand in a message, a header, a query or a body. They are good, forged or expired. The level is
    debug."""
    token, forged = target.stranger.token, target.stranger.token[:-8] + "AAAAAAAA"
    auth, publisher, gateway = target.services.auth_url, target.services.publisher_url, target.gateway.url
    answers = [
        await target.status("GET", f"{service}{path}?token={secret}", token=secret)
        for secret in (token, forged)
        for service in (auth, publisher, gateway)
        for path in ("/healthz", "/auth/me", "/v1/campaigns", "/nowhere")
    ]
    email = target.stranger.email
    answers.append(await target.status("POST", f"{auth}/auth/sign-in", {"email": email, "password": WRONG_PASSWORD}))
    answers.append(await target.status("POST", f"{auth}/auth/sign-in", {"email": email, "passwort": WRONG_PASSWORD}))
    answers.append(await target.status("POST", f"{auth}/auth/refresh", {"refreshToken": f"{forged}!"}))
    for options in ({"headers": {"Authorization": f"Bearer {forged}"}}, {"protocols": ["beaconfire.v1", forged]}):
        async with open_socket(gateway, **options) as client:
            with pytest.raises(Closed) as end:
                await client.ask("connect")
            answers.append((end.value.code or 0, end.value.reason))
    marker = f"campaign:{uuid.uuid4().hex}"
    async with target.client(target.stranger) as client:
        await client.ask("refresh", token=forged)
        await client.ask("refresh", token=token)
        await client.ask("subscribe", rooms=[f"campaign:{token}"])  # too long to be a room's name, and not logged
        await client.ask("subscribe", rooms=[marker])
    async with asyncio.timeout(20):
        while marker not in target.logs():
            await asyncio.sleep(0.05)
    metrics = []
    async with aiohttp.ClientSession() as http:
        for process in target.services.services:
            async with http.get(f"{process.ops_url}/metrics") as page:
                metrics.append(await page.text())
    written = target.logs() + "".join(metrics)
    answered = str([answer for answer in answers if answer[0] >= 400])

    secrets = (token.split(".")[2], forged.split(".")[2], PASSWORD, WRONG_PASSWORD, target.stranger.refresh_token)
    assert [secret for secret in secrets if secret in written] == []
    assert [secret for secret in secrets if secret in answered] == []
    assert '"level": "info"' in written
    assert "beaconfire_http_request_duration_seconds" in written


async def test_text_of_a_client_stays_inside_its_field_of_a_log_line(target: Target) -> None:
    """T3: names of software, rooms, paths and correlation ids."""
    line = '"}\n{"level": "error", "event": "forged-by-a-client"}'
    async with open_socket(target.gateway.url) as client:
        await client.connect(target.stranger.token, [f"campaign:{line}"[:200]], client={"name": line, "version": line})
        marker = f"campaign:{uuid.uuid4().hex}"
        await client.ask("subscribe", rooms=[marker, f"campaign:{line}"])
    await target.status("GET", f"{target.services.publisher_url}/v1/campaigns/%0A%7B%22event%22%3A1", token=line[:1])
    async with asyncio.timeout(20):
        while marker not in target.logs():
            await asyncio.sleep(0.05)

    assert [one for one in target.logs().splitlines() if one.startswith('{"level": "error", "event": "forged')] == []


async def test_text_of_a_caller_adds_no_time_series(target: Target) -> None:
    """T3: a thousand ids or methods add none."""
    async with aiohttp.ClientSession() as http:
        for method in ("PROPFIND", "MKCOL", "REPORT", "SEARCH", "PURGE", "LINK"):
            async with http.request(method, f"{target.services.publisher_url}/v1/campaigns"):
                pass
        async with http.get(f"{target.services.publisher.ops_url}/metrics") as page:
            metrics = await page.text()

    assert 'method="other"' in metrics
    assert "PROPFIND" not in metrics


@pytest.mark.parametrize("path", ["/metrics", "/api/v1/ws/stats", "/debug", "/../ops/metrics", "//metrics"])
async def test_metrics_and_operators_calls_are_on_the_operations_port_only(target: Target, path: str) -> None:
    """T3: however the path is written."""
    for service in (target.services.auth_url, target.services.publisher_url, target.gateway.url):
        assert (await target.status("GET", service + path))[0] == 404


async def test_method_override_has_no_effect_and_foreign_pages_get_no_cors_permission(target: Target) -> None:
    """T3: neither a header nor a query changes the method of a request."""
    url = f"{target.services.publisher_url}/v1/campaigns/{target.campaign}"
    bearer = {"Authorization": f"Bearer {target.owner.token}"}
    override = {"X-HTTP-Method-Override": "DELETE", "X-Method-Override": "DELETE", "X-HTTP-Method": "DELETE"}
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{url}?_method=DELETE", headers=bearer | override) as read:
            assert read.status == 200
        async with http.post(url, headers=bearer | override) as posted:
            assert posted.status == 405
        async with http.get(url, headers=bearer | {"Origin": "https://evil.example"}) as foreign:
            assert not [name for name in foreign.headers if name.lower().startswith("access-control-allow")]
        async with http.get(url, headers=bearer) as still_there:
            assert still_there.status == 200


INTERNAL = ("_INBOX", "live.", "Nats-", "$JS", "Traceback", "aiohttp", "Python/", ".py", "sqlite", "nats://", 'EVENTS"')


async def test_answers_and_frames_contain_no_subject_header_trace_file_or_version(target: Target) -> None:
    """T18: it contains no detail of the broker or of our code."""
    requests = [
        b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /v1/campaigns/%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"POST /auth/sign-in HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\n{",
        b"nonsense\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ]
    urls = (target.services.auth_url, target.services.publisher_url, target.gateway.url)
    said = [(await exchange(url, request)).decode() for url in urls for request in requests]
    async with target.client(target.owner, target.room) as client:
        await client.ask("subscribe", rooms=["campaign:*", "campaign:other"])
        await client.ask("nonsense")
        await client.ask("refresh", token="nonsense")
        await hears(target, client)
        said += [str(frame) for frame in client.frames]

    assert all(said)
    assert [(word, text) for text in said for word in INTERNAL if word in text] == []
