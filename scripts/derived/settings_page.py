"""Write `docs/reference/settings.md`: the environment variables of each service."""

import json
import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from beaconfire.service_settings import settings_classes, variables
from beaconfire_kit.setting_files import SUFFIX, may_be_in_file
from beaconfire_kit.settings import Settings
from beaconfire_kit.trace_settings import trace_variables

HEAD = """\
# Settings

The [glossary](../../PROTOCOL.md#1-words) explains words such as room, event, session, gateway, broker, stream, offset,
cursor, outbox, catalogue and operations port.

Written by `make generate` from the `Settings` classes. Do not edit.

A service reads its settings from environment variables once, when it starts. If a value is wrong, the service prints
the variable's name and does not start. `beaconfire up` and `docker-compose.yml` already set the addresses of the
services.

A setting with `…_FILE` in its type may also come [from a file](../howto/secrets.md): `BEACONFIRE_NATS_PASSWORD_FILE`
has the path of the file with the password.
"""

TRACES = """\
## Traces

These settings are for every service. OpenTelemetry defines their names. [Trace a change](../howto/trace_a_change.md)
says how to use them.
If traces are on, OpenTelemetry's library also reads its other variables, such as `OTEL_EXPORTER_OTLP_HEADERS`.

"""

_FOLDERS = {"authorizers": "topics"}
"""The folder of each page that a description names, if it is not `howto`."""


def settings_page() -> str:
    """Return the whole page: the settings of every service, then what each service adds or has another default for."""
    parts = [HEAD, _section("Every service", Settings, besides=None)]
    parts += [_section(name.capitalize(), cls, besides=Settings) for name, cls in settings_classes().items()]
    return "\n".join([*parts, TRACES + _table(trace_variables())])


def _section(title: str, cls: type[Settings], *, besides: type[Settings] | None) -> str:
    known = variables(besides) if besides else {}
    own = {
        name: field
        for name, field in variables(cls).items()
        if name not in known or _default(known[name]) != _default(field)
    }
    return f"## {title}\n\n" + (_table(own) if own else "No further settings.\n")


def _table(fields: Mapping[str, FieldInfo]) -> str:
    rows = "".join(
        f"| `{name}` | {_type(field.annotation)}{_in_file(field)} | {_default(field)} | "
        f"{_linked(field.description or '')} |\n"
        for name, field in fields.items()
    )
    return f"| variable | type | default | meaning |\n|---|---|---|---|\n{rows}"


def _linked(text: str) -> str:
    """Turn the name of a page into a link."""
    return re.sub(r"\b(\w+)\.md\b", lambda page: f"[{page[0]}](../{_FOLDERS.get(page[1], 'howto')}/{page[0]})", text)


def _in_file(field: FieldInfo) -> str:
    return f", `…{SUFFIX}`" if may_be_in_file(field) else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "*must be set*"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, tuple | list):
        value = ",".join(str(one) for one in value)
    if isinstance(value, Mapping):
        return f"`{json.dumps(value)}`"
    if value is None or value == "":
        return "empty"
    return f"`{json.dumps(value)}`" if isinstance(value, bool | int | float) else f"`{value}`"


def _type(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if origin in (Union, UnionType):
        return " or ".join(_type(one) for one in get_args(annotation) if one is not NoneType)
    if origin in (tuple, list):
        return "list"
    if origin is Mapping:
        return "object"
    names = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "true or false",
        SecretStr: "secret",
        Path: "path",
    }
    return names.get(annotation, getattr(annotation, "__name__", "text"))
