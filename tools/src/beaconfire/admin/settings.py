"""Settings of the admin page."""

from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from beaconfire_kit.setting_types import HttpAddress
from beaconfire_kit.settings import AnswersOperators, BehindProxies, variable
from beaconfire_kit.weak_secrets import MIN_KEY, weakness


class Settings(BehindProxies, AnswersOperators):
    """The settings of the admin page. `nats_user` is the broker user `operator`."""

    port: int = Field(8090, ge=0, le=65535, description="The port of the page; 0 uses a free one")
    operator_read_token: SecretStr = Field(
        SecretStr(""),
        description="The token with which an operator may look at the page and change nothing; if empty, there is no "
        "such token",
    )
    gateway_ops: Annotated[tuple[HttpAddress, ...], NoDecode] = Field(
        (),
        description="Addresses of the operations ports of gateways, comma-separated; all addresses of a host name are "
        "asked",
    )
    auth_ops: Annotated[tuple[HttpAddress, ...], NoDecode] = Field(
        (), description="Addresses of the operations ports of auth, comma-separated; any process can answer about keys"
    )
    publisher_ops: Annotated[tuple[HttpAddress, ...], NoDecode] = Field(
        (),
        description="Addresses of the operations ports of the publisher and of all other services with an outbox, "
        "comma-separated",
    )
    publisher_password: SecretStr = Field(
        SecretStr(""),
        description="The password of the broker user `publisher`, to replay dead letters; if empty, they cannot be "
        "replayed",
    )

    @field_validator("gateway_ops", "auth_ops", "publisher_ops", mode="before")
    @classmethod
    def _split_addresses(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(dict.fromkeys(one.strip().rstrip("/") for one in value.split(",") if one.strip()))

    @model_validator(mode="after")
    def _check_tokens(self) -> Self:
        """Refuse to start without an operator token: nobody could open the page."""
        if not self.operator_token.get_secret_value():
            name = variable("operator_token")
            raise ValueError(f"{name}: is empty: `openssl rand -hex 24` makes one; give it to auth, too")
        if self.operator_token.get_secret_value() == self.operator_read_token.get_secret_value():
            name = variable("operator_read_token")
            raise ValueError(f"{name}: is the operator token, which may do everything: choose another")
        return self

    def weak_secrets(self) -> Iterator[tuple[str, str]]:
        yield from super().weak_secrets()
        token = self.operator_read_token.get_secret_value()
        if token and (weak := weakness(token, min_length=MIN_KEY)):
            yield "operator_read_token", f"{weak}: `openssl rand -hex 24` makes one; empty, there is none"
