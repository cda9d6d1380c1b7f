"""Describe an outside issuer: an identity provider or an application whose tokens are accepted.

    {"name": "acme", "issuer": "https://id.acme.example/", "audience": "beaconfire",
     "jwksUrl": "https://id.acme.example/.well-known/jwks.json"}

    {"name": "shop", "issuer": "shop", "audience": "beaconfire", "secretFiles": ["/run/secrets/shop"],
     "grants": {"depot:*": "editor"}}

`beaconfire_kit.outside_tokens` verifies such tokens.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from beaconfire_kit.roles import Role
from beaconfire_kit.room_templates import RoomTemplateText
from beaconfire_kit.secret_files import SHARED, Encoding, read_secrets
from beaconfire_kit.setting_types import OptionalHttpAddress, TidyText
from beaconfire_kit.subjects import ID_PATTERN, is_reserved

Algorithm = Literal["EdDSA", "RS256", "ES256", "HS256"]
MAX_SECRETS = 2

_ROOT_PATTERN = re.compile(rf"({ID_PATTERN}):({ID_PATTERN}|[A-Za-z0-9_-]{{0,63}}\*)")


def _check_pattern(text: str) -> str:
    found = _ROOT_PATTERN.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:80]!r} is not a pattern of roots: write depot:*, depot:eu-* or depot:d1")
    if found[1] == "user":
        raise ValueError("no issuer may grant a user's root: every user owns their own, and nobody else's")
    if is_reserved(found[1]):
        raise ValueError(f"{text[:80]!r}: no root has the kind {found[1]}, which is reserved")
    return text


RootPattern = Annotated[str, AfterValidator(_check_pattern)]
"""Roots of one kind: `depot:*`, those whose id starts alike (`depot:eu-*`), or one (`depot:d1`)."""


class OutsideIssuer(BaseModel):
    """An outside issuer, as the setting names it. Each field that loosens a check has the strict value by default."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )

    name: str = Field(pattern=r"^[a-z0-9]{1,20}$")
    """Our name for the issuer. The ids of its users start with it."""
    issuer: TidyText = Field(min_length=1, max_length=500)
    audience: TidyText = Field("", max_length=500)
    jwks_url: OptionalHttpAddress = ""
    secret_files: tuple[Annotated[str, Field(min_length=1)], ...] = Field((), max_length=MAX_SECRETS)
    """Files with the secrets of HS256: one, or two while it is changed. A changed file is read within a minute."""
    secret_encoding: Encoding = "text"  # noqa: S105
    algorithms: tuple[Algorithm, ...] = Field(("RS256",), min_length=1)
    types: tuple[str, ...] = Field(("at+jwt", "JWT"), min_length=1)
    user_claim: str = Field("sub", min_length=1)
    name_claim: str = "name"
    max_lifetime_s: int = Field(3_600, ge=60, le=86_400)
    require_kid: bool = True
    """Whether a token must name its key. No shared secret has a name, so `kid` is ignored with them."""
    require_typ: bool = True
    require_aud: bool = True
    require_iat: bool = True
    """Without `iat`, a token counts as issued `max_lifetime_s` before its end."""
    grants_claim: str = Field("beaconfire", min_length=1, max_length=200)
    grants: Mapping[RootPattern, Role] = Field({}, max_length=100)
    """The roots that the issuer's tokens may grant access to, each with the highest role. By default none."""
    automatic_rooms: tuple[RoomTemplateText, ...] = Field((), max_length=20)
    """The rooms that sessions of the issuer's users join at connect, in every dialect."""

    @model_validator(mode="before")
    @classmethod
    def _choose_algorithms(cls, values: object) -> object:
        """Choose HS256 if there are secrets and no algorithm is named."""
        if not isinstance(values, Mapping) or "algorithms" in values:
            return values
        secrets = values.get("secretFiles") or values.get("secret_files")
        return {**values, "algorithms": (SHARED,)} if secrets else values

    @model_validator(mode="after")
    def _check(self) -> "OutsideIssuer":
        if bool(self.jwks_url) == bool(self.secret_files):
            raise ValueError(f"{self.name}: give either jwksUrl or secretFiles")
        others = sorted({*self.algorithms} - {SHARED})
        if self.secret_files and others:
            raise ValueError(f"{self.name}: {', '.join(others)} needs jwksUrl: a secret only signs {SHARED}")
        if self.jwks_url and SHARED in self.algorithms:
            raise ValueError(
                f"{self.name}: {SHARED} needs secretFiles: with a key from a JWKS, which is public, anybody could sign"
            )
        given = self.model_fields_set
        if self.secret_files and "require_kid" in given:
            raise ValueError(f"{self.name}: requireKid has no effect on secretFiles, which have no names: remove it")
        if self.jwks_url and "secret_encoding" in given:
            raise ValueError(f"{self.name}: secretEncoding has no effect without secretFiles: remove it")
        if "grants_claim" in given and not self.grants:
            raise ValueError(f"{self.name}: grantsClaim has no effect without grants: say what the issuer may grant")
        if self.require_aud and not self.audience:
            raise ValueError(f"{self.name}: name the audience, or set requireAud to false")
        read_secrets(self.secret_files, self.secret_encoding)
        return self

    def user_id(self, claim: str) -> str:
        """Return the id of the user with this value of `user_claim`: always the same, and only this user has it."""
        plain = f"{self.name}-{claim}"
        if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", plain):
            return plain
        return f"{self.name}_{hashlib.sha256(claim.encode()).hexdigest()[:40]}"

    def highest_grant(self, root: str) -> Role | None:
        """Return the highest role that the issuer may grant in a root (`depot:d1`), or None."""
        return Role.highest(role for pattern, role in self.grants.items() if _matches(pattern, root))


def _matches(pattern: str, root: str) -> bool:
    return root.startswith(pattern[:-1]) if pattern.endswith("*") else root == pattern
