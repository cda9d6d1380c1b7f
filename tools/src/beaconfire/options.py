"""Options that several commands have, and the broker's users that they connect as."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from beaconfire.broker_users import PUBLISHER, password_variable
from beaconfire.data_folder import DataFolder, DataFolderUnusable
from beaconfire_kit.setting_files import secret_given
from beaconfire_kit.settings import ENV_PREFIX, Settings, read_settings, variable


def or_in_file(name: str) -> Callable[[str | None], str | None]:
    """Return a callback that reads an option from the file that `BEACONFIRE_…_FILE` names, if it is not given."""

    def read(given: str | None) -> str | None:
        try:
            in_file = secret_given(variable(name), os.environ)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        return given or in_file

    return read


Data = Annotated[Path, typer.Option(help="Data folder of the running `beaconfire up`.")]
DATA = Path(".beaconfire")
AuthOps = Annotated[
    str | None, typer.Option(help="URL of auth's operations port. Default: that of the running `beaconfire up`.")
]
OperatorToken = Annotated[
    str | None,
    typer.Option(
        envvar=f"{ENV_PREFIX}OPERATOR_TOKEN",
        callback=or_in_file("operator_token"),
        help="The operator token of auth and the gateways. Default: that of the running `beaconfire up`.",
    ),
]
Because = Annotated[str | None, typer.Option(metavar="TEXT", help="Why you delete this. It is logged, with your name.")]
MAX_WHY = 200
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def reason_given(because: str | None) -> str:
    """Return why something is deleted. Raises BadParameter if that is missing or too long."""
    why = (because or "").strip()
    if not 0 < len(why) <= MAX_WHY:
        raise typer.BadParameter(f"say why, in 1 to {MAX_WHY} characters", param_hint="--because")
    return why


def has_broker_settings() -> bool:
    """Return whether the environment names a broker."""
    return "nats_url" in Settings().model_fields_set


def as_user(user: str, folder: DataFolder) -> Settings:
    """Return settings for the broker: those of the environment, or else the running `up` with this broker user."""
    if has_broker_settings():
        return read_settings(Settings)
    return Settings(
        environment="development",
        nats_url=folder.running().nats_url,
        nats_user=user,
        nats_password=SecretStr(folder.passwords()[user]),
    )


def as_publisher(folder: DataFolder) -> Settings:
    """Return settings for the same broker as the publisher, whose password has a variable of its own there.

    Raises DataFolderUnusable.
    """
    if not has_broker_settings():
        return as_user(PUBLISHER, folder)
    try:
        password = os.environ.get(password_variable(PUBLISHER)) or secret_given(
            password_variable(PUBLISHER), os.environ
        )
    except ValueError as error:
        raise DataFolderUnusable(str(error)) from None
    if not password:
        raise DataFolderUnusable(f"set {password_variable(PUBLISHER)}: the broker user `publisher` publishes events")
    return read_settings(Settings, nats_user=PUBLISHER, nats_password=SecretStr(password))
