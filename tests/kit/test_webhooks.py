"""Requests are signed as Standard Webhooks has it."""

import base64
import time

import pytest

from beaconfire_kit import webhooks
from beaconfire_kit.secret_files import Secret
from beaconfire_kit.webhooks import ID, SIGNATURE, TIMESTAMP, InvalidSignature

SECRET, OTHER, BODY = Secret(b"s" * 32), Secret(b"o" * 32), b'{"a": 1}'


def signed(*secrets: Secret, off_s: int = 0) -> dict[str, str]:
    return webhooks.sign(secrets or (SECRET,), BODY, message_id="msg_1", timestamp=int(time.time()) + off_s)


def test_signature_of_the_specifications_reference_libraries_is_made() -> None:
    """The vector of the reference implementation's tests: id, time, body and secret are theirs."""
    secret = Secret(base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
    headers = webhooks.sign(
        [secret], b'{"test": 2432232314}', message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=1614265330
    )

    assert headers[SIGNATURE] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_request_is_verified_with_either_secret_and_either_signature() -> None:
    for given, known in (((SECRET,), (OTHER, SECRET)), ((OTHER, SECRET), (SECRET,))):
        webhooks.verify(known, signed(*given), BODY)


@pytest.mark.parametrize(
    "change",
    [
        {ID: "msg_2"},
        {ID: ""},
        {ID: "msg.1"},
        {TIMESTAMP: "1"},
        {TIMESTAMP: ""},
        {TIMESTAMP: "soon"},
        {TIMESTAMP: "-1"},
        {TIMESTAMP: "9" * 40},
        {SIGNATURE: ""},
        {SIGNATURE: "v1,"},
        {SIGNATURE: "v1,\udcff"},
        {SIGNATURE: "v1a,AAAA"},
    ],
)
def test_request_with_a_changed_header_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(InvalidSignature):
        webhooks.verify([SECRET], {**signed(), **change}, BODY)


def test_request_with_another_body_secret_or_time_is_refused() -> None:
    for headers, body in ((signed(), BODY + b" "), (signed(OTHER), BODY), (signed(off_s=-301), BODY)):
        with pytest.raises(InvalidSignature):
            webhooks.verify([SECRET], headers, body)
