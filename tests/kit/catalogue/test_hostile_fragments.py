"""Broken and hostile fragments are refused with a sentence that says where and why, as their authors see it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from beaconfire.fragment_files import InvalidFile, load
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.fragment import InvalidFragment
from beaconfire_kit.catalogue.profile import read_fragment
from tests.kit.fragments import note, with_root


def text(
    *,
    top: str = "asyncapi: 3.0.0",
    vendor: str = "{fragment: logistics, roots: {depot: {}}}",
    address: str = "depot.{depotId}.parcel.{parcelId}",
    channel: str = "",
    name: str = "parcel.moved",
    message: str = "",
    payload: str = "{type: object}",
    end: str = "",
) -> str:
    """Return a fragment in YAML that is right but for the given parts."""
    return f"""\
{top}
info: {{title: Logistics, version: 1.0.0}}
x-beaconfire: {vendor}
channels:
  parcel:
    address: {address}
    {channel}
    messages:
      moved:
        name: {name}
        {message}
        payload: {payload}
{end}
"""


def field(schema: str) -> str:
    return text(payload=f"{{type: object, properties: {{a: {schema}}}}}")


def doubled(levels: int) -> str:
    """Return schemas that each allow the one before in two ways."""
    lines = ["components:", "  schemas:", "    S0: {type: string}"]
    for level in range(1, levels + 1):
        two = f"{{$ref: '#/components/schemas/S{level - 1}'}}"
        lines.append(f"    S{level}: {{anyOf: [{two}, {two}]}}")
    return "\n".join(lines)


def nested(levels: int, inside: str = "{}") -> str:
    return "{items: " * levels + inside + "}" * levels


MESSAGE = "/channels/parcel/messages/moved"
PAYLOAD = f"{MESSAGE}/payload"
A = f"{PAYLOAD}/properties/a"

FRAGMENTS: Mapping[str, tuple[str, str, str]] = {
    # The document
    "old AsyncAPI": (text(top="asyncapi: 2.6.0"), "/asyncapi", "AsyncAPI '2.6.0'. Write `asyncapi: 3.0.0`"),
    "no title": (text().replace("title: Logistics, ", ""), "/info/title", "has no title"),
    "no name": (text(vendor="{}"), "/x-beaconfire/fragment", "The fragment has no name"),
    "name in capitals": (text(vendor="{fragment: Logistics}"), "/x-beaconfire/fragment", "name is 'Logistics'"),
    "misspelt key of ours": (
        text(vendor="{fragment: logistics, root: {depot: {}}}"),
        "/x-beaconfire/root",
        "'root' is unknown here. Known are `fragment`, `roots`",
    ),
    "larger than 200 KiB": (
        text(end=f"x-notes: ['{'n' * 110_000}', '{'n' * 110_000}']"),
        "",
        "larger than 200 KiB. Split it",
    ),
    "nested too deep": (text(end=f"x-notes: {'[' * 120}{']' * 120}"), "/x-notes" + "/0" * 99, "nested deeper than 100"),
    "control character": (
        text(message='description: "a\\e[31mred"'),
        f"{MESSAGE}/description",
        "U+001B is not allowed",
    ),
    "NUL": (text(message='description: "a\\0b"'), f"{MESSAGE}/description", "U+0000 is not allowed"),
    "turned around": (text(message='description: "a\\u202eb"'), f"{MESSAGE}/description", "U+202E is not allowed"),
    "control character in a key": (text(end='"x-\\a": 1'), "", "The key 'x-\\x07': The invisible character U+0007"),
    "number beyond 64 bits": (field(f"{{maximum: {10**30}}}"), f"{A}/maximum", "does not fit into 64 bits"),
    # Roots
    "reserved root": (
        text(vendor="{fragment: l, roots: {live: {}}}"),
        "/x-beaconfire/roots/live",
        "'live' is reserved",
    ),
    "inbox as root": (text(vendor="{fragment: l, roots: {_INBOX: {}}}"), "/x-beaconfire/roots/_INBOX", "is reserved"),
    "user as root": (
        text(vendor="{fragment: l, roots: {user: {}}}"),
        "/x-beaconfire/roots/user",
        "every catalogue already",
    ),
    "member as root": (text(vendor="{fragment: l, roots: {member: {}}}"), "/x-beaconfire/roots/member", "is reserved"),
    "root with a dot": (
        text(vendor="{fragment: l, roots: {a.b: {}}}"),
        "/x-beaconfire/roots/a.b",
        "'a.b' is not a kind",
    ),
    "flag that is a text": (
        text(vendor="{fragment: l, roots: {depot: {members: 'no'}}}"),
        "/x-beaconfire/roots/depot/members",
        "`members` is 'no'. Write true or false",
    ),
    "root without members": (
        text(vendor="{fragment: l, roots: {depot: {members: false}}}"),
        "/x-beaconfire/roots/depot/members",
        "Every root of yours has members. Take `members` away.",
    ),
    # Addresses
    "no address": (text(address="null"), "/channels/parcel/address", "The address is None. Write the subject"),
    "wildcard": (text(address="depot.*.parcel"), "/channels/parcel/address", "has the wildcard '*'"),
    "all below": (text(address="depot.{depotId}.>"), "/channels/parcel/address", "has the wildcard '>'"),
    "empty token": (text(address="depot.{depotId}..parcel"), "/channels/parcel/address", "has an empty token"),
    "parameter in a token": (text(address="depot.d-{depotId}"), "/channels/parcel/address", "'d-{depotId}'"),
    "two parameters in a token": (text(address="'depot.{a}{b}'"), "/channels/parcel/address", "is not one {parameter}"),
    "root is a parameter": (text(address="'{kind}.{id}'"), "/channels/parcel/address", "begins with a parameter"),
    "aspect in the middle": (
        text(address="depot.{depotId}.state.parcel.{parcelId}"),
        "/channels/parcel/address",
        "has the word 'parcel' where the id of 'state' must be",
    ),
    "aspect is a parameter": (
        text(address="depot.{depotId}.{what}"),
        "/channels/parcel/address",
        "ends in the parameter",
    ),
    "no id": (text(address="depot"), "/channels/parcel/address", "has no id"),
    "space in a token": (text(address="depot.{depotId}.big parcel"), "/channels/parcel/address", "'big parcel'"),
    "token too long": (text(address="depot.{depotId}." + "p" * 65), "/channels/parcel/address", "is not a word of"),
    "19 tokens": (text(address="depot.{d}" + ".a.{b}" * 8 + ".c"), "/channels/parcel/address", "has 19 tokens"),
    "slashes": (text(address="depot/{depotId}"), "/channels/parcel/address", "is not one {parameter}"),
    "member of a root": (text(address="depot.{depotId}.member.{userId}"), "/channels/parcel/address", "uses `member`"),
    "access of a user": (text(address="user.{userId}.access"), "/channels/parcel/address", "subject of revoked access"),
    "reserved subject": (text(address="deadletter.{reason}"), "/channels/parcel/address", "broker's own traffic"),
    "ephemeral in the address": (
        text(address="ephemeral.depot.{depotId}.x"),
        "/channels/parcel/address",
        "write `x-beaconfire: {ephemeral: true}` into the message",
    ),
    "parameter that is not there": (
        text(channel="parameters: {courierId: {}}"),
        "/channels/parcel/parameters/courierId",
        "has no {courierId}",
    ),
    "location in a header": (
        text(channel="parameters: {depotId: {location: $message.header#/depot}}"),
        "/channels/parcel/parameters/depotId/location",
        "Name a field of the payload",
    ),
    # Messages
    "type with a space": (text(name="parcel moved"), f"{MESSAGE}/name", "The type is 'parcel moved'"),
    "type of the protocol": (text(name="connection.ack"), f"{MESSAGE}/name", "a message of the socket protocols"),
    "type of Socket.IO": (text(name="disconnect"), f"{MESSAGE}/name", "a message of the socket protocols"),
    "type of the system": (text(name="member_changed"), MESSAGE, "is a type of the system"),
    "version 0": (text(message="x-beaconfire: {version: 0}"), f"{MESSAGE}/x-beaconfire/version", "The version is 0"),
    "version true": (
        text(message="x-beaconfire: {version: true}"),
        f"{MESSAGE}/x-beaconfire/version",
        "version is True",
    ),
    "misspelt key of a message": (
        text(message="x-beaconfire: {epheremal: true}"),
        f"{MESSAGE}/x-beaconfire/epheremal",
        "unknown",
    ),
    "window of an hour": (
        text(message="x-beaconfire: {conflate: {key: /a, windowMs: 3600000}}"),
        f"{MESSAGE}/x-beaconfire/conflate/windowMs",
        "Write 1 to 60000 milliseconds",
    ),
    "declared twice": (
        text(
            end="  other: {address: 'depot.{depotId}.x', messages: "
            "{again: {name: parcel.moved, payload: {type: object}}}}"
        ),
        "/channels/other/messages/again",
        f"'parcel.moved' version 1 is declared twice, also at {MESSAGE}",
    ),
    "one message in two channels": (
        text(end="  other: {address: 'depot.{depotId}.x', messages: {moved: {$ref: '#" + MESSAGE + "'}}}"),
        MESSAGE,
        "is declared twice",
    ),
    "not JSON": (text(message="contentType: application/xml"), f"{MESSAGE}/contentType", "Events are JSON"),
    "no payload": (
        text().replace("        payload: {type: object}\n", ""),
        MESSAGE,
        "The message has no `payload`. Write",
    ),
    "payload misspelled": (
        text().replace("        payload: {type: object}\n", "        paylod: {type: object}\n"),
        f"{MESSAGE}/paylod",
        "The message has no `payload`. Is 'paylod' meant?",
    ),
    "payload is a text": (text(payload="{type: string}"), PAYLOAD, "A payload is an object"),
    "payload is a list": (text(payload="[a]"), PAYLOAD, "Write a schema"),
    "Avro": (
        text(payload="{schemaFormat: 'application/vnd.apache.avro;version=1.9.0', schema: {}}"),
        f"{PAYLOAD}/schemaFormat",
        "Write `application/schema+json;version=draft-07`",
    ),
    # References
    "remote reference": (
        field("{$ref: 'https://example.com/parcel.json'}"),
        f"{A}/$ref",
        "leads out of the document",
    ),
    "reference to a file": (field("{$ref: './parcel.yaml#/Parcel'}"), f"{A}/$ref", "leads out of the document"),
    "reference to nothing": (field("{$ref: '#/components/schemas/Parcel'}"), f"{A}/$ref", "there is no 'components'"),
    "reference to everything": (field("{$ref: '#'}"), f"{A}/$ref", "it is not a path like '#/components/…'"),
    "reference of a channel to itself": (
        text(end="  loop: {$ref: '#/channels/loop'}"),
        "/channels/loop/$ref",
        "it leads back to itself",
    ),
    "words beside a reference": (
        field("{$ref: '#/components/schemas/A', maxLength: 3}") + "components: {schemas: {A: {type: string}}}",
        f"{A}/maxLength",
        "stands beside $ref, where draft-07 ignores it",
    ),
    "schema that is itself": (
        text(
            payload="{$ref: '#/components/schemas/A'}",
            end="components: {schemas: {A: {$ref: '#/components/schemas/A'}}}",
        ),
        PAYLOAD,
        "it leads back to itself",
    ),
    "schema that contains itself for the same value": (
        field("{$ref: '#/components/schemas/A'}")
        + "components: {schemas: {A: {allOf: [{minLength: 1}, {$ref: '#/components/schemas/A'}]}}}",
        PAYLOAD,
        "refers to itself for the same value",
    ),
    "26 doubled references": (
        field("{$ref: '#/components/schemas/S26'}") + doubled(26),
        PAYLOAD,
        "schemas, enum values and required names when its references are written out",
    ),
    "tree that doubles at each level": (
        field("{$ref: '#/components/schemas/T'}")
        + "components: {schemas: {T: {anyOf: [{items: {$ref: '#/components/schemas/T'}}, "
        + "{items: {$ref: '#/components/schemas/T'}}, {type: string}]}}}",
        PAYLOAD,
        "and at most 64 are allowed",
    ),
    "reference to another dialect": (
        field("{$ref: '#/components/schemas/A'}")
        + "components: {schemas: {A: {schemaFormat: 'application/schema+json;version=2020-12', schema: {}}}}",
        f"{A}/$ref",
        "is in another schema format",
    ),
    # Schemas
    "unknown type": (field("{type: strin}"), f"{A}/type", "`type` is 'strin', which JSON Schema does not allow"),
    "negative length": (field("{minLength: -1}"), f"{A}/minLength", "`minLength` is -1"),
    "required is a text": (field("{required: a}"), f"{A}/required", "`required` is 'a'"),
    "schema is a text": (field("text"), A, "Here must be a schema, and not 'text'"),
    "properties is a list": (field("{properties: [a]}"), f"{A}/properties", "Here must be a mapping"),
    "no alternatives": (field("{anyOf: []}"), f"{A}/anyOf", "Write a list of schemas"),
    "empty enum": (field("{enum: []}"), f"{A}/enum", "`enum` is empty"),
    "look-around": (field("{pattern: '^(?=a)b'}"), f"{A}/pattern", "looks around or refers back"),
    "reference back": (field("{pattern: '(a)\\1'}"), f"{A}/pattern", "looks around or refers back"),
    "large pattern": (field("{pattern: '[01]*1[01]{400}x'}"), f"{A}/pattern", "compiles to more than 4 KiB"),
    "no pattern": (field("{pattern: '('}"), f"{A}/pattern", "is not a regular expression"),
    "look-around in a key": (
        field("{patternProperties: {'(?!a)': {}}}"),
        f"{A}/patternProperties/(?!a)",
        "looks around",
    ),
    "nine patterns for one text": (
        field("{allOf: [" + ", ".join(f"{{pattern: '^{one}'}}" for one in "abcdefghi") + "]}"),
        PAYLOAD,
        "A value at /a is read as a whole by checks that count 9, and at most 8",
    ),
    "pattern from the event": (field("{format: regex}"), f"{A}/format", "lets an event bring a pattern of its own"),
    "own id": (field("{$id: 'https://example.com/a'}"), f"{A}/$id", "changes what references point to"),
    "anchor": (field("{$anchor: a}"), f"{A}/$anchor", "gives a schema a second name"),
    "dynamic reference": (field("{$dynamicRef: '#a'}"), f"{A}/$dynamicRef", "depends on the way to a schema"),
    "dialect inside": (field("{$schema: 'http://json-schema.org/draft-04/schema'}"), f"{A}/$schema", "inside another"),
    "other dialect": (
        text(payload="{$schema: 'https://json-schema.org/draft/2020-12/schema', type: object}"),
        f"{PAYLOAD}/$schema",
        "State another dialect as `payload: {schemaFormat",
    ),
    "keyword of 2020-12": (field("{prefixItems: [{}]}"), f"{A}/prefixItems", "`prefixItems` belongs to 2020-12"),
    "keyword of OpenAPI": (field("{type: string, nullable: true}"), f"{A}/nullable", "Write `type: [string, 'null']`"),
    "unevaluated": (field("{unevaluatedProperties: false}"), f"{A}/unevaluatedProperties", "Use additionalProperties"),
    "prototype": (field("{properties: {__proto__: {}}}"), f"{A}/properties/__proto__", "changes objects in JavaScript"),
    "schema 70 levels deep": (field(nested(70)), f"{A}{'/items' * 63}", "more than 64 levels deep"),
    "100 alternatives in a list": (
        field("{items: {anyOf: [" + ", ".join("{type: string}" for _ in range(100)) + "]}}"),
        PAYLOAD,
        "A value at /a/*, of which an event may have thousands, passes checks that count 101",
    ),
    "long enum of mixed values in a list": (
        field("{items: {enum: [a, " + ", ".join(map(str, range(100))) + "]}}"),
        PAYLOAD,
        "a shorter enum",
    ),
    "fractions in a list": (field("{items: {multipleOf: 0.01}}"), PAYLOAD, "multipleOf with a whole number"),
    "tiny step": (field("{multipleOf: 1.0e-300}"), f"{A}/multipleOf", "at least 1e-09 is needed"),
    "10,001 enum values": (field(f"{{enum: {list(range(10_001))}}}"), PAYLOAD, "At most 10,000 are allowed"),
}


def problems(path: Path, content: str) -> list[tuple[str, str]]:
    path.write_text(content, encoding="utf-8")
    document, _ = load(path)
    with pytest.raises(InvalidFragment) as refused:
        Catalogue.of(1, {"logistics": read_fragment(document)})
    return [(problem.pointer, problem.message) for problem in refused.value.problems]


@pytest.mark.parametrize("case", FRAGMENTS)
def test_fragment_is_refused_with_its_place_and_a_sentence(case: str, tmp_path: Path) -> None:
    content, place, sentence = FRAGMENTS[case]

    found = problems(tmp_path / "fragment.yaml", content)

    assert [where for where, _ in found] == [place]
    assert sentence in found[0][1]
    assert found[0][1].isprintable()


def test_template_of_these_fragments_is_right(tmp_path: Path) -> None:
    path = tmp_path / "fragment.yaml"
    path.write_text(text())

    assert not read_fragment(load(path)[0]).warnings


def test_all_problems_of_a_fragment_are_named_at_once(tmp_path: Path) -> None:
    content = text(top="asyncapi: 2.0.0", address="depot.*", payload="{type: object, properties: {a: {type: b}, c: 1}}")

    assert [place for place, _ in problems(tmp_path / "fragment.yaml", content)] == [
        "/asyncapi",
        "/channels/parcel/address",
        f"{A}/type",
        f"{PAYLOAD}/properties/c",
    ]


FILES: Mapping[str, tuple[bytes, str]] = {
    "empty": (b"", "is no document"),
    "a list": (b"- a\n", "is no document"),
    "UTF-16": ("asyncapi: 3.0.0".encode("utf-16"), "is not UTF-8"),
    "binary": (b"\x89PNG\r\n\x1a\n\x00\x00", "is not UTF-8"),
    "NUL": (b"asyncapi: 3.0.0\nx-a: \x00\n", "not YAML"),
    "two documents": (b"a: 1\n---\nb: 2\n", ":2: not YAML"),
    "a key twice": (b"a: 1\nb: 2\na: 3\n", ":3: the key 'a' is there twice, first in line 1"),
    "a key twice in JSON": (b'{"a": 1,\n"a": 2}', ":2: the key 'a' is there twice, first in line 1"),
    "laughter": (b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", ":2: not YAML: an alias"),
    "itself": (b"a: &a [*a]\n", "an alias"),
    "Python": (b"a: !!python/object/apply:os.system [id]\n", ":1: not YAML: could not determine a constructor"),
    "binary tag": (b"a: !!binary aGk=\n", ":1: not YAML: could not determine a constructor"),
    "a set": (b"a: !!set {b, c}\n", ":1: not YAML: could not determine a constructor"),
    "a date by its tag": (b"a: !!timestamp 2026-01-01\n", ":1: not YAML: could not determine a constructor"),
    "a key that is a list": (b"? [a, b]\n: c\n", "a key that is no text"),
    "deep": (b"[" * 100_000, "is nested too deeply"),
    "deep JSON": (b'{"a":' * 100_000, "is nested too deeply"),
    "a word as truth": (b"a: !!bool maybe\n", "not YAML"),
    "a list as a mapping": (b"a: !!map [b]\n", "not YAML"),
    "keys within one line": (b'{"a": {"b": 1, "b": 2}}', ":1: the key 'b' is there twice"),
    "digits": (b"a: " + b"9" * 5_000 + b"\n", "not YAML"),
    "digits in JSON": (b'{"a": ' + b"9" * 5_000 + b"}", "contains a number that is too large"),
    "a number beyond all": (b'{"a": 1e999}', "contains a number that is too large"),
    "NaN": (b'{"a": NaN}', "NaN is not JSON"),
    "tabs": (b"a:\n\t- b\n", ":2: not YAML"),
}


@pytest.mark.parametrize("case", FILES)
def test_file_that_is_no_plain_document_is_refused(case: str, tmp_path: Path) -> None:
    content, sentence = FILES[case]
    path = tmp_path / "fragment.yaml"
    path.write_bytes(content)

    with pytest.raises(InvalidFile) as refused:
        load(path)

    assert str(refused.value).startswith(str(path))
    assert sentence in str(refused.value)


def test_date_and_words_of_yaml_1_1_are_texts(tmp_path: Path) -> None:
    path = tmp_path / "fragment.yaml"
    path.write_text("\ufeffa: 2026-01-01\nb: yes\nc: 0x1F\n1: d\n", encoding="utf-8")

    assert load(path)[0] == {"a": "2026-01-01", "b": "yes", "c": "0x1F", "1": "d"}


def test_half_characters_are_refused_in_words_that_can_be_printed(tmp_path: Path) -> None:
    path = tmp_path / "fragment.json"
    path.write_text('{"asyncapi": "3.0.0", "\\ud800": {"x": "\\udfff"}, "x-a": "\\udfff"}')

    with pytest.raises(InvalidFragment) as refused:
        read_fragment(load(path)[0])

    assert str(refused.value).encode().isascii()
    assert [problem.pointer for problem in refused.value.problems] == ["", "/x-a"]


def test_document_of_python_objects_is_refused() -> None:
    hostile: dict[Any, Any] = {"asyncapi": "3.0.0", 1: "a", "x-set": {1, 2}, "x-nan": float("nan")}

    with pytest.raises(InvalidFragment) as refused:
        read_fragment(hostile)

    assert [str(problem) for problem in refused.value.problems] == [
        "/: The key 1 is not a text. Put it into quotes.",
        "/x-set: {1, 2} is a set here, and JSON has none. Put it into quotes to make it a text.",
        "/x-nan: nan is not a number of JSON. Write a number.",
    ]


@pytest.mark.parametrize(
    ("documents", "problem"),
    [
        (
            [note("first", "note.written"), note("second", "note.written")],
            "second#/channels/notes/messages/note.written: `note.written` version 1: the type belongs to the fragment "
            "`first`. Choose another name.",
        ),
        (
            [with_root("first", "depot"), with_root("second", "depot", "note.other")],
            "second#/x-beaconfire/roots/depot: The root `depot` belongs to the fragment `first`. "
            "Use it without declaring it again.",
        ),
        (
            [with_root("first", "note", "a"), note("second", "b")],
            "is on user.{userId}.note.{noteId}, and `note` is the kind of a root. "
            "A kind is either a root or inside one: rename one of them.",
        ),
        (
            [note("first", root="depot")],
            "first#/channels/notes/messages/note.written: `note.written` is on depot.{depotId}.note.{noteId}, and no "
            "fragment declares the root `depot`. Declare it: `x-beaconfire: {roots: {depot: {}}}`.",
        ),
    ],
    ids=["type", "root", "root inside", "no root"],
)
def test_fragments_that_do_not_go_together_are_refused(documents: list[Any], problem: str) -> None:
    fragments = {one.name: one for one in map(read_fragment, documents)}

    with pytest.raises(InvalidFragment) as refused:
        Catalogue.of(1, fragments)

    assert problem in str(refused.value)
