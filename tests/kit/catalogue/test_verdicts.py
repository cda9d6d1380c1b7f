"""The check of the catalogue against the one before it, which read messages with event classes."""

import json

import pytest

from beaconfire_kit.catalogue import builtin
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.invalid_event import InvalidEvent
from tests.kit.catalogue.payloads import MESSAGES, OLD_VERDICTS, Message

CHANGED = {
    "integer written 3600.0": ("invalid", "valid"),
    "integer written 36e2": ("invalid", "valid"),
    "integer -0.0": ("invalid", "valid"),
    "integer beyond a double": ("valid", "not_json"),
    "unknown number beyond a double": ("valid", "not_json"),
    "key twice, hidden by a colon in escapes": ("valid", "not_json"),
    "201 nested lists": ("valid", "not_json"),
    "time with a space": ("valid", "invalid"),
    "time with a leap second": ("invalid", "valid"),
    "time with a zone without a colon": ("valid", "invalid"),
    "time with a comma": ("valid", "invalid"),
    "time in the year 0": ("invalid", "valid"),
}
"""The messages with another verdict than before: that one, and the one now. CHANGELOG lists what is behind them."""
CATALOGUE = Catalogue.of(1, builtin.fragments())
OLD: dict[str, str] = json.loads(OLD_VERDICTS.read_text())


def verdict(message: Message) -> str:
    try:
        CATALOGUE.check(message.subject, message.body)
    except InvalidEvent as error:
        return error.reason
    return "valid"


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.name)
def test_message_has_its_verdict(message: Message) -> None:
    assert verdict(message) == message.verdict


def test_differences_from_the_old_check_are_those_of_the_changelog() -> None:
    differ = {one.name: (OLD[one.name], one.verdict) for one in MESSAGES if OLD[one.name] != one.verdict}

    assert len(MESSAGES) == len(OLD) >= 60
    assert differ == CHANGED
