"""`beaconfire catalogue types`: strict compilers accept what is written for any catalogue, and know the payloads."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from beaconfire.derived.python import python
from beaconfire.derived.reference import all_types
from beaconfire.derived.typescript import typescript
from beaconfire_kit.catalogue.catalogue import Catalogue
from tests.javascript import check_types
from tests.python_types import check_python
from tests.tools.derived.catalogues import builtin_catalogue, hostile_catalogue, logistics_catalogue

pytestmark = pytest.mark.timeout(300)  # mypy reads its own typeshed first

CATALOGUES = [builtin_catalogue, logistics_catalogue, hostile_catalogue]

TYPESCRIPT_USE = """
import type { AnyEvent, Events } from "./events";

export function heard(event: AnyEvent): string {
  switch (event.type) {
    case "parcel.moved":
      return event.payload.parcelId ?? event.metadata.source;
    case "member_changed":
      return event.payload.userId;
    default:
      return event.type;
  }
}
export const version: Events["parcel.moved"]["version"] = 1;
// @ts-expect-error: the payload of another event
export const wrong = (event: Events["member_changed"]) => event.payload.parcelId;
"""
PYTHON_USE = """
import json
from events import AnyEvent, ParcelMoved, ParcelMovedEvent


def heard(body: bytes) -> str:
    event: AnyEvent = json.loads(body)
    if event["type"] == "parcel.moved":
        return event["payload"].get("parcelId", "") + event["metadata"]["source"]
    if event["type"] == "member_changed":
        return event["payload"]["userId"]
    return event["type"]


def wrong(event: ParcelMovedEvent) -> object:
    return event["payload"]["userId"]  # type: ignore[typeddict-item]


payload: ParcelMoved = {"status": "in_transit", "location": {"latitude": 52.5, "longitude": 13.4}}
"""
HOSTILE_USE = """
import type { AnyEvent, Events, Json, Tree } from "./events";

export function heard(event: AnyEvent): number | undefined {
  if (event.type === "nasty.unions") {
    const shape = event.payload.shape;
    return shape.kind === "circle" ? shape.r : shape.side;
  }
  return event.type === "nasty.maps" && event.version === 1 ? event.payload.declared : undefined;
}
const tree: Tree = { label: "a", children: [{ label: "b" }], byName: { c: { label: "c" } } };
const json: Json = { a: [1, "two", { three: null }] };
export const nested: Events["nasty.trees"]["payload"] = { tree };
export const both: Events["nasty.unions"]["payload"]["both"] = { at: "2026-11-21T10:00:00Z", more: true };
export const value: Events["nasty.json"]["payload"] = { value: json };
export const pair: Events["nasty.modern"]["payload"] = { pair: ["a", 1, 2], base: { at: "" } };
// @ts-expect-error: no member of the enum
export const mixed: Events["nasty.enums"]["payload"] = { mixed: 2 };
"""


def import_python(folder: Path, name: str) -> None:
    result = subprocess.run([sys.executable, "-W", "error", name], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("catalogue", CATALOGUES)
def test_typescript_types_of_a_catalogue_pass_the_strict_compiler(
    catalogue: Callable[[], Catalogue], tmp_path: Path
) -> None:
    (tmp_path / "events.ts").write_text(typescript(all_types(catalogue())))

    check_types(tmp_path / "events.ts")


@pytest.mark.parametrize("catalogue", CATALOGUES)
def test_python_types_of_a_catalogue_pass_strict_mypy_and_can_be_imported(
    catalogue: Callable[[], Catalogue], tmp_path: Path
) -> None:
    (tmp_path / "events.py").write_text(python(all_types(catalogue())))

    check_python(tmp_path, "events.py")
    import_python(tmp_path, "events.py")


def test_type_of_an_event_tells_typescript_its_payload(tmp_path: Path) -> None:
    (tmp_path / "events.ts").write_text(typescript(all_types(logistics_catalogue())))
    (tmp_path / "use.ts").write_text(TYPESCRIPT_USE)

    check_types(tmp_path / "use.ts")


def test_type_of_an_event_tells_mypy_its_payload(tmp_path: Path) -> None:
    (tmp_path / "events.py").write_text(python(all_types(logistics_catalogue())))
    (tmp_path / "use.py").write_text(PYTHON_USE)

    check_python(tmp_path, "use.py")


def test_typescript_knows_unions_trees_tuples_versions_and_shared_definitions(tmp_path: Path) -> None:
    (tmp_path / "events.ts").write_text(typescript(all_types(hostile_catalogue())))
    (tmp_path / "use.ts").write_text(HOSTILE_USE)

    check_types(tmp_path / "use.ts")


def test_definition_that_two_payloads_share_is_declared_once() -> None:
    text = typescript(all_types(logistics_catalogue()))

    assert text.count("export interface Location {") == 1


def test_field_with_a_default_is_optional_in_typescript() -> None:
    assert '  readonly operation?: "create" | "update" | "delete";' in typescript(all_types(builtin_catalogue()))
