"""`beaconfire limits …`: see what remains of a user's limits, and reset them, on every gateway."""

import json
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from beaconfire.api import call
from beaconfire.data_folder import DataFolder
from beaconfire.gateways import GatewayOps, addresses_of, ask_all
from beaconfire.operating import user_id_of
from beaconfire.options import DATA, AsJson, AuthOps, Data, OperatorToken
from beaconfire.tables import listing, print_table

app = typer.Typer(help="See what remains of a user's limits on each gateway, and reset them.", no_args_is_help=True)


@app.command()
def show(
    user: Annotated[str, typer.Argument(help="User id or e-mail address.")],
    gateway_ops: GatewayOps = None,
    auth_ops: AuthOps = None,
    operator_token: OperatorToken = None,
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """List a user's clients, with what each may still send in this minute."""
    user_id = user_id_of(user, DataFolder(data), auth_ops, operator_token)
    path = f"users/{quote(user_id, safe='')}/clients"
    answers = ask_all(addresses_of(gateway_ops, data), lambda url: call("GET", f"{url}/api/v1/ws/{path}"))
    clients = [{**one, "gateway": url} for url, answer in answers.items() for one in answer["clients"]]
    if as_json:
        print(json.dumps({"clients": clients}))
        return
    rows = [[one["sessionId"], one["address"], one["transport"], _remaining(one), one["gateway"]] for one in clients]
    print_table(listing(["session", "address", "transport", "remaining", "gateway"], rows, whole=["session"]))


@app.command()
def reset(
    user: Annotated[
        str | None, typer.Option(help="User id or e-mail address: all clients of the user get their full limits.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="IP address: its invalid tokens are forgotten. For sign-ins: `reset-attempts`.")
    ] = None,
    gateway_ops: GatewayOps = None,
    auth_ops: AuthOps = None,
    operator_token: OperatorToken = None,
    data: Data = DATA,
) -> None:
    """Let a user, or the clients of an address, send again at once."""
    if user is not None:
        user = user_id_of(user, DataFolder(data), auth_ops, operator_token)
    wanted = {name: value for name, value in (("user", user), ("address", address)) if value is not None}
    if not wanted:
        raise typer.BadParameter("give --user, --address, or both")
    path = f"/api/v1/ws/reset-limits?{urlencode(wanted)}"
    answers = ask_all(addresses_of(gateway_ops, data), lambda url: call("POST", f"{url}{path}"))
    print(f"Reset on {len(answers)} gateways: {sum(one['clients'] for one in answers.values())} clients.")


def _remaining(client: dict[str, Any]) -> str:
    return "\n".join(f"{name}: {left}" for name, left in client["remaining"].items())
