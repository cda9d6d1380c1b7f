"""`beaconfire keys …` and `beaconfire service-token …`: what auth signs with, and tokens of services."""

import json
from typing import Annotated
from urllib.parse import quote

import typer

from beaconfire import operating
from beaconfire.data_folder import DataFolder
from beaconfire.operating import auth_operator
from beaconfire.options import DATA, AsJson, AuthOps, Data, OperatorToken
from beaconfire.tables import print_table

keys = typer.Typer(help="List, rotate and retire the keys that sign tokens.", no_args_is_help=True)
service_tokens = typer.Typer(
    help="Issue, list and revoke tokens of services that publish events or manage access.", no_args_is_help=True
)


@keys.command("list")
def list_keys(
    as_json: AsJson = False, auth_ops: AuthOps = None, operator_token: OperatorToken = None, data: Data = DATA
) -> None:
    """List the keys: which one signs, which ones only verify, and until when."""
    found = auth_operator(DataFolder(data), auth_ops, operator_token).get("keys")["keys"]
    print(json.dumps(found)) if as_json else print_table(operating.keys_table(found))


@keys.command()
def rotate(
    lead: Annotated[
        int | None,
        typer.Option(min=0, help="Seconds that verifiers see the key before it signs. Default: auth's setting."),
    ] = None,
    auth_ops: AuthOps = None,
    operator_token: OperatorToken = None,
    data: Data = DATA,
) -> None:
    """Create a new signing key and print its id. The old key verifies until its last token has expired."""
    body = {} if lead is None else {"leadS": lead}
    print(auth_operator(DataFolder(data), auth_ops, operator_token).post("keys", body)["key"]["kid"])


@keys.command()
def retire(kid: str, auth_ops: AuthOps = None, operator_token: OperatorToken = None, data: Data = DATA) -> None:
    """Destroy a leaked key. Every token that it signed becomes invalid.

    The key that signs now cannot be retired: run `beaconfire keys rotate --lead 0` first.
    """
    auth_operator(DataFolder(data), auth_ops, operator_token).delete(f"keys/{quote(kid, safe='')}")


@service_tokens.command()
def issue(
    service: Annotated[str, typer.Argument(help="Name of the service. It becomes the `source` of its events.")],
    publish: Annotated[
        list[str],
        typer.Argument(
            help="Subjects that it may publish, e.g. `campaign.*.settlement.>`. "
            "`campaign.*.member.*` and `user.*.access` let it manage access.",
            metavar="SUBJECT…",
        ),
    ],
    days: Annotated[int, typer.Option(min=1, max=366, help="Days until the token expires.")] = 90,
    auth_ops: AuthOps = None,
    operator_token: OperatorToken = None,
    data: Data = DATA,
) -> None:
    """Create a token for a service and print it. It is not stored and cannot be shown again."""
    body = {"service": service, "publish": publish, "expiresInS": days * 86_400}
    print(auth_operator(DataFolder(data), auth_ops, operator_token).post("service-tokens", body)["token"])


@service_tokens.command("list")
def list_service_tokens(
    as_json: AsJson = False, auth_ops: AuthOps = None, operator_token: OperatorToken = None, data: Data = DATA
) -> None:
    """List the tokens of services: what they may publish, until when, and when they were last used."""
    found = auth_operator(DataFolder(data), auth_ops, operator_token).get("service-tokens")["serviceTokens"]
    print(json.dumps(found)) if as_json else print_table(operating.service_tokens_table(found))


@service_tokens.command()
def revoke(
    token_id: Annotated[str, typer.Argument(help="Id of the token, from `service-token list`.", metavar="ID")],
    auth_ops: AuthOps = None,
    operator_token: OperatorToken = None,
    data: Data = DATA,
) -> None:
    """Revoke a service's token. The service's next request is refused."""
    auth_operator(DataFolder(data), auth_ops, operator_token).delete(f"service-tokens/{quote(token_id, safe='')}")
