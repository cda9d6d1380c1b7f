"""scripts.audit: a finding is red, an audit that cannot be made is loud."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from beaconfire.nats_server import free_port
from scripts.audit import LOCK, judged, locked, unreachable
from tests.architecture.sources import PROJECTS

FINDING = {"id": "PYSEC-1", "aliases": ["CVE-2026-1"], "fix_versions": ["3.14.3"], "description": "smuggling"}


def test_finding() -> None:
    """A vulnerable package is named, with what fixes it."""
    report = {
        "dependencies": [
            {"name": "aiohttp", "version": "3.14.0", "vulns": [FINDING]},
            {"name": "yarl", "version": "1.25.1", "vulns": []},
        ]
    }

    (line,), unknown = judged(report)

    assert "aiohttp 3.14.0: PYSEC-1 (CVE-2026-1), fixed in 3.14.3" in line
    assert unknown == []


def test_unknown_packages_are_not_clean() -> None:
    """What pip-audit skips was not found clean."""
    report = {"dependencies": [{"name": "yarl", "skip_reason": "Dependency not found on PyPI"}]}

    assert judged(report) == ([], ["yarl"])


def test_everything_locked_is_audited() -> None:
    """Every package of a registry in the lock file is asked about, at its version; our own packages are not."""
    names = {one.partition("==")[0] for one in locked(LOCK)}

    assert {"aiohttp", "pyjwt", "nats-py", "sqlalchemy", "asyncpg"} <= names
    assert not {name for name in names if name.startswith("beaconfire")}
    assert LOCK.read_text().count("\n[[package]]\n") == len(locked(LOCK)) + len(PROJECTS)


@pytest.mark.parametrize(
    ("status", "body", "why_not"),
    [
        (200, '{"vulnerabilities": []}', None),
        (404, "", "404"),
        (200, "<html>", "Expecting value"),
        (200, "{}", "no adv"),
    ],
)
async def test_advisories(status: int, body: str, why_not: str | None) -> None:
    """Whether there are advisories to ask is found out, and not guessed."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status, text=body)

    app = web.Application()
    app.router.add_get("/", answer)
    async with TestServer(app) as server:
        found = await asyncio.to_thread(unreachable, str(server.make_url("/")))

    assert found is None if why_not is None else why_not in str(found)


def test_nobody_listens() -> None:
    """No connection is a reason, too."""
    assert "does not answer" in str(unreachable(f"http://127.0.0.1:{free_port()}/"))
