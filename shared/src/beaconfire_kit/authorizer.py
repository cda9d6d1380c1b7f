"""The contract between auth and an authorizer: an application that decides who may see its roots.

Auth asks with a signed `POST` (`beaconfire_kit.webhooks`):

    {"userId": "shop-alice", "issuer": "shop", "sub": "alice", "roots": ["depot:d1", "depot:d2"]}

and the authorizer answers with 200, within a second, and in 64 KiB at most:

    {"version": 17, "roles": {"depot:d1": "editor", "depot:d2": null}}
"""

import ipaddress
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from beaconfire_kit.roles import Role
from beaconfire_kit.secret_files import Secret, read_secrets
from beaconfire_kit.setting_types import HttpAddress
from beaconfire_kit.subjects import is_id, is_reserved

TIMEOUT_S = 1.0
MAX_ANSWER_BYTES = 64 * 1024
MAX_ROOTS = 200
"""Roots in one question."""


def _check_kind(kind: str) -> str:
    if not is_id(kind) or is_reserved(kind) or kind == "user":
        raise ValueError(f"{kind[:64]!r} is not a kind of root that an authorizer can decide about")
    return kind


class AuthorizerSetting(BaseModel):
    """One authorizer, as auth's setting names it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )

    root_kind: Annotated[str, AfterValidator(_check_kind)]
    url: HttpAddress
    secret_files: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1, max_length=2)
    """Files with the secrets that sign questions, in base64: one, or two while it is changed."""

    @model_validator(mode="after")
    def _check(self) -> "AuthorizerSetting":
        self.read_secrets()
        return self

    def read_secrets(self) -> Sequence[Secret]:
        """Read the secrets. Raises ValueError."""
        return read_secrets(self.secret_files, "base64")

    @property
    def is_private(self) -> bool:
        """Whether nobody on the network can answer in the authorizer's name: it has TLS, or is on this machine."""
        parts = urlsplit(self.url)
        return parts.scheme == "https" or _is_loopback(parts.hostname or "")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Question(BaseModel):
    """May this user see these roots? `issuer` and `sub` are an outside issuer's own name for the user."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, validate_by_name=True, serialize_by_alias=True)

    user_id: str
    issuer: str | None = None
    sub: str | None = None
    roots: tuple[str, ...]


class Answer(BaseModel):
    """The user's role in each root, or none.

    `version` counts the changes that the authorizer has made. It never goes down. An authorizer without such a count
    leaves it out.
    """

    model_config = ConfigDict(frozen=True)

    version: StrictInt = Field(0, ge=0, le=2**53)
    roles: Mapping[str, Role | None]


class InvalidAnswer(ValueError):
    """The answer breaks the contract. The text says how, without the answer's content."""


def read_answer(body: bytes, roots: Collection[str]) -> Answer:
    """Read an answer to a question about these roots; others are dropped. Raises InvalidAnswer."""
    try:
        answer = Answer.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step)[:80] for step in first["loc"])
        raise InvalidAnswer(f"{where or 'the body'}: {first['msg']}") from None
    if missing := sorted(set(roots) - set(answer.roles)):
        raise InvalidAnswer(f"roles: {missing[0]} was asked for and is missing: answer null if the user has no role")
    return Answer(version=answer.version, roles={root: answer.roles[root] for root in roots})
