"""What services and clients of the version before rely on is still there: documents and messages only grow.

Each test compares a document of this version with the one of the last release (see `make record`).
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from beaconfire_kit.catalogue.widening import breaks
from tests.architecture.sources import ROOT
from tests.conformance import fixtures
from tests.javascript import PACKAGE, check_types
from tests.upgrade import release

Document = Mapping[str, Any]
GROWS = ("properties", "enum")
"""Where answers may have more than before. Clients ignore fields and reasons that they do not know (PROTOCOL.md §1)."""
METHODS = ("get", "put", "post", "delete", "patch")


def current(name: str) -> Any:
    return json.loads((ROOT / "docs" / "reference" / name).read_text())


def with_definitions(document: Document, schema: Document) -> Document:
    """Return a schema of a document that has what it refers to."""
    return {**schema, "$defs": document["components"]["schemas"]}


def refused(before: Document, now: Document, old: Document, new: Document) -> Iterator[str]:
    """Yield what was accepted and is no longer."""
    for one in breaks(with_definitions(before, old), with_definitions(now, new)):
        yield f"{'/'.join(map(str, one.path))}: {one.message}"


def missing(before: Document, now: Document, old: Document, new: Document) -> Iterator[str]:
    """Yield what readers of the old schema miss in values of the new one."""
    old, new = with_definitions(before, old), with_definitions(now, new)
    for one in breaks(old, new):
        if one.path[-1:] == ("properties",):
            yield f"{'/'.join(map(str, one.path))}: {one.message}"
    for one in breaks(new, old):
        if one.path[-1:] and one.path[-1] not in GROWS:
            yield f"{'/'.join(map(str, one.path))}: {one.message}"


def schemas(content: Document) -> Iterator[tuple[str, Document]]:
    """The schema of each media type of a request's or an answer's `content`."""
    for media, one in content.get("content", {}).items():
        yield media, one.get("schema", {})


def parameters(operation: Document) -> dict[tuple[str, str], Document]:
    return {(one["in"], one["name"]): one for one in operation.get("parameters", ())}


def changes(before: Document, now: Document) -> Iterator[str]:
    """Yield what breaks callers of an HTTP interface."""
    for path, operations in before["paths"].items():
        for method in operations.keys() & set(METHODS):
            new = now["paths"].get(path, {}).get(method)
            found = [f"{method} {path} is gone"] if new is None else _operation(before, now, operations[method], new)
            yield from (one if new is None else f"{method} {path}: {one}" for one in found)


def _operation(before: Document, now: Document, old: Document, new: Document) -> Iterator[str]:
    known = parameters(old)
    for key, parameter in parameters(new).items():
        if parameter.get("required") and not known.get(key, {}).get("required"):
            yield f"the parameter {key} is required"
        elif key in known:
            yield from refused(before, now, known[key]["schema"], parameter["schema"])
    yield from (f"the parameter {key} is gone" for key in known.keys() - parameters(new).keys())
    accepted = dict(schemas(new.get("requestBody", {})))
    for media, schema in schemas(old.get("requestBody", {})):
        yield from refused(before, now, schema, accepted[media]) if media in accepted else [f"{media} is refused"]
    for status, answer in old["responses"].items():
        if status < "300":
            given = dict(schemas(new["responses"].get(status, {})))
            for media, schema in schemas(answer):
                found = missing(before, now, schema, given[media]) if media in given else ["is gone"]
                yield from (f"{status} {media} {one}" for one in found)


@pytest.mark.parametrize("name", ["openapi.json", "openapi-auth.json"])
def test_http_interfaces_accept_and_answer_what_they_did(name: str) -> None:
    assert list(changes(release.document(name), current(name))) == []


def test_every_event_that_was_valid_is_valid_on_the_same_subject() -> None:
    before, now = release.document("asyncapi.json"), current("asyncapi.json")

    addresses = {name: one["address"] for name, one in before["channels"].items()}
    assert addresses.items() <= {name: one["address"] for name, one in now["channels"].items()}.items()
    known, given = (one["components"]["schemas"] for one in (before, now))
    assert known.keys() <= given.keys()
    assert [one for name in known for one in refused(before, now, known[name], given[name])] == []


def test_messages_of_sockets_keep_their_fields(tmp_path: Path) -> None:
    """The TypeScript compiler compares them: what old clients send is understood, and what they receive is the same."""
    text = release.path("messages.d.ts").read_text()
    (tmp_path / "before.d.ts").write_text(re.sub(r"(type \w+Reason =)[^;]*;", r"\1 string;", text))
    (tmp_path / "now.d.ts").write_text((PACKAGE / "src" / "messages.d.ts").read_text())
    names = re.findall(r"^export interface (\w+)", text, re.MULTILINE)
    kept = (f"export const {name}: Kept<before.{name}, now.{name}> = true;" for name in names)
    source = tmp_path / "check.ts"
    source.write_text(
        "\n".join(
            [
                'import type * as before from "./before";',
                'import type * as now from "./now";',
                "type Kept<Old, New> = keyof Old extends keyof New ? true : never;",
                "export const sent = (message: before.ClientMessage): now.ClientMessage => message;",
                "type Received = Extract<now.GatewayMessage, Pick<before.GatewayMessage, 'type'>>;",
                "export const received = (message: Received): before.GatewayMessage => message;",
                *kept,
            ]
        )
    )

    check_types(source)


def contains(now: Any, before: Any) -> bool:
    """Whether a value has everything that it had: each key, and each item of a list, in the same order."""
    if isinstance(before, dict) and isinstance(now, dict):
        return all(key in now and contains(now[key], value) for key, value in before.items())
    if isinstance(before, list) and isinstance(now, list):
        rest = iter(now)
        return all(any(contains(candidate, one) for candidate in rest) for one in before)
    return bool(now == before)


@pytest.mark.parametrize("path", sorted(release.path("fixtures").rglob("*.json")), ids=lambda path: path.stem)
def test_conversations_of_conformance_are_unchanged(path: Path) -> None:
    """The gateway and the clients pass the fixtures of today, and those of the release are among them."""
    name = path.relative_to(release.path("fixtures")).with_suffix("")

    assert contains(fixtures.read(str(name)), json.loads(path.read_text()))


CAMPAIGNS = ("paths", "/v1/campaigns", "post")


@pytest.mark.parametrize(
    ("at", "value", "found"),
    [
        (("paths", "/v1/campaigns"), {}, "is gone"),
        ((*CAMPAIGNS, "parameters"), [{"in": "query", "name": "x", "required": True, "schema": {}}], "is required"),
        ((*CAMPAIGNS, "requestBody", "content"), {}, "application/json is refused"),
        ((*CAMPAIGNS, "responses", "201", "content"), {}, "is gone"),
        (("components", "schemas", "Campaign", "required"), [], "would be required"),
        (("components", "schemas", "Campaign", "properties", "name"), {"type": "integer"}, "not be valid any more"),
        (("components", "schemas", "Campaign", "properties"), {}, "would not be declared any more"),
    ],
    ids=lambda one: one if isinstance(one, str) else None,
)
def test_broken_promise_of_an_http_interface_is_found(at: tuple[str, ...], value: Any, found: str) -> None:
    before, now = current("openapi.json"), current("openapi.json")
    *parents, last = at
    place = now
    for key in parents:
        place = place[key]
    place[last] = value

    assert any(found in one for one in changes(before, now))
