"""Refused tokens are counted by reason, and logged without the token and not without end."""

from structlog.testing import capture_logs

from beaconfire_kit.refusals import EVERY_S, REFUSED, Refusals
from beaconfire_kit.tokens import InvalidToken
from tests.issuers import SIGNERS


def test_refusal_is_logged_with_issuer_reason_kid_and_alg_and_without_the_token() -> None:
    token = SIGNERS["ES256"].token({"kid": "k9" * 100}, {"note": "canary"})
    before = REFUSED.labels("bad_signature")._value.get()
    with capture_logs() as logged:
        Refusals().report(InvalidToken("no", "bad_signature", issuer="acme"), token)

    (line,) = logged
    assert (line["event"], line["issuer"], line["reason"], line["alg"]) == (
        "refused token",
        "acme",
        "bad_signature",
        "ES256",
    )
    assert line["kid"] == ("k9" * 100)[:80]
    assert token not in str(line)
    assert REFUSED.labels("bad_signature")._value.get() - before == 1


def test_flood_of_refusals_is_one_line_of_each_kind_in_ten_seconds_with_the_number_left_out() -> None:
    now = 0.0
    refusals = Refusals(monotonic=lambda: now)
    with capture_logs() as logged:
        for _ in range(1_000):
            refusals.report(InvalidToken("no", "expired", issuer="acme"), "no token")
            refusals.report(InvalidToken("no", "expired"), "no token")
            refusals.report(InvalidToken("no", "malformed"), "no token")
        now += EVERY_S
        refusals.report(InvalidToken("no", "expired", issuer="acme"), "no token")

    assert [(line["issuer"], line["reason"], line["left_out_count"]) for line in logged] == [
        ("acme", "expired", 0),
        ("beaconfire", "expired", 0),
        ("beaconfire", "malformed", 0),
        ("acme", "expired", 999),
    ]
