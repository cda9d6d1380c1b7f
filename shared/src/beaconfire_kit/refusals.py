"""Count and log refused tokens, so that an operator learns why, and a flood of bad tokens does not fill the log.

The line never contains the token. Its fields are the issuer's name (ours), the reason, and the `kid` and `alg` that the
token claims. Of equal issuer and reason it comes once in `EVERY_S` seconds, with how many came in between.
"""

import time
from collections.abc import Callable

from beaconfire_kit import logs, metrics, tokens
from beaconfire_kit.tokens import InvalidToken

log = logs.get(__name__)

REFUSED = metrics.Counter("beaconfire_tokens_refused_total", "Tokens that were refused, by reason.", ["reason"])
EVERY_S = 10.0
OWN = "beaconfire"
"""Stands in the log for auth, which has no name among the outside issuers."""


class Refusals:
    """What was refused in this process. Issuers and reasons are few, so it stays small."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._quiet = logs.Seldom(every_s=EVERY_S, monotonic=monotonic)

    def report(self, error: InvalidToken, token: str) -> None:
        """Count a refused token, and log it unless the same was logged just now."""
        REFUSED.labels(error.reason).inc()
        kind = error.issuer or OWN, error.reason
        left_out = self._quiet.passes(kind)
        if left_out is None:
            return
        try:
            seen = tokens.peek(token)
        except InvalidToken:
            seen = tokens.Peek("", "", "", "")
        log.info(
            "refused token",
            issuer=kind[0],
            reason=error.reason,
            detail=str(error)[:200],
            kid=seen.key_id[:80] or None,
            alg=seen.algorithm[:20] or None,
            left_out_count=left_out,
        )


_refusals = Refusals()


def report(error: InvalidToken, token: str) -> None:
    """Report a token that this process refused; see `Refusals.report`."""
    _refusals.report(error, token)
