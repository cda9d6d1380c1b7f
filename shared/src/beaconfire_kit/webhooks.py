"""Sign and verify requests as Standard Webhooks 1.0 has it (https://www.standardwebhooks.com).

    headers = sign([secret], body, message_id="msg_5f3a", timestamp=1796030000)
    verify([secret], headers, body)                            # raises InvalidSignature

The HMAC-SHA256 covers `{webhook-id}.{webhook-timestamp}.{body}`, so neither can be changed, and an old request cannot
be sent again. While a secret is changed, a request carries a signature of each.
"""

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Mapping, Sequence

from beaconfire_kit.secret_files import Secret

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
TOLERANCE_S = 300


class InvalidSignature(ValueError):
    """The request was not signed with the secret, or not just now. The text says what is wrong."""


def sign(secrets: Sequence[Secret], body: bytes, *, message_id: str, timestamp: int) -> dict[str, str]:
    """Return the headers of a request with this body. `message_id` must not contain a dot."""
    signatures = " ".join(f"v1,{_signature(secret, message_id, str(timestamp), body)}" for secret in secrets)
    return {ID: message_id, TIMESTAMP: str(timestamp), SIGNATURE: signatures}


def verify(secrets: Sequence[Secret], headers: Mapping[str, str], body: bytes, *, now: float | None = None) -> None:
    """Check a request's headers. `headers` is read by lower-case names. Raises InvalidSignature."""
    message_id, timestamp = headers.get(ID, ""), headers.get(TIMESTAMP, "")
    if not message_id or "." in message_id or not re.fullmatch(r"[0-9]{1,12}", timestamp):
        raise InvalidSignature(f"{ID} or {TIMESTAMP} is missing or malformed")
    if abs((time.time() if now is None else now) - int(timestamp)) > TOLERANCE_S:
        raise InvalidSignature(f"{TIMESTAMP} is more than {TOLERANCE_S} s away from the time here")
    wanted = [_signature(secret, message_id, timestamp, body).encode() for secret in secrets]
    for one in headers.get(SIGNATURE, "").split(" ")[:10]:
        version, _, signature = one.partition(",")
        given = signature.encode(errors="surrogateescape")
        if version == "v1" and any(hmac.compare_digest(given, right) for right in wanted):
            return
    raise InvalidSignature(f"{SIGNATURE} is not that of this body")


def _signature(secret: Secret, message_id: str, timestamp: str, body: bytes) -> str:
    signed = f"{message_id}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.new(secret.value, signed, hashlib.sha256).digest()).decode()
