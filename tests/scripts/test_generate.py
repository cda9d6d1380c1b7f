"""Generated files are right, and outdated ones are reported."""

import json
from pathlib import Path

import jsonschema
import pytest

from beaconfire_kit.catalogue.examples import example_message
from beaconfire_kit.catalogue.fragment import EventType
from beaconfire_kit.errors import TABLE
from beaconfire_kit.event import events
from scripts import generate
from scripts.derived.error_table import script
from scripts.derived.marked import fill
from scripts.derived.schema import schemas


def test_missing_generated_file_is_outdated_until_it_is_written(tmp_path: Path) -> None:
    assert set(generate.stale_files(tmp_path)) == set(generate.FILES)

    generate.write(tmp_path, generate.stale_files(tmp_path))

    assert generate.stale_files(tmp_path) == {}


def test_edited_generated_file_is_reported(tmp_path: Path) -> None:
    generate.write(tmp_path, generate.stale_files(tmp_path))
    (tmp_path / "clients/js/src/errors.js").write_text("export const ERRORS = {};\n")

    assert list(generate.stale_files(tmp_path)) == ["clients/js/src/errors.js"]


@pytest.mark.parametrize("event", generate.TYPES, ids=lambda event: event.name)
def test_json_schema_accepts_the_example_of_every_event_and_refuses_it_without_its_payload(event: EventType) -> None:
    message = example_message(event)
    assert message is not None
    schema = json.loads(schemas(generate.TYPES))

    jsonschema.validate(message, schema)

    del message["payload"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(message, schema)


def test_pages_and_typings_have_every_event() -> None:
    written = {name: generate.FILES[name]() for name in ("docs/reference/events.md", "clients/js/src/events.d.ts")}

    for type_, cls in events().items():
        assert f"\n### {type_}\n" in written["docs/reference/events.md"]
        assert f'EventMessage<"{type_}", {cls.version}, {cls.__name__}>;' in written["clients/js/src/events.d.ts"]


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
