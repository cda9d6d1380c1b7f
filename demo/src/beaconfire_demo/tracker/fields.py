"""Types and limits of the fields in bodies and answers."""

from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, StringConstraints

from beaconfire_kit.models import CamelModel
from beaconfire_kit.web import LINE

Name = Annotated[str, StringConstraints(max_length=200, pattern=LINE), AfterValidator(str.strip)]
TeamKey = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9]{1,7}$")]
"""What the identifiers of a team's issues begin with: `ENG` for `ENG-12`."""
Description = Annotated[str, StringConstraints(max_length=10_000, pattern=r"^[^\x00]*$")]
Comment = Annotated[str, StringConstraints(min_length=1, max_length=5_000, pattern=r"^[^\x00]*[^\s\x00][^\x00]*$")]
Status = Literal["backlog", "todo", "started", "review", "done", "canceled"]
Priority = Literal["none", "low", "medium", "high", "urgent"]
ProjectStatus = Literal["planned", "started", "paused", "completed", "canceled"]


def _check_day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError(f"{text!r} is no day, like 2030-01-31") from None


Day = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"), AfterValidator(_check_day)]


class Thing(CamelModel):
    """The fields that every thing in an answer has. It is created from a row."""

    id: str
    revision: int
    created_at: datetime
    updated_at: datetime
