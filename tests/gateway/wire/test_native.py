"""Whatever a client sends is a message, or is refused with an error."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from beaconfire_gateway.fanout.wanted_types import select
from beaconfire_gateway.wire.messages import Error, InvalidMessage
from beaconfire_gateway.wire.native import Native
from beaconfire_kit.errors import BeaconfireError
from tests.gateway.catalogues import BUILTIN
from tests.gateway.wire.any_json import JSON, PATIENT

NATIVE = Native()
FIELDS = ("token", "rooms", "types", "cursor", "client", "lastClose", "awayMs", "replaces", "status", "room")
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["connect", "subscribe", "unsubscribe", "refresh", "ping", "presence"]) | JSON,
        "id": st.integers() | st.text(max_size=70) | JSON,
        **dict.fromkeys(FIELDS, JSON),
    },
)


def outcome(text: bytes) -> Any:
    """The message, or its refusal, which must be one that can be sent: a frame of JSON that every client reads."""
    try:
        return NATIVE.decode(text)
    except InvalidMessage as problem:
        frame = json.loads(NATIVE.encode(Error(problem.message_id, problem)), parse_constant=pytest.fail)
        assert frame["code"] in ("bad_request", "unknown_type")
        assert frame["message"]
        return problem


@PATIENT
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(text: bytes) -> None:
    assert isinstance(outcome(text), InvalidMessage)


@PATIENT
@given(MESSAGES)
def test_any_json_is_a_message_or_is_refused_with_its_id(message: dict[str, Any]) -> None:
    found = outcome(json.dumps(message).encode())

    sent = message.get("id")
    if not isinstance(found, InvalidMessage):
        assert found.id == sent
        assert message["type"] == found.TYPE
    elif isinstance(sent, str):
        assert found.message_id == sent[:64]
    elif isinstance(sent, int) and not isinstance(sent, bool):
        assert found.message_id == sent


@PATIENT
@given(MESSAGES, st.data())
def test_cut_off_message_is_refused(message: dict[str, Any], data: st.DataObject) -> None:
    text = json.dumps(message).encode()
    cut = text[: data.draw(st.integers(0, len(text) - 1))]

    assert isinstance(outcome(cut), InvalidMessage)


@PATIENT
@given(st.lists(st.text(max_size=64) | st.sampled_from(sorted(BUILTIN.types)), min_size=1, max_size=20))
def test_type_names_are_those_of_the_catalogue_or_refused_with_advice(names: list[str]) -> None:
    unknown = [name for name in names if name not in BUILTIN.types]
    if not unknown:
        assert select(names, BUILTIN) == frozenset(names)
        return
    with pytest.raises(BeaconfireError) as refused:
        select(names, BUILTIN)

    assert repr(unknown[0]) in refused.value.message
    assert re.search("did you mean|there are access_revoked", refused.value.message)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "subscribe", "rooms": [1] * 5_000},
        {"type": "subscribe", "rooms": [], "types": [1] * 5_000},
        {"type": "connect", "rooms": ["campaign:c1"], "types": {"campaign:c1": [1] * 5_000}},
        {"type": "select", "room": "campaign:c1", "items": [1] * 5_000},
    ],
    ids=lambda message: "-".join(message),
)
def test_list_of_thousands_of_wrong_items_is_refused_at_the_first(message: dict[str, Any]) -> None:
    """An error for each would keep a gateway busy for tens of milliseconds."""
    with pytest.raises(InvalidMessage) as refused:
        Native().decode(json.dumps({"id": 1, **message}).encode())
    problem = refused.value.__context__

    assert isinstance(problem, ValidationError)
    assert problem.error_count() <= 2
