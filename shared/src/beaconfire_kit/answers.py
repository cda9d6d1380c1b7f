"""Read and write the parts of requests and answers outside their bodies: revisions, conflicts, idempotency keys."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.idempotency import Key, key_of_request
from beaconfire_kit.inbox import digest
from beaconfire_kit.models import Body
from beaconfire_kit.store import Changed, Row
from beaconfire_kit.web import json_answer

KEY_HEADER = "Idempotency-Key"

_REVISION = re.compile(r'(?:W/)?"([0-9]{1,15})"')
_KEY = re.compile(r"[!-~]{1,128}")


def tag(row: Row) -> dict[str, str]:
    """Return the header with the revision of a thing."""
    return {"ETag": f'"{row["revision"]}"'}


def answer(body: dict[str, Any], headers: Mapping[str, str], *, status: int = 200) -> web.Response:
    """Return an answer with these headers."""
    response = json_answer(body, status=status)
    response.headers.update(headers)
    return response


def based_on(request: web.Request) -> int | None:
    """Return the revision in `If-Match`, or None if it allows any. Raises BeaconfireError `bad_request`.

    A tag that a compressing proxy made weak (`W/`) counts: a revision does not depend on the encoding.
    """
    text = ", ".join(request.headers.getall("If-Match", ["*"])).strip()
    if text == "*":
        return None
    match = _REVISION.fullmatch(text)
    if match is None:
        raise BeaconfireError(errors.BAD_REQUEST, f'If-Match: expected a revision like "3", got {text[:80]}')
    return int(match[1])


def idempotency_key(request: web.Request, caller: str, body: Body | object, *, kind: str = "user") -> Key | None:
    """Return the `Idempotency-Key` of a request with this body, or None. Raises BeaconfireError `bad_request`.

    `caller` is the name of a user, or of a service if `kind` is `service`. Callers cannot see or use the keys of
    others.
    """
    if KEY_HEADER not in request.headers:
        return None
    text = ", ".join(request.headers.getall(KEY_HEADER))
    if not _KEY.fullmatch(text):
        raise BeaconfireError(errors.BAD_REQUEST, f"{KEY_HEADER}: expected 1 to 128 visible ASCII characters")
    said = body.model_dump(mode="json", exclude_unset=True) if isinstance(body, Body) else body
    before = digest(caller, request.path, text)[:32]
    scope = f"{kind}:{caller}"
    return key_of_request(scope, text, method=request.method, path=request.path, body=said, before=before)


@contextmanager
def conflicts(show: Callable[[Row], object]) -> Iterator[None]:
    """Answer a change that came too late with 409, the conflicting fields, and the current thing."""
    try:
        yield
    except Changed as error:
        names = ", ".join(error.fields[:5]) or "the thing"
        raise BeaconfireError(
            errors.CONFLICT,
            f"{names} changed since the revision you started from; it is at {error.row['revision']} now",
            details={"conflicts": list(error.fields), "current": show(error.row)},
        ) from None
