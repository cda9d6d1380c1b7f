"""The audit fails on a finding, and says loudly when it cannot be made."""

import asyncio
from datetime import date, timedelta

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from beaconfire.nats_server import free_port
from scripts.audit import LOCK, Audit, judged, locked, reported, unreachable
from scripts.audits import go_programs, lock_dates, npm_packages
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


FLAW = go_programs.Finding("nats-server", "GO-2026-1", "stdlib", "v1.27.2", "v1.27.3")
TODAY = date(2026, 11, 30)


@pytest.mark.parametrize(
    ("found", "ids", "until", "lines", "ended"),
    [
        ({FLAW}, [], TODAY, ["nats-server: GO-2026-1 in stdlib v1.27.2, fixed in v1.27.3"], 0),
        ({FLAW}, ["GO-2026-1"], TODAY, [], 0),
        ({FLAW}, ["GO-2026-1"], TODAY - timedelta(days=1), [], 1),
        (set(), ["GO-2026-1"], TODAY, ["nats-server: GO-2026-1 is accepted and not found: delete it"], 0),
    ],
    ids=["found", "accepted", "accepted until yesterday", "gone"],
)
def test_vulnerability_of_a_go_program_is_named_unless_it_is_accepted(
    found: set[go_programs.Finding], ids: list[str], until: date, lines: list[str], ended: int
) -> None:
    accepted = [{"program": "nats-server", "ids": ids, "until": until}]

    named, due = go_programs.judged(found, accepted, TODAY)

    assert (named, len(due)) == (lines, ended)
    assert all("It was accepted until 2026-11-29: fix it, or renew scripts/vulnerabilities" in line for line in due)


@pytest.mark.parametrize(
    ("audit", "codes"),
    [
        (Audit("Go programs"), (0, 0)),
        (Audit("Go programs", findings=["nats-server: GO-2026-1"]), (1, 1)),
        (Audit("Go programs", later=["accepted until yesterday"]), (0, 1)),
        (Audit("npm packages", why_not="405\nMethod Not Allowed"), (0, 0)),
    ],
    ids=["nothing", "by the commit", "by the calendar", "not audited"],
)
def test_check_fails_by_the_commit_alone_and_the_audit_by_the_calendar_too(
    audit: Audit, codes: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Both say loudly what was found, and in one last line what was audited."""
    assert (reported([audit], False), reported([audit], True)) == codes
    said = capsys.readouterr().err.splitlines()

    assert said[-1] == f"{audit}."
    assert all("ERROR" in line or "WARNING, AND make audit FAILS" in line for line in said if line != f"{audit}.")
    if audit.why_not:
        assert said == ["npm packages NOT AUDITED (405 Method Not Allowed)."] * 2


def test_vulnerable_npm_package_is_named_and_a_registry_without_advisories_too() -> None:
    (line,) = npm_packages.judged("clients/js", {"vulnerabilities": {"esbuild": {"range": "<1", "severity": "high"}}})

    assert "clients/js: esbuild <1 (high)" in line
    with pytest.raises(npm_packages.CannotAudit, match="405"):
        npm_packages.judged("clients/js", {"message": "405 Method Not Allowed"})


@pytest.mark.parametrize(
    ("locked_days", "out_days", "is_behind"), [(181, 31, True), (180, 31, False), (181, 30, False)]
)
def test_old_release_is_behind_once_a_newer_one_has_been_out_for_a_month(
    locked_days: int, out_days: int, is_behind: bool
) -> None:
    locked_release = {"yarl": lock_dates.Release("1.0", TODAY - timedelta(days=locked_days))}
    newest = {"yarl": lock_dates.Release("1.1", TODAY - timedelta(days=out_days))}

    assert bool(lock_dates.judged(locked_release, newest, TODAY)) == is_behind
    assert lock_dates.judged(locked_release, locked_release, TODAY) == []


def test_lock_file_has_the_day_of_every_release() -> None:
    assert lock_dates.releases(LOCK).keys() == {one.partition("==")[0] for one in locked(LOCK)}
