"""Types of the fields of auth's requests."""

from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from beaconfire_auth.email_addresses import EmailAddress, known_address, new_address
from beaconfire_kit.names import display_name
from beaconfire_kit.web import LINE


def _read(read: Callable[[str], EmailAddress]) -> Callable[[object], EmailAddress]:
    def validate(value: object) -> EmailAddress:
        if not isinstance(value, str):
            raise ValueError("not an e-mail address: it is not a text")
        return read(value)

    return validate


_EMAIL_SCHEMA = WithJsonSchema({"type": "string", "format": "email", "maxLength": 254})

NewEmail = Annotated[EmailAddress, BeforeValidator(_read(new_address)), _EMAIL_SCHEMA]
Email = Annotated[EmailAddress, BeforeValidator(_read(known_address)), _EMAIL_SCHEMA]
"""An address that may already belong to an account."""
Name = Annotated[
    str,
    AfterValidator(display_name),
    Field(json_schema_extra={"maxLength": 200, "pattern": LINE, "description": "Printable characters"}),
]
NewPassword = Annotated[str, Field(min_length=8, max_length=200)]
RefreshToken = Annotated[str, Field(min_length=1, max_length=200)]
