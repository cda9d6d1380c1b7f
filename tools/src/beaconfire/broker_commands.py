"""`beaconfire broker …`: the configuration of a deployment's nats-server."""

from pathlib import Path
from typing import Annotated

import typer

from beaconfire.broker_config import container_config
from beaconfire.catalogue_access import read_sources, roots_of
from beaconfire.publishers_file import read_publishers

app = typer.Typer(help="Write the configuration of nats-server.", no_args_is_help=True)

Catalogue = Annotated[
    list[Path] | None,
    typer.Option("--catalogue", help="A fragment of the catalogue whose roots the publisher may use. Can be repeated."),
]


@app.callback()
def broker() -> None:
    """Keep `config` a command of its own, although it is the only one."""


@app.command()
def config(
    catalogue: Catalogue = None,
    publishers: Annotated[
        Path | None, typer.Option(help="A file with further publishers (docs/howto/deploy.md).")
    ] = None,
    cluster: Annotated[bool, typer.Option("--cluster", help="For each server of a cluster.")] = False,
    passwords: Annotated[
        str, typer.Option(help="Name of a file beside the configuration, from which nats-server reads passwords.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="The file to write. Default: the standard output.")] = None,
) -> None:
    """Write a configuration that enforces the permissions of all broker users.

    It is for a container, as `deploy/nats` has it. Passwords are in the environment of nats-server, or with
    `--passwords` in a file that it reads again at each reload.

    A running nats-server takes a changed configuration over at a signal, and no connection is closed:
    `nats-server --signal reload=PID`, or `docker compose kill -s HUP nats`.
    """
    text = container_config(
        cluster=cluster,
        roots=roots_of(read_sources(catalogue or [])),
        publishers=read_publishers(publishers) if publishers else (),
        include=passwords,
    )
    if out is None:
        print(text, end="")
    else:
        out.write_text(text)
