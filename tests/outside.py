"""An outside identity provider with a JWKS, on a port of its own."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa


@dataclass
class Outside:
    """An outside identity provider."""

    keys: dict[str, rsa.RSAPrivateKey] = field(default_factory=dict)
    url: str = ""

    def add_key(self, kid: str) -> None:
        self.keys[kid] = rsa.generate_private_key(65537, 2048)

    async def jwks(self, _request: web.Request) -> web.Response:
        public = (
            jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "use": "sig"}
            for kid, key in self.keys.items()
        )
        return web.json_response({"keys": list(public)})

    def token(self, user: str, *, kid: str = "o1", alg: str = "RS256", key: Any = None, **change: Any) -> str:
        now = int(time.time())
        claims = {"iss": "https://id.example", "aud": ["beaconfire"], "uid": user, "iat": now, "exp": now + 600}
        signing = key if key is not None else self.keys.get(kid, self.keys["o1"])
        return jwt.encode({**claims, **change}, signing, algorithm=alg, headers={"kid": kid})

    def settings(self) -> dict[str, Any]:
        issuer = {
            "name": "acme",
            "issuer": "https://id.example",
            "jwksUrl": self.url,
            "audience": "beaconfire",
            "userClaim": "uid",
        }
        return {"outside_issuers": [issuer]}


@asynccontextmanager
async def running_outside() -> AsyncIterator[Outside]:
    outside, app = Outside(), web.Application()
    outside.add_key("o1")
    app.router.add_get("/keys", outside.jwks)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    outside.url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    try:
        yield outside
    finally:
        await runner.cleanup()
