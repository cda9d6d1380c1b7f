"""Call our own HTTP interfaces from the command line. Errors are sentences that can be shown."""

import http.client
import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 15.0
MAX_ANSWER_BYTES = 64 * 1024 * 1024


class ApiError(Exception):
    """The call was refused, or there was no answer (`status` 0). The text may be shown."""

    def __init__(self, status: int, code: str, message: str, *, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_ms = retry_after_ms


def call(method: str, url: str, body: Mapping[str, Any] | None = None, *, token: str | None = None) -> dict[str, Any]:
    """Call an HTTP interface of ours. Return the JSON object of the answer. Raises ApiError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ApiError(0, "bad_url", f"{url!r} is not an http:// or https:// URL")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=TIMEOUT_S)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        content = _content(answer)
    except (OSError, http.client.HTTPException) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise ApiError(0, "unreachable", f"{parts.scheme}://{parts.netloc} does not answer: {why}") from None
    finally:
        connection.close()
    return _read(answer.status, content)


def _content(answer: http.client.HTTPResponse) -> bytes:
    """Read the body of the answer. Raises OSError if it is too large or not complete within `TIMEOUT_S`."""
    deadline, content = time.monotonic() + TIMEOUT_S, bytearray()
    while piece := answer.read1(64 * 1024):
        content += piece
        if len(content) > MAX_ANSWER_BYTES:
            raise OSError(f"the answer has more than {MAX_ANSWER_BYTES} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError(f"the answer was not complete within {TIMEOUT_S:.0f} s")
    return bytes(content)


def _read(status: int, content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content) if content else {}
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ApiError(status, "no_json", f"the answer ({status}) is not a JSON object: is this a Beaconfire service?")
    if status >= 400:
        error = document.get("error") or {}
        code, message = str(error.get("code", "")), str(error.get("message", f"refused with {status}"))
        raise ApiError(status, code, message, retry_after_ms=error.get("retryAfterMs"))
    return document
