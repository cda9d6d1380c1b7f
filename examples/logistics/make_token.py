"""Sign an access token, as the logistics product does for its users. It needs nothing besides Python.

    python3 make_token.py USER [DEPOT=ROLE …]

The token says who the user is, and in which depots they have a role. Anybody who knows the secret can sign tokens, so
it stays on the server.
"""

import base64
import hashlib
import hmac
import json
import sys
import time
from pathlib import Path

LIFETIME_S = 900


def part(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def token(user: str, grants: dict[str, str]) -> str:
    now = int(time.time())
    claims = {
        "iss": "https://logistics.example",
        "aud": "beaconfire",
        "sub": user,
        "iat": now,
        "exp": now + LIFETIME_S,
        "beaconfire": grants,
    }
    header = {"alg": "HS256", "typ": "JWT"}
    signed = b".".join(part(json.dumps(one).encode()) for one in (header, claims))
    secret = Path("secret").read_bytes().strip()
    signature = hmac.new(secret, signed, hashlib.sha256).digest()
    return f"{signed.decode()}.{part(signature).decode()}"


if __name__ == "__main__":
    depots = dict(one.split("=", 1) for one in sys.argv[2:])
    print(token(sys.argv[1], {f"depot:{depot}": role for depot, role in depots.items()}))
