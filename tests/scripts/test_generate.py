"""Generated files are right, and outdated ones are reported."""

import json
import re
from pathlib import Path

import jsonschema
import pytest

from beaconfire_kit.errors import TABLE
from beaconfire_kit.event import Event, events
from scripts import generate
from scripts.derived.asyncapi import asyncapi
from scripts.derived.error_table import script
from scripts.derived.examples import example
from scripts.derived.marked import fill
from scripts.derived.reference import rooms, subject
from scripts.derived.schema import schemas
from scripts.derived.typings import typings


def test_missing_generated_file_is_outdated_until_it_is_written(tmp_path: Path) -> None:
    assert set(generate.stale_files(tmp_path)) == set(generate.FILES)

    generate.write(tmp_path, generate.stale_files(tmp_path))

    assert generate.stale_files(tmp_path) == {}


def test_edited_generated_file_is_reported(tmp_path: Path) -> None:
    generate.write(tmp_path, generate.stale_files(tmp_path))
    (tmp_path / "clients/js/src/errors.js").write_text("export const ERRORS = {};\n")

    assert list(generate.stale_files(tmp_path)) == ["clients/js/src/errors.js"]


@pytest.mark.parametrize("cls", events().values(), ids=events())
def test_every_event_example_is_valid_for_the_reader_and_the_json_schema(cls: type[Event]) -> None:
    jsonschema.validate(example(cls), json.loads(schemas()))


@pytest.mark.parametrize("cls", events().values(), ids=events())
def test_json_schema_refuses_an_event_without_a_required_field_or_with_a_wildcard_as_id(cls: type[Event]) -> None:
    schema = json.loads(schemas())
    message, payload = example(cls), example(cls)["payload"]
    id_ = next(name for name in payload if name.endswith("Id"))
    required = schema["$defs"][cls.type]["properties"]["payload"].get("required", [])

    for wrong in [{**payload, id_: "*"}, *({key: payload[key] for key in payload if key != one} for one in required)]:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**message, "payload": wrong}, schema)


@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        ("settlement_updated", ["campaign:{campaignId}", "settlement:{settlementId}"]),
        ("world_time_changed", ["campaign:{campaignId}"]),
        ("member_changed", ["{rootKind}:{rootId}", "member:{userId}"]),
        ("user.typing", ["workspace:{workspaceId}", "{targetKind}:{targetId}"]),
    ],
)
def test_reference_names_a_room_for_each_pair_and_none_for_an_aspect(type_: str, expected: list[str]) -> None:
    assert rooms(events()[type_]) == expected


def test_typescript_declarations_have_every_event() -> None:
    text = typings()

    for type_, cls in events().items():
        assert f'  "{type_}": EventMessage<"{type_}", {cls.version}, {cls.__name__}>;' in text


def test_field_with_a_default_is_optional_in_typescript() -> None:
    assert '  readonly operation?: "create" | "update" | "delete";' in typings()


def test_open_shape_has_any_further_field_in_typescript() -> None:
    interface = typings().split("export interface ApprovalUpdated {")[1].split("}")[0]

    assert "  readonly id?: string | null;" in interface
    assert "  readonly [field: string]: unknown;" in interface


def test_browsers_error_table_has_every_error() -> None:
    text = script()

    for row in TABLE:
        assert f"  {row.code}: {{ status: {row.status}, " in text
    assert 'conflict: { status: 409, retry: "no", close: null, ' in text


def test_fill_replaces_only_the_text_between_the_marks() -> None:
    page = "a\n<!-- generated: one -->\nold\n<!-- end -->\nb\n<!-- generated: two -->\nkept\n<!-- end -->\nc\n"

    written = fill(page, "one", "new\n")

    assert written == page.replace("old", "new")


def test_fill_fails_on_a_page_without_marks() -> None:
    with pytest.raises(ValueError, match="generated: errors"):
        fill("no marks", "errors", "")


def test_asyncapi_document_is_valid_and_has_every_event_with_a_valid_example() -> None:
    # Of the AsyncAPI Initiative, Apache-2.0, as in its npm package @asyncapi/specs 6.11.1.
    specification = json.loads((Path(__file__).parent / "asyncapi-3.0.0.json").read_text())
    document = json.loads(asyncapi())

    jsonschema.validate(document, specification)

    carried = {name for channel in document["channels"].values() for name in channel["messages"]}
    assert carried == set(document["components"]["messages"]) == set(events())
    for name, message in document["components"]["messages"].items():
        schema = {**message["payload"], "components": document["components"]}
        jsonschema.validate(message["examples"][0]["payload"], schema)
        assert events()[name].version == message["payload"]["properties"]["version"]["const"]


def test_asyncapi_channels_are_the_events_subjects_with_a_parameter_for_each_id() -> None:
    for channel in json.loads(asyncapi())["channels"].values():
        for name in channel["messages"]:
            assert channel["address"] == subject(events()[name])
        assert set(re.findall(r"\{(\w+)\}", channel["address"])) == set(channel.get("parameters", {}))
