"""`beaconfire authorizer check` finds each broken rule, and none in the example."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from beaconfire.authorizer_check import check
from beaconfire_kit import webhooks
from beaconfire_kit.secret_files import Secret, read_secret
from beaconfire_kit.subjects import Pair
from tests.authorizers import running_example, write_secret
from tests.tools.conftest import Call

ALICE, D1 = "shop-alice", Pair("depot", "d1")
SIGNATURE_RULES = {
    "refuses a request without a signature",
    "refuses a wrong signature",
    "refuses a body that was changed",
    "refuses an id that was changed",
}
TIME_RULES = {"refuses a request of ten minutes ago", "refuses a request from the future"}


def test_example_keeps_every_rule(call: Call, tmp_path: Path) -> None:
    with running_example(tmp_path) as example:
        asyncio.run(example.until_it_answers())
        example.allow({"depot:d1": {ALICE: "editor"}}, version=3)
        arguments = ("--secret-file", str(example.secret), "--user", ALICE, "--root", "depot:d1", "--root", "depot:d2")
        said = call("authorizer", "check", example.url, *arguments)

    assert said.exit_code == 0, said.text
    assert "All 16 rules are kept." in said.text
    assert "depot:d1 editor, depot:d2 null" in said.text


class Flawed:
    """An authorizer with one flaw."""

    def __init__(self, secret: Secret, flaw: str) -> None:
        self._secret = secret
        self._flaw = flaw
        self._asked = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self._asked += 1
        if self._flaw == "redirects":
            raise web.HTTPTemporaryRedirect("/authorize")
        body = await request.read()
        if len(body) > 65_536 and self._flaw != "has no limit":
            return web.Response(status=413)
        if not self._is_signed(request, body):
            return web.Response(status=401)
        if self._flaw == "fails on bad JSON":
            question = json.loads(body)
            user, roots = question["userId"], question["roots"]
        else:
            try:
                question = json.loads(body)
                user, roots = question["userId"], question["roots"]
            except (ValueError, KeyError):
                return web.Response(status=400)
        if self._flaw == "is strict about fields" and len(question) > 2:
            return web.Response(status=400)
        return self._answer(user, roots)

    def _is_signed(self, request: web.Request, body: bytes) -> bool:
        if self._flaw == "ignores signatures":
            return True
        headers = {name.lower(): value for name, value in request.headers.items()}
        if self._flaw == "reads one signature":
            headers[webhooks.SIGNATURE] = headers.get(webhooks.SIGNATURE, "").split(" ")[0]
        now = float(headers.get(webhooks.TIMESTAMP, "0")) if self._flaw == "ignores time" else None
        try:
            webhooks.verify([self._secret], headers, body, now=now)
        except webhooks.InvalidSignature:
            return False
        return True

    def _answer(self, user: str, roots: list[str]) -> web.Response:
        known = {"depot:d1": "editor"} if user == ALICE else {}
        roles: dict[str, Any] = {root: known.get(root) for root in roots}
        if self._flaw == "lets everyone in":
            roles = {root: "viewer" if root == "depot:d1" else None for root in roots}
        if self._flaw == "invents roots":
            roles = dict.fromkeys(roots, "viewer" if user == ALICE else None)
        if self._flaw == "leaves out null":
            roles = {root: role for root, role in roles.items() if role}
        return web.json_response({"version": 99 - self._asked if self._flaw == "counts down" else 7, "roles": roles})


FLAWS: dict[str, set[str]] = {
    "none": set(),
    "ignores signatures": SIGNATURE_RULES | TIME_RULES,
    "ignores time": TIME_RULES,
    "reads one signature": {"accepts one right signature of two"},
    "has no limit": {"refuses a body of 256 KiB"},
    "fails on bad JSON": {"refuses a body that is not JSON", "refuses a question without roots"},
    "is strict about fields": {"ignores a field that it does not know"},
    "lets everyone in": {"answers null for an unknown user"},
    "invents roots": {"answers null for an unknown root"},
    "leaves out null": {
        "answers null for an unknown root",
        "answers null for an unknown user",
        "answers for 200 roots at once",
    },
    "counts down": {"still answers afterwards, and its version has not gone down"},
}


@pytest.fixture(name="secret")
def _secret(tmp_path: Path) -> Secret:
    return read_secret(str(write_secret(tmp_path)), "base64")


Serve = Callable[[str], Awaitable[str]]


@pytest.fixture(name="serve")
async def _serve(secret: Secret) -> AsyncIterator[Serve]:
    """Start an authorizer with a flaw; returns its address."""
    runners: list[web.AppRunner] = []

    async def start(flaw: str) -> str:
        app = web.Application(client_max_size=1024**2)
        app.router.add_post("/authorize", Flawed(secret, flaw).handle)
        runner = web.AppRunner(app)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}/authorize"

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.mark.parametrize("flaw", FLAWS)
async def test_each_flaw_breaks_the_rules_it_should_and_no_other(serve: Serve, secret: Secret, flaw: str) -> None:
    async with aiohttp.ClientSession() as http:
        verdicts = await check(http, await serve(flaw), secret, user=ALICE, roots=[D1])

    assert {one.rule for one in verdicts if not one.ok} == FLAWS[flaw]
    assert all(one.detail for one in verdicts)


async def test_authorizer_that_redirects_or_is_away_breaks_the_first_rule(serve: Serve, secret: Secret) -> None:
    async with aiohttp.ClientSession() as http:
        redirecting = await check(http, await serve("redirects"), secret, user=ALICE, roots=[D1])
        away = await check(http, "http://127.0.0.1:1/", secret, user=ALICE, roots=[D1])

    assert (redirecting[0].ok, redirecting[0].detail) == (False, "status 307, expected 200")
    assert not any(one.ok for one in away)


async def test_wrong_secret_is_named_as_the_likely_cause(serve: Serve) -> None:
    async with aiohttp.ClientSession() as http:
        verdicts = await check(http, await serve("none"), Secret(b"x" * 32), user=ALICE, roots=[D1])

    assert verdicts[0].detail == "status 401, expected 200: is it the same secret?"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"--root": "depot"}, "not kind:id"),
        ({"--secret-file": "/absent"}, "cannot be read"),
        ({"url": "shop.example"}, "not an address"),
    ],
)
def test_command_refuses_arguments_that_cannot_be_used(
    call: Call, tmp_path: Path, change: dict[str, str], why: str
) -> None:
    given = {"--secret-file": str(write_secret(tmp_path)), "--user": ALICE, "--root": "depot:d1", **change}
    url = given.pop("url", "http://127.0.0.1:1/")
    said = call("authorizer", "check", url, *(part for pair in given.items() for part in pair))

    assert said.exit_code != 0
    assert why in said.text
