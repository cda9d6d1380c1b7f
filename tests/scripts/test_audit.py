"""The audit fails on a finding, and says loudly when it cannot be made."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from beaconfire.nats_server import free_port
from scripts.audit import LOCK, judged, locked, unreachable
from tests.architecture.sources import PROJECTS

FINDING = {"id": "PYSEC-1", "aliases": ["CVE-2026-1"], "fix_versions": ["3.14.3"], "description": "smuggling"}


def test_vulnerable_package_is_named_with_the_version_that_fixes_it() -> None:
    report = {
        "dependencies": [
            {"name": "aiohttp", "version": "3.14.0", "vulns": [FINDING]},
            {"name": "yarl", "version": "1.25.1", "vulns": []},
        ]
    }

    (line,), unknown = judged(report)

    assert "aiohttp 3.14.0: PYSEC-1 (CVE-2026-1), fixed in 3.14.3" in line
    assert unknown == []


def test_packages_that_pip_audit_skips_do_not_count_as_clean() -> None:
    report = {"dependencies": [{"name": "yarl", "skip_reason": "Dependency not found on PyPI"}]}

    assert judged(report) == ([], ["yarl"])


def test_every_locked_package_of_a_registry_is_audited_at_its_version() -> None:
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
async def test_availability_of_advisories_is_checked(status: int, body: str, why_not: str | None) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status, text=body)

    app = web.Application()
    app.router.add_get("/", answer)
    async with TestServer(app) as server:
        found = await asyncio.to_thread(unreachable, str(server.make_url("/")))

    assert found is None if why_not is None else why_not in str(found)


def test_audit_without_a_connection_says_so() -> None:
    assert "does not answer" in str(unreachable(f"http://127.0.0.1:{free_port()}/"))
