"""Payloads are cut out of a body as their sender wrote them."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from beaconfire_publisher.raw_payloads import raw_payloads


def test_payload_of_an_event_is_cut_out_as_it_was_written() -> None:
    payload = '{ "a": 1.50, "b":[1e2, -0.0],\n "payload": {"c": "\\u00e9\\"}, {"} }'
    event = f' {{"type": "x" , "payload" : {payload}\t, "metadata": {{}}}} '

    assert raw_payloads(event) == [payload]


def test_each_event_of_a_list_has_its_payload_and_whatever_has_none_has_none() -> None:
    body = '[ {"payload": {"n": 1.0}}, 7, "payload", null, [{"payload": 1}], {}, {"payload":[]} ,{"x": {"payload": 2}}]'

    assert raw_payloads(body) == ['{"n": 1.0}', None, None, None, None, None, "[]", None]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9) | st.just("payload"), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.lists(JSON, max_size=5), st.sampled_from([None, 0, 2, "\t", "\r\n"]), st.booleans())
def test_payloads_of_any_list_are_those_that_a_parser_finds(items: list[Any], indent: Any, is_ascii: bool) -> None:
    found = raw_payloads(json.dumps(items, indent=indent, ensure_ascii=is_ascii))

    has_payload = [isinstance(item, dict) and "payload" in item for item in items]
    assert [text is not None for text in found] == has_payload
    for text, item in zip(found, items, strict=True):
        assert text is None or json.loads(text) == item["payload"]
