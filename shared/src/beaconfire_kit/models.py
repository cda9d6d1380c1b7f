"""Base classes of camelCase models. Python is snake_case, JSON is camelCase, and pydantic translates here.

class NewQuest(Body):
    text: Annotated[str, Field(min_length=1, max_length=500)]

class Quest(CamelModel):
    id: str
    campaign_id: str

wanted = await read_body(request, NewQuest)                     # `beaconfire_kit.web`
return json_answer(Quest.model_validate(row))                   # {"id": …, "campaignId": …}
"""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class CamelModel(BaseModel):
    """A message that services exchange or a caller gets: read and written in camelCase."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, serialize_by_alias=True
    )


class Body(BaseModel):
    """The body of a request. Strict: no value is converted, and an unknown field is refused.

    `model_dump` gives the names of the columns, in snake_case.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
    )
