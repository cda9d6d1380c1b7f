"""Run the admin page: `beaconfire admin`, with settings from `BEACONFIRE_…`, or for the running `beaconfire up`."""

from typing import Any

import uvloop
from pydantic import SecretStr
from rich.console import Console
from rich.text import Text

from beaconfire.admin.app import build
from beaconfire.admin.settings import Settings
from beaconfire.broker_users import PUBLISHER
from beaconfire.data_folder import OPERATOR_TOKEN, DataFolder
from beaconfire.options import has_broker_settings
from beaconfire_kit import logs
from beaconfire_kit.serving import serve
from beaconfire_kit.settings import read_settings


def run(folder: DataFolder, *, host: str | None, port: int | None, console: Console) -> None:
    """Run the page until SIGTERM or SIGINT. Raises DataFolderUnusable."""
    chosen = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    if has_broker_settings():
        settings = read_settings(Settings, **chosen)
        logs.configure("admin", level=settings.log_level, format=settings.log_format)
    else:
        settings = of_running(folder, **chosen)
        logs.configure("admin", level="warning", format="console")
        console.print(Text.assemble("Open  ", (link(settings), "bold underline cyan")), soft_wrap=True)
        console.print("The address contains the operator token. Ctrl-C stops the page.", style="dim")
        console.file.flush()  # a program may read it
    uvloop.run(serve(build(settings), settings, name="admin"))


def of_running(folder: DataFolder, **chosen: Any) -> Settings:
    """Return the settings for the running `beaconfire up`. Raises DataFolderUnusable."""
    running, passwords = folder.running(), folder.passwords()
    outboxes = {PUBLISHER, *running.application_urls}
    return Settings(
        environment="development",
        nats_url=running.nats_url,
        nats_user="operator",
        nats_password=SecretStr(passwords["operator"]),
        publisher_password=SecretStr(passwords[PUBLISHER]),
        operator_token=SecretStr(passwords[OPERATOR_TOKEN]),
        gateway_ops=tuple(running.gateway_ops_urls),
        auth_ops=(running.auth_ops_url,),
        publisher_ops=tuple(url for name, url in running.ops_urls.items() if name in outboxes),
        **chosen,
    )


def link(settings: Settings) -> str:
    """Return the address that signs in. Browsers send no fragment, so the token is in no log."""
    return f"http://{settings.host}:{settings.port}/#token={settings.operator_token.get_secret_value()}"
