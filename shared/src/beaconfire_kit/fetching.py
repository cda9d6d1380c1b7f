"""Make HTTP requests, and limit their answers in bytes and in time.

body = await fetch(http, "https://id.example/jwks.json", max_bytes=256 * 1024, timeout_s=2.0)
"""

import asyncio
import zlib
from collections.abc import Mapping
from typing import NamedTuple

import aiohttp
from aiohttp import hdrs

_IDENTITY = ("", "identity")
_DEFLATED = ("gzip", "x-gzip", "deflate")
_EITHER_HEADER = 32 + zlib.MAX_WBITS  # zlib detects gzip and zlib headers


class FetchFailed(Exception):
    """No complete answer arrived. The text contains the reason, but no part of the answer's body."""


class Answer(NamedTuple):
    """A complete HTTP answer."""

    status: int
    body: bytes
    date: str = ""
    """The time of the server's clock, as its header `Date` has it."""


async def fetch(http: aiohttp.ClientSession, url: str, *, max_bytes: int, timeout_s: float) -> bytes:
    """Return the body of a 200 answer. Raises FetchFailed as `ask` does, and for any other status."""
    answer = await ask(http, url, max_bytes=max_bytes, timeout_s=timeout_s)
    if answer.status != 200:
        raise FetchFailed(f"the answer has status {answer.status}")
    return answer.body


async def ask(http: aiohttp.ClientSession, url: str, *, max_bytes: int, timeout_s: float) -> Answer:
    """Return the unpacked answer to a GET. Raises FetchFailed if it is too large, too slow, cut off, or missing.

    `max_bytes` limits both the packed and the unpacked answer: no byte beyond it is read or unpacked. `timeout_s`
    limits the whole request. Redirects are not followed.
    """
    return await _ask(http, hdrs.METH_GET, url, None, {}, max_bytes=max_bytes, timeout_s=timeout_s)


async def post(
    http: aiohttp.ClientSession, url: str, body: str, *, headers: Mapping[str, str], max_bytes: int, timeout_s: float
) -> Answer:
    """Return the answer to a POST with this body. Raises as `ask` does."""
    return await _ask(http, hdrs.METH_POST, url, body, headers, max_bytes=max_bytes, timeout_s=timeout_s)


async def _ask(
    http: aiohttp.ClientSession,
    method: str,
    url: str,
    body: str | None,
    headers: Mapping[str, str],
    *,
    max_bytes: int,
    timeout_s: float,
) -> Answer:
    try:
        async with (
            asyncio.timeout(timeout_s),
            http.request(
                method,
                url,
                data=body,
                headers={**headers, hdrs.ACCEPT_ENCODING: "identity"},
                allow_redirects=False,
                auto_decompress=False,  # aiohttp would unpack a bomb before we could count its bytes
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as answer,
        ):
            content = await _read(answer.content, max_bytes)
            encoding = answer.headers.get(hdrs.CONTENT_ENCODING, "").strip().lower()
    except TimeoutError:
        raise FetchFailed(f"no whole answer within {timeout_s:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise FetchFailed(f"no answer: {error or type(error).__name__}") from error
    return Answer(answer.status, _unpacked(content, encoding, max_bytes), answer.headers.get(hdrs.DATE, ""))


async def _read(content: aiohttp.StreamReader, max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            raise FetchFailed(f"the answer has more than {max_bytes} bytes")
    return bytes(body)


def _unpacked(body: bytes, encoding: str, max_bytes: int) -> bytes:
    if encoding in _IDENTITY:
        return body
    if encoding not in _DEFLATED:
        raise FetchFailed(f"the answer has an encoding that was not asked for: {encoding[:40]!r}")
    unpacker = zlib.decompressobj(_EITHER_HEADER)
    try:
        unpacked = unpacker.decompress(body, max_bytes + 1)
    except zlib.error:
        raise FetchFailed("the answer cannot be unpacked") from None
    if len(unpacked) > max_bytes:
        raise FetchFailed(f"the answer unpacks to more than {max_bytes} bytes")
    if not unpacker.eof:
        raise FetchFailed("the answer is cut off")
    return unpacked
