"""`docs/reference/events.md`: every event with its address, rooms, fields and an example."""

import inspect
import json
import re
from typing import Any

from pydantic.alias_generators import to_camel

from beaconfire_kit.broker import EPHEMERAL_PREFIX
from beaconfire_kit.catalogue import Event, events
from scripts.derived.examples import example
from scripts.derived.schema import payload_schema

HEAD = """\
# Events

Written by `make generate` from `shared/src/beaconfire_kit/events/`. Do not edit.

Every event is one JSON message, `{"id", "type", "version", "payload", "metadata"}` (PROTOCOL.md §8), published on its
subject. It goes to the rooms that its subject names and to no other. `schemas/events.json` beside this page has the
JSON Schema of every message, `asyncapi.json` all of it as AsyncAPI 3.0, `clients/js/src/events.d.ts` the TypeScript
types. A field marked *optional* may be missing. An *id* is `[A-Za-z0-9_-]{1,64}`, a *moment* is ISO 8601 with its
offset from UTC.

"""


def reference() -> str:
    """The whole page: a table of all events, then a section each, in the order of their declaration."""
    rows = "".join(f"| [`{type_}`](#{_anchor(type_)}) | `{subject(cls)}` |\n" for type_, cls in events().items())
    sections = "\n".join(_section(cls) for cls in events().values())
    return f"{HEAD}| type | subject |\n|---|---|\n{rows}\n{sections}"


def subject(cls: type[Event]) -> str:
    """The subject as a publisher writes it, the ids named as in the payload."""
    path = re.sub(r"\{([a-z_]+)\}", lambda field: f"{{{to_camel(field[1])}}}", cls.subject)
    return EPHEMERAL_PREFIX + path if cls.ephemeral else path


def rooms(cls: type[Event]) -> list[str]:
    """The rooms the event goes to, outermost first."""
    tokens = subject(cls).removeprefix(EPHEMERAL_PREFIX).split(".")
    return [f"{kind}:{id_}" for kind, id_ in zip(tokens[::2], tokens[1::2], strict=False)]


def kind(schema: dict[str, Any]) -> str:
    """A field's type in words."""
    options = schema.get("anyOf", [schema])
    return " or ".join(_kind(option) for option in options)


def _section(cls: type[Event]) -> str:
    schema = payload_schema(cls)
    required = schema.get("required", [])
    fields = "".join(
        f"| `{name}` | {kind(field)}{'' if name in required else ', *optional*'} |\n"
        for name, field in schema["properties"].items()
    )
    notes = "Not stored and without an offset: who is not connected does not hear it.\n\n" if cls.ephemeral else ""
    body = json.dumps(example(cls), indent=2, ensure_ascii=False)
    return f"""\
## {cls.type}

{inspect.cleandoc(cls.__doc__ or "")}

* version: {cls.version}
* subject: `{subject(cls)}`
* rooms: {", ".join(f"`{room}`" for room in rooms(cls))}

{notes}| payload | |
|---|---|
{fields}
```json
{body}
```
"""


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    match schema.get("type"):
        case "string" if schema.get("format") == "date-time":
            return "moment"
        case "string" if "pattern" in schema:
            return "id"
        case "string":
            return f"text of up to {schema['maxLength']:,} characters" if "maxLength" in schema else "text"
        case "integer":
            return f"whole number from {schema['minimum']}" if "minimum" in schema else "whole number"
        case "boolean":
            return "`true` or `false`"
        case "array":
            return f"list of {kind(schema.get('items', {}))}"
        case "null":
            return "`null`"
        case other:
            return str(other or "anything")


def _anchor(title: str) -> str:
    """The fragment under which GitHub finds a heading."""
    return title.replace(".", "")
