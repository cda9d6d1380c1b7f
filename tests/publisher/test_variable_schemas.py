"""Variables of settlements and structures are held to their schemas."""

import re
from typing import Any

import pytest

from beaconfire_kit.changes import merge
from beaconfire_publisher.variable_schemas import MAX_SCHEMA, check_schema
from tests.databases import on_both_databases
from tests.publisher.conftest import Publisher

FOOD = {"type": "integer", "minimum": 0, "maximum": 100}


@on_both_databases
@pytest.mark.parametrize("what", ["settlement", "structure"])
async def test_value_that_breaks_its_schema_is_refused_and_changes_nothing(publisher: Publisher, what: str) -> None:
    path = f"{publisher.campaign}/settlements"
    if what == "structure":
        path = f"{path}/{(await publisher.create('settlements', name='Emberford'))['id']}/structures"
    made = await publisher.editor.post(path, {"name": "X", "variables": {"food": 7}, "variableSchemas": {"food": FOOD}})
    one = f"{path}/{made.body[what]['id']}"

    refused = [
        await publisher.editor.patch(one, {"level": 3, "variables": {"food": -1}}),
        await publisher.editor.patch(one, {"variables": {"food": "much"}}),
        await publisher.editor.post(path, {"name": "Y", "variables": {"food": 101}, "variableSchemas": {"food": FOOD}}),
    ]
    other = await publisher.editor.patch(one, {"variables": {"mood": "fine", "food": 100}})
    told = [await publisher.heard.told() for _ in range(2)]

    assert made.body[what]["variableSchemas"] == {"food": FOOD}
    assert [answer.error for answer in refused] == [(400, "bad_request")] * 3
    assert all(answer.message.startswith("variables.food: the value is ") for answer in refused), refused
    assert (other.body[what]["level"], other.body[what]["revision"]) == (0, 2)
    assert other.body[what]["variables"] == {"food": 100, "mood": "fine"}
    assert told[0]["changedFields"][-2:] == ["variables.food", "variableSchemas.food"]
    assert told[1]["changedFields"] == ["variables.mood", "variables.food"]


@on_both_databases
async def test_schema_that_a_present_value_breaks_is_refused_unless_the_value_changes_with_it(
    publisher: Publisher,
) -> None:
    made = await publisher.create("settlements", name="Emberford", variables={"food": 50, "mood": 1})
    path = f"{publisher.campaign}/settlements/{made['id']}"
    strict = {"variableSchemas": {"food": {"maximum": 10}}}

    refused = await publisher.editor.patch(path, strict)
    with_value = await publisher.editor.patch(path, {**strict, "variables": {"food": 9}})
    without_variable = await publisher.editor.patch(path, {"variableSchemas": {"gold": {"type": "integer"}}})
    too_much = await publisher.editor.patch(path, {"variables": {"gold": 1.5}})
    removed = await publisher.editor.patch(path, {"variableSchemas": {"food": None}})
    free = await publisher.editor.patch(path, {"variables": {"food": 1000}})
    told = [(await publisher.heard.told())["changedFields"] for _ in range(4)]

    assert refused.error == (400, "bad_request")
    assert "variableSchemas.food: the present value of variables.food breaks this schema" in refused.message
    assert (with_value.status, without_variable.status, too_much.status) == (200, 200, 400)
    assert removed.body["settlement"]["variableSchemas"] == {"gold": {"type": "integer"}}
    assert free.body["settlement"]["variables"]["food"] == 1000
    assert told == [
        ["variables.food", "variableSchemas.food"],
        ["variableSchemas.gold"],
        ["variableSchemas.food"],
        ["variables.food"],
    ]


@on_both_databases
async def test_edits_of_a_variable_and_of_its_schema_from_one_revision_cannot_break_one_another(
    publisher: Publisher,
) -> None:
    made = await publisher.create("settlements", name="Emberford", variables={"food": 5})
    path = f"{publisher.campaign}/settlements/{made['id']}"

    raised = await publisher.editor.patch(path, {"variables": {"food": 50}}, If_Match='"1"')
    narrowed = await publisher.owner.patch(path, {"variableSchemas": {"food": {"maximum": 10}}}, If_Match='"1"')
    both = await publisher.owner.patch(path, {"variableSchemas": {"food": FOOD}}, If_Match='"1"')
    again = await publisher.editor.patch(path, {"variableSchemas": {"food": {}}}, If_Match='"1"')

    assert (raised.status, narrowed.status, both.status) == (200, 400, 200)
    assert again.error == (409, "conflict")
    assert again.body["error"]["conflicts"] == ["variableSchemas.food"]


NESTED: dict[str, Any] = {}
for _ in range(20):
    NESTED = {"not": NESTED}


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "nonsense"}, "not a JSON Schema"),
        ({"minimum": "0"}, "minimum"),
        ({"pattern": "(?=a)b"}, "not a JSON Schema"),
        ({"$ref": "https://example.test/schema"}, "no $ref"),
        ({"anyOf": [{"$ref": "#"}]}, "no $ref"),
        ({"$id": "https://example.test/schema"}, "no $id"),
        (NESTED, "deep"),
        ({"enum": ["x" * MAX_SCHEMA]}, "characters"),
        ({"const": "\0"}, "NUL"),
        ({"const": float("inf")}, "too large"),
        (["string"], "as an object"),
        (True, "as an object"),
        ("string", "as an object"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_schema_that_is_invalid_or_could_be_expensive_is_refused(schema: Any, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        check_schema(schema)


async def test_refused_schema_is_named_in_the_answer(publisher: Publisher) -> None:
    answer = await publisher.editor.post(
        f"{publisher.campaign}/settlements", {"name": "X", "variableSchemas": {"food": {"type": "nonsense"}}}
    )

    assert answer.error == (400, "bad_request")
    assert answer.message.startswith("variableSchemas.food: ")
    assert "not a JSON Schema" in answer.message


def test_schemas_that_differ_only_in_true_and_1_are_different() -> None:
    _, fields = merge(
        {"variable_schemas": {"a": {"const": 1}, "b": {"x": [1]}}},
        {"variable_schemas": {"a": {"const": True}, "b": {"x": [1]}}},
    )

    assert fields == ("variableSchemas.a",)
