"""Types of the values of settings: checked texts and addresses."""

import re
from collections.abc import Sequence
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

HTTP = ("http", "https")


def check_address(value: str, schemes: Sequence[str]) -> str:
    """Return the address unchanged. Raises ValueError if its scheme is not one of these, or if it has no host."""
    try:
        parts = urlsplit(value)
        if parts.scheme in schemes and parts.hostname and parts.port != 0 and not re.search(r"\s", value):
            return value
    except ValueError:  # a port that is not a number, half an IPv6 address
        pass
    raise ValueError(f"{value!r} is not an address that starts with {' or '.join(f'{one}://' for one in schemes)}")


def check_ends(text: str) -> str:
    """Return the text unchanged. Raises ValueError if it starts or ends with white space."""
    if text != text.strip():
        raise ValueError("starts or ends with white space: remove it")
    return text


TidyText = Annotated[str, AfterValidator(check_ends)]
"""A text without white space at its ends."""
HttpAddress = Annotated[str, AfterValidator(lambda value: check_address(value, HTTP))]
"""The address of something that the service fetches."""
OptionalHttpAddress = Annotated[str, AfterValidator(lambda value: check_address(value, HTTP) if value else value)]
