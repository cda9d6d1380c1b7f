"""What may stand in a field of auth's requests."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from shared.web import LINE

_EMAIL = re.compile(r"[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f.]+(\.[^@\s\x00-\x1f.]+)*")


def _email(text: str) -> str:
    """An address as it is stored and compared: trimmed, lower case. Whether it exists only a message could tell."""
    address = text.strip().lower()
    if len(address) > 254 or not _EMAIL.fullmatch(address):
        raise ValueError("not an e-mail address")
    return address


def _name(text: str) -> str:
    name = text.strip()
    if not 1 <= len(name) <= 200 or not name.isprintable():
        raise ValueError("a name has 1 to 200 printable characters")
    return name


Email = Annotated[str, AfterValidator(_email), Field(json_schema_extra={"format": "email", "maxLength": 254})]
Name = Annotated[
    str,
    AfterValidator(_name),
    Field(json_schema_extra={"maxLength": 200, "pattern": LINE, "description": "Printable characters"}),
]
NewPassword = Annotated[str, Field(min_length=8, max_length=200)]
RefreshToken = Annotated[str, Field(min_length=1, max_length=200)]
