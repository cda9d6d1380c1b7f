"""Types and limits of the fields in bodies and answers."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from beaconfire_kit.models import CamelModel
from beaconfire_kit.subjects import ID_PATTERN
from beaconfire_kit.web import LINE

_ANY = r"^[^\x00]*$"  # PostgreSQL does not accept NUL

Id = Annotated[str, StringConstraints(pattern=f"^{ID_PATTERN}$")]
Line = Annotated[str, StringConstraints(max_length=200, pattern=LINE), AfterValidator(str.strip)]
"""A name or a title."""
Detail = Annotated[str, StringConstraints(max_length=500, pattern=_ANY), AfterValidator(str.strip)]
Text = Annotated[str, StringConstraints(max_length=10_000, pattern=_ANY)]
Message = Annotated[str, StringConstraints(min_length=1, max_length=4_000, pattern=r"^[^\x00]*[^\x00\s][^\x00]*$")]


class Thing(CamelModel):
    """The fields that every thing in an answer has. It is created from a row."""

    id: str
    revision: int
    created_at: datetime
    updated_at: datetime
