"""Only real differences count as a change of a document."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beaconfire_kit.changes import merge

VALUES = st.one_of(st.booleans(), st.integers(-2, 2), st.sampled_from([0.0, 1.0, 0.5, "", "a"]))
VARIABLES = st.dictionaries(st.sampled_from("abcd"), VALUES)
CHANGES = st.dictionaries(st.sampled_from("abcd"), st.none() | VALUES)


@pytest.mark.parametrize(
    ("current", "wanted", "values", "fields"),
    [
        ({}, {"name": "a", "variables": {"b": 1}}, {"name": "a", "variables": {"b": 1}}, ("name", "variables.b")),
        ({"level": 1}, {"level": 1}, {}, ()),
        ({"level": 1}, {"level": 2}, {"level": 2}, ("level",)),
        ({"world_time": 1}, {"world_time": 2}, {"world_time": 2}, ("worldTime",)),
        ({"data": {"a": 1, "b": 2}}, {"data": {"a": None}}, {"data": {"b": 2}}, ("data.a",)),
        ({"data": {"a": 1}}, {"data": {"a": True}}, {"data": {"a": True}}, ("data.a",)),
        ({"data": {"a": 1}}, {"data": {"a": 1.0}}, {"data": {"a": 1.0}}, ()),
    ],
)
def test_merge_keeps_only_differences_and_distinguishes_1_from_true(
    current: Any, wanted: Any, values: Any, fields: Any
) -> None:
    """1 and 1.0 are the same JSON number."""
    merged = merge(current, wanted)

    assert merged == (values, fields)


@given(VARIABLES, CHANGES)
def test_merging_the_same_change_again_changes_nothing_and_keeps_unnamed_keys(
    current: dict[str, Any], wanted: dict[str, Any]
) -> None:
    values, fields = merge({"data": current}, {"data": wanted})
    after = values["data"]

    assert merge({"data": after}, {"data": wanted})[1] == ()
    assert {key: after.get(key) for key in "abcd" if f"data.{key}" not in fields} == {
        key: current.get(key) for key in "abcd" if f"data.{key}" not in fields
    }
    assert None not in after.values()
