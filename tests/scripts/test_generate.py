"""scripts.generate: what is derived is right, and staleness is seen."""

import json
import re
from pathlib import Path

import jsonschema
import pytest

from beaconfire_kit.catalogue import Event, events
from beaconfire_kit.errors import TABLE
from scripts import generate
from scripts.derived.asyncapi import asyncapi
from scripts.derived.error_table import script
from scripts.derived.examples import example
from scripts.derived.marked import fill
from scripts.derived.reference import rooms, subject
from scripts.derived.schema import schemas
from scripts.derived.typings import typings


def test_a_missing_file_is_stale(tmp_path: Path) -> None:
    """In an empty folder every generated file is stale, and after writing them none is."""
    assert set(generate.stale_files(tmp_path)) == set(generate.FILES)

    generate.write(tmp_path, generate.stale_files(tmp_path))

    assert generate.stale_files(tmp_path) == {}


def test_a_changed_file_is_stale(tmp_path: Path) -> None:
    """A generated file that somebody edited is named."""
    generate.write(tmp_path, generate.stale_files(tmp_path))
    (tmp_path / "clients/js/src/errors.js").write_text("export const ERRORS = {};\n")

    assert list(generate.stale_files(tmp_path)) == ["clients/js/src/errors.js"]


@pytest.mark.parametrize("cls", events().values(), ids=events())
def test_every_event_has_a_valid_example(cls: type[Event]) -> None:
    """The example of the reference is taken by the reader, and by the published JSON Schema."""
    jsonschema.validate(example(cls), json.loads(schemas()))


@pytest.mark.parametrize("cls", events().values(), ids=events())
def test_the_schema_refuses_what_is_wrong(cls: type[Event]) -> None:
    """A message without its payload's first field is not valid."""
    message = example(cls)
    del message["payload"][next(name for name in message["payload"] if name.endswith("Id"))]

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(message, json.loads(schemas()))


@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        ("settlement_updated", ["campaign:{campaignId}", "settlement:{settlementId}"]),
        ("world_time_changed", ["campaign:{campaignId}"]),
        ("member_changed", ["{rootKind}:{rootId}", "member:{userId}"]),
        ("user.typing", ["workspace:{workspaceId}", "{targetKind}:{targetId}"]),
    ],
)
def test_rooms_are_the_pairs_of_the_subject(type_: str, expected: list[str]) -> None:
    """The reference names a room for each pair, also below `ephemeral.`, and none for an aspect."""
    assert rooms(events()[type_]) == expected


def test_every_event_is_typed() -> None:
    """The TypeScript declarations have every event under its type."""
    text = typings()

    for type_, cls in events().items():
        assert f'  "{type_}": EventMessage<"{type_}", {cls.version}, {cls.__name__}>;' in text


def test_an_optional_field_is_optional_in_typescript() -> None:
    """A field with a default may be missing from what another service published."""
    assert '  readonly operation?: "create" | "update" | "delete";' in typings()


def test_the_error_table_is_whole() -> None:
    """Every row is in the browser's table, with null where the error never closes."""
    text = script()

    for row in TABLE:
        assert f"  {row.code}: {{ status: {row.status}, " in text
    assert 'conflict: { status: 409, retry: "no", close: null, ' in text


def test_only_the_marked_part_of_a_page_is_written() -> None:
    """`fill` replaces the text between the marks of its name, and keeps everything else."""
    page = "a\n<!-- generated: one -->\nold\n<!-- end -->\nb\n<!-- generated: two -->\nkept\n<!-- end -->\nc\n"

    written = fill(page, "one", "new\n")

    assert written == page.replace("old", "new")


def test_a_page_without_marks_is_refused() -> None:
    """`fill` fails if the marks were removed, so nothing is lost."""
    with pytest.raises(ValueError, match="generated: errors"):
        fill("no marks", "errors", "")


def test_asyncapi() -> None:
    """The AsyncAPI document is valid by that specification's own schema, and has every event with a valid example."""
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


def test_asyncapi_addresses() -> None:
    """Every event stands in the channel of its own subject, with a parameter for each id in it."""
    for channel in json.loads(asyncapi())["channels"].values():
        for name in channel["messages"]:
            assert channel["address"] == subject(events()[name])
        assert set(re.findall(r"\{(\w+)\}", channel["address"])) == set(channel.get("parameters", {}))
