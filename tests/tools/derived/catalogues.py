"""The catalogues for which pages and types are written: ours, that of the logistics example, and a hostile one."""

from pathlib import Path
from typing import Any

import yaml

from beaconfire_kit.catalogue import builtin
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.fragment import Fragment
from beaconfire_kit.catalogue.profile import read_fragment

LOGISTICS = Path(__file__).parents[3] / "examples" / "logistics" / "logistics.yaml"
HOSTILE_TEXT = (
    "</script><script>window.hacked = 1</script> */ export const hacked = 1; /* \n"
    '""" ; import os ; """\n# Heading\n| a | b |\n<img src="https://evil.example/x.png" onerror="window.hacked = 1">\n'
    "![x](https://evil.example/y.png) [link](javascript:window.hacked=1) `code` `</code>` "
    "\u2028 end\\"
)
_NAMES = [
    "a-b",
    "a b",
    "class",
    "str",
    "list",
    "None",
    "__private",
    "2nd",
    "größe",
    '"quoted"',
    "new\nline",
    "$ref",
    "enum",
]

_PAYLOADS: dict[str, Any] = {
    # Names that are no identifiers, that a class body would change, or that hide a type.
    "nasty.names": {
        "type": "object",
        "required": ["a-b", "undeclared field"],
        "properties": {name: {"type": "string", "description": HOSTILE_TEXT} for name in _NAMES}
        | {"NastyNames": {"type": "integer"}, "next": {"$ref": "#/components/schemas/class"}},
    },
    "nasty.enums": {
        "type": "object",
        "required": ["mixed"],
        "properties": {
            "mixed": {"enum": ["a", 1, True, None, "1"]},
            "text": {"type": "string", "enum": ["it's", 'say "hi"', "back\\slash", "new\nline", "*/"]},
            "float": {"enum": [1.5, 2]},
            "objects": {"enum": [{"a": 1}, [1]]},
            "constant": {"const": "one"},
            "null": {"const": None},
        },
    },
    "nasty.unions": {
        "type": "object",
        "required": ["shape"],
        "properties": {
            "shape": {
                "oneOf": [
                    {
                        "type": "object",
                        "required": ["kind"],
                        "properties": {"kind": {"const": "circle"}, "r": {"type": "number"}},
                    },
                    {
                        "type": "object",
                        "required": ["kind"],
                        "properties": {"kind": {"const": "square"}, "side": {"type": "number"}},
                    },
                ]
            },
            "nullable": {"type": ["string", "integer", "null"]},
            "any_of": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "null"}}]},
            "both": {"allOf": [{"$ref": "#/components/schemas/Base"}, {"properties": {"more": {"type": "boolean"}}}]},
            "base_and_choice": {
                "type": "object",
                "properties": {"id": {"type": "string"}},
                "required": ["id"],
                "oneOf": [
                    {"required": ["left"]},
                    {"properties": {"right": {"type": "integer"}}, "required": ["right"]},
                ],
            },
            "never": False,
            "anything": True,
            "untyped": {},
        },
    },
    "nasty.lists": {
        "type": "object",
        "properties": {
            "tuple": {"type": "array", "items": [{"type": "string"}, {"type": "integer"}], "minItems": 1},
            "closed": {"type": "array", "items": [{"type": "string"}], "additionalItems": False},
            "nested": {"type": "array", "items": {"type": "array", "items": {"enum": ["a", "b"]}}},
            "objects": {"type": "array", "items": {"type": "object", "properties": {"city": {"type": "string"}}}},
            "plain": {"type": "array"},
        },
    },
    "nasty.maps": {
        "type": "object",
        "required": ["declared"],
        "properties": {
            "declared": {"type": "integer"},
            "optional": {"type": "array", "items": {"type": "string"}},
            "map": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "number"}}},
            "patterns": {
                "type": "object",
                "patternProperties": {"^x-": {"type": "string"}},
                "additionalProperties": False,
            },
            "closed": {"type": "object", "additionalProperties": False},
        },
        "additionalProperties": {"type": "string"},
    },
    "nasty.trees": {"type": "object", "properties": {"tree": {"$ref": "#/components/schemas/Tree"}}},
    "nasty.json": {"type": "object", "properties": {"value": {"$ref": "#/components/schemas/Json"}}},
    # Two types whose names in Python and TypeScript would be the same, and one that is like a name of the file.
    "nasty.a_b": {"type": "object", "properties": {"x": {"type": "string"}}},
    "nasty.a-b": {"type": "object", "properties": {"y": {"type": "string"}}},
    "event:metadata": {"type": "object"},
    "any": {"type": "object", "properties": {"any": {}}},
}
_SCHEMAS: dict[str, Any] = {
    "Base": {"type": "object", "required": ["at"], "properties": {"at": {"type": "string", "format": "date-time"}}},
    "class": {"type": "object", "properties": {"class": {"type": "string", "pattern": "^[A-Z]{2}$"}}},
    "Tree": {
        "type": "object",
        "required": ["label"],
        "properties": {
            "label": {"type": "string"},
            "children": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}},
            "byName": {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Tree"}},
        },
    },
    "Json": {
        "anyOf": [
            {"type": ["string", "number", "boolean", "null"]},
            {"type": "array", "items": {"$ref": "#/components/schemas/Json"}},
            {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Json"}},
        ]
    },
}


def builtin_catalogue() -> Catalogue:
    return Catalogue.of(1, builtin.fragments())


def logistics_catalogue() -> Catalogue:
    return _with(read_fragment(yaml.safe_load(LOGISTICS.read_text())))


def hostile_catalogue() -> Catalogue:
    return _with(read_fragment(hostile_document()))


def hostile_document() -> dict[str, Any]:
    """A fragment whose texts attack, whose names are no identifiers, and that uses all that schemas can say."""
    messages = {
        f"m{number}": {"name": name, "description": HOSTILE_TEXT, "payload": payload}
        for number, (name, payload) in enumerate(_PAYLOADS.items())
    }
    newer = {"name": "nasty.maps", "payload": {"type": "object"}, "x-beaconfire": {"version": 2}}
    modern = {
        "name": "nasty.modern",
        "payload": {
            "schemaFormat": "application/schema+json;version=2020-12",
            "schema": {
                "type": "object",
                "properties": {
                    "pair": {"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "integer"}},
                    "base": {"$ref": "#/components/schemas/Base"},
                },
            },
        },
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": f"Nasty {HOSTILE_TEXT}", "version": "1"},
        "x-beaconfire": {"fragment": "nasty", "roots": {"nasty": {}}},
        "channels": {
            "all": {"address": "nasty.{nastyId}", "messages": messages},
            "more": {"address": "nasty.{nastyId}.thing.{thing-id}", "messages": {"new": newer, "modern": modern}},
            "same": {
                "address": "nasty.{otherId}.thing.{thing-id}",
                "messages": {
                    "typing": {
                        "name": "nasty.typing",
                        "payload": {"type": "object"},
                        "x-beaconfire": {"ephemeral": True},
                    }
                },
            },
        },
        "components": {"schemas": _SCHEMAS},
    }


def _with(fragment: Fragment) -> Catalogue:
    return Catalogue.of(7, {**builtin.fragments(), fragment.name: fragment})
