"""The answers to requests of the Engine.IO protocol, whichever process gives them."""

import json
from typing import NamedTuple

from aiohttp import hdrs, web


class Answer(NamedTuple):
    """A status and a body. A relayed answer travels between gateway processes as bytes."""

    status: int
    body: bytes

    def encode(self) -> bytes:
        return b"%d %s" % (self.status, self.body)

    @classmethod
    def decode(cls, data: bytes) -> "Answer":
        status, _, body = data.partition(b" ")
        return cls(int(status), body)

    def response(self) -> web.Response:
        """Return it as an answer of aiohttp's."""
        kind = "text/plain" if self.status == web.HTTPOk.status_code else "application/json"
        headers = {hdrs.CACHE_CONTROL: "no-store"}
        return web.Response(status=self.status, body=self.body, content_type=kind, charset="utf-8", headers=headers)


def _refusal(status: int, code: int, message: str) -> Answer:
    return Answer(status, json.dumps({"code": code, "message": message}).encode())


OK = Answer(200, b"ok")
UNKNOWN_TRANSPORT = _refusal(400, 0, "Transport unknown")
UNKNOWN_SID = _refusal(400, 1, "Session ID unknown")
"""The client connects again. Also if the process that has its session cannot be asked."""
BAD_METHOD = _refusal(400, 2, "Bad handshake method")
BAD_REQUEST = _refusal(400, 3, "Bad request")
FORBIDDEN = _refusal(403, 4, "Forbidden")
UNSUPPORTED_VERSION = _refusal(400, 5, "Unsupported protocol version")
TOO_LARGE = _refusal(413, 3, "Payload too large")
TOO_MANY = _refusal(429, 3, "Too many requests")
