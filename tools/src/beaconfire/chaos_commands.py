"""`beaconfire chaos …`: kill or freeze a process of the running `beaconfire up`."""

from typing import Annotated

import typer

from beaconfire.chaos import send_signal
from beaconfire.data_folder import DataFolder
from beaconfire.options import DATA, Data

app = typer.Typer(
    help="Kill or freeze a process of the running `beaconfire up`, to see that no event is lost.", no_args_is_help=True
)


Part = Annotated[
    str,
    typer.Argument(help="Name of the process, as `beaconfire up` prints it: `broker`, `gateway-1`, …", metavar="NAME"),
]


@app.command()
def kill(name: Part, data: Data = DATA) -> None:
    """Kill a process as a crash would (SIGKILL). `beaconfire up` restarts it a second later."""
    print(send_signal(DataFolder(data), name, "kill"))


@app.command()
def freeze(name: Part, data: Data = DATA) -> None:
    """Freeze a process (SIGSTOP). Its connections stay open, but it answers nothing."""
    print(send_signal(DataFolder(data), name, "freeze"))


@app.command()
def thaw(name: Part, data: Data = DATA) -> None:
    """Let a frozen process continue (SIGCONT)."""
    print(send_signal(DataFolder(data), name, "thaw"))
