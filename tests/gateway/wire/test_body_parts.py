"""The parts of a publisher's JSON, byte for byte."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beaconfire_gateway.wire.body_parts import parts_of, payload_of

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=10), VALUES, max_size=6), st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_each_part_is_the_value_as_it_was_written(
    body: dict[str, object], is_ascii: bool, indent: int | str | None
) -> None:
    """Whatever its white space and its characters are."""
    written = json.dumps(body, ensure_ascii=is_ascii, indent=indent).encode(errors="surrogatepass")

    assert [json.loads(part) for part in parts_of(written).values()] == list(body.values())


@pytest.mark.parametrize(
    "body",
    [
        b'{"id":"e1","type":"t","version":1,"payload":%b,"metadata":{}}',
        b'{"payload":%b,"metadata":{"payload":{}}}',
        b'{"metadata":{"payload":{"x":1}},"more":{"payload":2},"payload":%b}',
        b'{"id":"a\\"payload\\":{","payload":%b}',
        b' { "id" : "e1" , "payload" : %b , "metadata" : { } } ',
    ],
)
@pytest.mark.parametrize(
    "payload", [b"{}", b'{"n": 1.0, "big":123456789012345678901234567890}', b'{"a":"}\\"{","\xc3\xa4":[{}]}']
)
def test_payload_is_found_wherever_it_stands(body: bytes, payload: bytes) -> None:
    """Not one that is deeper inside, or in a string."""
    assert payload_of(body % payload) == payload
