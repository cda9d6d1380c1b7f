"""T33: who may use the admin page. It runs without any other service, because it refuses before it asks one."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from tests.admin_page import OPERATOR, READER, admin_page
from tests.security.raw_http import statuses

READS = ("me", "overview", "rooms", "sessions", "letters", "outboxes", "keys", "tail")
ACTS = ("sessions/s1/disconnect", "sessions/s1/reset-limits", "reset-limits?user=u1", "letters/replay", "letters/drop")
CALLS = [*(("GET", path) for path in READS), *(("POST", path) for path in ACTS)]


@pytest.fixture(name="page")
async def _page() -> AsyncIterator[str]:
    async with admin_page() as url:
        yield url


async def status(url: str, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    """Return the status of an answer, and the code of its error."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    call = f"{url}/api/v1/admin/{path}"
    async with aiohttp.ClientSession() as http, http.request(method, call, headers=named, json={}) as answer:
        said = await answer.json() if answer.content_type == "application/json" else {}
        return answer.status, said.get("error", {}).get("code", "")


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_every_call_needs_a_token_in_its_header_and_an_own_origin(page: str, method: str, path: str) -> None:
    right = f"Bearer {OPERATOR}"
    joint = "&" if "?" in path else "?"

    assert await status(page, path, method) == (401, "token_invalid")
    assert await status(page, path, method, Authorization="Bearer wrong") == (401, "token_invalid")
    assert await status(page, path, method, Authorization=f"Basic {OPERATOR}") == (401, "token_invalid")
    assert await status(page, f"{path}{joint}token={OPERATOR}", method) == (401, "token_invalid")
    assert await status(page, path, method, Cookie=f"token={OPERATOR}") == (401, "token_invalid")
    for origin in ("https://evil.example", f"{page}.evil.example", "null", ""):
        assert await status(page, path, method, Authorization=right, Origin=origin) == (403, "forbidden")


@pytest.mark.parametrize("path", ACTS)
async def test_read_token_looks_and_never_acts(page: str, path: str) -> None:
    read = f"Bearer {READER}"

    assert await status(page, path, "POST", Authorization=read) == (403, "forbidden")
    assert await status(page, "overview", Authorization=read, Origin=page) == (200, "")


async def test_wrong_tokens_of_an_address_are_limited_and_no_token_is_logged(page: str) -> None:
    with capture_logs() as lines:
        for number in range(10):
            await status(page, "me", Authorization=f"Bearer guess-{number}")
        limited = await status(page, "me", Authorization="Bearer guess-10")
        late = await status(page, "me", Authorization=f"Bearer {OPERATOR}")

    assert limited == late == (429, "too_many")
    assert [line["event"] for line in lines].count("refused an operator") == 10
    assert "guess" not in str(lines)
    assert OPERATOR not in str(lines)


@pytest.mark.parametrize(
    "path",
    [
        "/../settings.py",
        "/admin/../../settings.py",
        "/admin/%2e%2e/%2e%2e/app.py",
        "/..%2fapp.py",
        "/%00",
        "//etc/passwd",
    ],
)
async def test_files_outside_of_the_page_are_not_served(page: str, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()

    assert await statuses(page, request) in ([404, 200], [400])


async def test_page_is_served_with_a_policy_without_inline_scripts_and_may_not_be_framed(page: str) -> None:
    async with aiohttp.ClientSession() as http, http.get(f"{page}/") as answer:
        policy, text = answer.headers["Content-Security-Policy"], await answer.text()

    assert "script-src" not in policy  # so default-src counts
    assert policy.startswith("default-src 'self'; ")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "<script>" not in text
    assert OPERATOR not in text


async def test_page_does_not_start_without_a_token_or_with_one_for_both_roles() -> None:
    wrong: tuple[dict[str, Any], ...] = ({"operator_token": ""}, {"operator_read_token": OPERATOR})
    for settings in wrong:
        with pytest.raises(ValueError, match="TOKEN: is"):
            async with admin_page(**settings):
                pass
