"""`beaconfire why`, `event`, `user show`, `sessions`, `tail`: follow a change to a user, and see what is connected."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from beaconfire import tailing
from beaconfire.api import call
from beaconfire.data_folder import OPERATOR_TOKEN, DataFolder, DataFolderUnusable
from beaconfire.deadletters import without_secrets
from beaconfire.evidence import Evidence
from beaconfire.gateways import GatewayOps, addresses_of, ask_all
from beaconfire.investigation import LOOK_BACK, Deployment, investigate
from beaconfire.listening import printable
from beaconfire.migrate import databases_of
from beaconfire.operating import auth_operator, user_id_of
from beaconfire.options import DATA, AsJson, AuthOps, Data, OperatorToken, as_user, has_broker_settings
from beaconfire.tables import listing, print_table
from beaconfire.why import EXIT_CODES, Answer, Step, describe, explain

MARKS: Mapping[bool | None, tuple[str, str]] = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("·", "dim")}
WORDS = {"yes": "Delivered", "no": "Not delivered", "later": "Not yet delivered", "unknown": "It cannot be known"}
STYLES = {"yes": "bold green", "no": "bold red", "later": "bold yellow", "unknown": "bold yellow"}

Event = Annotated[
    str,
    typer.Argument(
        metavar="EVENT",
        help="The event: its offset or cursor, its id, or the correlation id of the request that caused it.",
    ),
]
Services = Annotated[
    list[str] | None,
    typer.Option(
        "--service-ops",
        help="URL of the operations port of a service that writes events, to search its outbox. Repeat it for auth,"
        " the publisher and services of yours. Default: the services of the running `beaconfire up`.",
    ),
]
LookBack = Annotated[
    int,
    typer.Option(min=1, help="How many messages of the stream to search for an id that no outbox has, newest first."),
]


def why(
    user: Annotated[str, typer.Argument(metavar="USER", help="The user: an e-mail address or a user id.")],
    event: Event,
    gateway_ops: GatewayOps = None,
    auth_ops: AuthOps = None,
    operator_token: OperatorToken = None,
    service_ops: Services = None,
    look_back: LookBack = LOOK_BACK,
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Say why a user did, or did not, get an event: step by step, with a verdict and what to do.

    Exit code: 0 if it was delivered, 3 if not, 4 if it is still to come, 5 if that cannot be known (any more), and 1
    for an error. For several events of one correlation id, it is that of the first event that was not delivered.

    The broker is that of `BEACONFIRE_NATS_URL` (user `operator`) if it is set, otherwise that of the running
    `beaconfire up`.
    """
    folder = DataFolder(data)
    deployment = _deployment(folder, gateway_ops, operator_token, service_ops, look_back)
    auth = auth_operator(folder, auth_ops, operator_token)
    found = asyncio.run(investigate(replace(deployment, auth=auth), event, user))
    answers = [explain(one) for one in found]
    if as_json:
        events = [_answer_json(*one) for one in zip(found, answers, strict=True)]
        print(json.dumps({"user": _person(found[0]), "events": events}))
    else:
        _print_answers(found, answers, Console(highlight=False))
    missed = next((one for one in answers if one.delivered != "yes"), None)
    raise typer.Exit(EXIT_CODES["yes" if missed is None else missed.delivered])


def event(
    event: Event,
    gateway_ops: GatewayOps = None,
    operator_token: OperatorToken = None,
    service_ops: Services = None,
    look_back: LookBack = LOOK_BACK,
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Show an event: whether it was written, stored and accepted, where it goes, and its content.

    Text that looks like a secret is blanked. Exit code 1 means that there is no such event.

    The broker is that of `BEACONFIRE_NATS_URL` (user `operator`) if it is set, otherwise that of the running
    `beaconfire up`.
    """
    deployment = _deployment(DataFolder(data), gateway_ops, operator_token, service_ops, look_back)
    found = asyncio.run(investigate(deployment, event))
    if as_json:
        print(json.dumps({"events": [_event_json(one) for one in found]}))
    else:
        for one in found:
            _print_event(one, Console(highlight=False))
    if not any(one.subject for one in found):
        raise typer.Exit(1)


def show_user(
    user: Annotated[str, typer.Argument(metavar="USER", help="An e-mail address or a user id.")],
    auth_ops: AuthOps = None,
    operator_token: OperatorToken = None,
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Show a user: id, name, roles in roots, and what was revoked. `beaconfire user USER` is the same."""
    found = auth_operator(DataFolder(data), auth_ops, operator_token).get(f"users/{quote(user, safe='')}")["user"]
    if as_json:
        print(json.dumps(found))
        return
    rows = [
        ["user", found["userId"]],
        ["name", found["name"] + (" (has never connected)" if found["placeholder"] else "")],
        ["e-mail", found["email"]],
        ["created", found["createdAt"]],
    ]
    if found["tokensCountFrom"]:
        rows.append(["revoked", f"all tokens from before {found['tokensCountFrom']}"])
    rows += [["revoked", f"grants for {root} in tokens from before {at}"] for root, at in found["revoked"].items()]
    rows += [["role", f"{role} of {root}"] for root, role in found["roots"].items()]
    if (more := found["rootCount"] - len(found["roots"])) > 0:
        rows.append(["role", f"… and in {more} more roots"])
    print_table(_plain_rows(rows))


def sessions(
    user: Annotated[
        str | None, typer.Option(help="Only sessions of this user: a user id or an e-mail address.")
    ] = None,
    room: Annotated[
        list[str] | None, typer.Option(help="Only sessions in this room, like `campaign:c1`. Can be repeated.")
    ] = None,
    gateway: Annotated[
        str | None, typer.Option(help="Only sessions of the gateway whose address contains this text.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The most sessions of each gateway.")] = 100,
    gateway_ops: GatewayOps = None,
    auth_ops: AuthOps = None,
    operator_token: OperatorToken = None,
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """List connected sessions: who, over which transport, in how many rooms, and how far behind."""
    query: list[tuple[str, str]] = [("limit", str(limit)), *(("room", one) for one in room or [])]
    if user is not None:
        query.append(("user", user_id_of(user, DataFolder(data), auth_ops, operator_token)))
    urls = [one for one in addresses_of(gateway_ops, data) if gateway is None or gateway in one]
    answers = ask_all(urls, lambda url: call("GET", f"{url}/api/v1/ws/sessions?{urlencode(query)}"))
    found = [{**one, "gateway": url} for url, answer in answers.items() for one in answer["sessions"]]
    if as_json:
        gateways = [{**one, "gateway": url} for url, answer in answers.items() for one in answer["gateways"]]
        print(json.dumps({"gateways": gateways, "sessions": found}))
        return
    if not found:
        print("There is no such session." if user or room else "No client is connected.")
        return
    headers = ["session", "user", "transport", "dialect", "state", "offset", "rooms", "gateway"]
    print_table(listing(headers, [_session_row(one) for one in found], whole=["session", "user"]))
    total = sum(answer["total"] for answer in answers.values())
    if total > len(found):
        Console(stderr=True).print(f"{total - len(found)} more sessions are not shown. Use --user, --room or --limit")


def tail(
    room: Annotated[
        list[str] | None, typer.Option(help="Only events of this room, like `campaign:c1`. Can be repeated.")
    ] = None,
    type_: Annotated[
        list[str] | None, typer.Option("--type", metavar="TYPE", help="Only events of this type. Can be repeated.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="Only events that this user caused: a user id or an e-mail address.")
    ] = None,
    gateway_ops: GatewayOps = None,
    auth_ops: AuthOps = None,
    operator_token: OperatorToken = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each event as one line of JSON.")] = False,
    data: Data = DATA,
) -> None:
    """Print every event of the deployment as gateways hear it, until Ctrl-C. Text that looks like a secret is blanked.

    To print what one user gets, run `beaconfire listen`.
    """
    query = [("room", one) for one in room or []] + [("type", one) for one in type_ or []]
    if user is not None:
        query.append(("user", user_id_of(user, DataFolder(data), auth_ops, operator_token)))
    printer = tailing.print_json if as_json else tailing.print_readable
    token = _token(operator_token, DataFolder(data))
    asyncio.run(tailing.tail(addresses_of(gateway_ops, data), query, token, printer))


# Where to look.


def _deployment(
    folder: DataFolder,
    gateway_ops: Sequence[str] | None,
    operator_token: str | None,
    service_ops: Sequence[str] | None,
    look_back: int,
) -> Deployment:
    """Return where to look for an event. Without options that is the running `up`."""
    return Deployment(
        broker=as_user("operator", folder),
        databases=_databases(service_ops, folder),
        services=service_ops or (),
        gateways=_gateways(gateway_ops, folder.path),
        operator_token=_token(operator_token, folder),
        look_back=look_back,
    )


def _databases(services: Sequence[str] | None, folder: DataFolder) -> Mapping[str, str]:
    """Return the URLs of the databases of the running `up`, unless other services are named."""
    return {} if services or has_broker_settings() else databases_of(folder.path)


def _gateways(given: Sequence[str] | None, data: Path) -> Sequence[str]:
    """Return the gateways' addresses, none if they are not known: then the answer says so."""
    try:
        return addresses_of(given, data)
    except DataFolderUnusable:
        return ()


def _token(given: str | None, folder: DataFolder) -> str:
    """Return the operator token, empty if it is not known."""
    if given is not None:
        return given
    try:
        folder.running()
    except DataFolderUnusable:
        return ""
    return folder.passwords()[OPERATOR_TOKEN]


# Output.


def _print_answers(found: Sequence[Evidence], answers: Sequence[Answer], console: Console) -> None:
    person = found[0].user
    console.print(Text(f"{printable(person['name'])}, {person['email']}, {person['userId']}", "bold"), soft_wrap=True)
    for evidence, answer in zip(found, answers, strict=True):
        console.print()
        _print_title(evidence, console)
        _print_steps(answer.steps, console)
        for one in answer.sessions:
            where = one.gateway + (f", worker {one.worker}" if one.worker is not None else "")
            text = Text("   ").append(f"session {one.session_id}", "cyan").append(f"  {where}: ", "dim")
            console.print(text.append(printable(one.says)), soft_wrap=True)
        _print_unseen(evidence.unseen, console)
        verdict = Text().append(WORDS[answer.delivered], STYLES[answer.delivered])
        if answer.verdict != "delivered":
            verdict.append(f" ({answer.verdict})", "dim")
        verdict.append(f": {printable(answer.says)}")
        console.print(verdict, soft_wrap=True)
        if answer.advice:
            console.print(Text("→ ").append(answer.advice), soft_wrap=True)


def _print_title(found: Evidence, console: Console) -> None:
    title = Text(printable(found.type) or "An event", "bold cyan")
    if found.event_id:
        title.append(f"  {printable(found.event_id)}", "bold")
    if found.offset is not None:
        title.append(f"  offset {found.offset}", "dim")
    console.print(title, soft_wrap=True)


def _print_steps(steps: Sequence[Step], console: Console) -> None:
    table = Table.grid(padding=(0, 1))
    table.add_column(width=2)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for step in steps:
        mark, style = MARKS[step.ok]
        table.add_row(Text(f" {mark}", style), Text(step.name, "dim"), Text(printable(step.says)))
    console.print(table)


def _print_unseen(unseen: Sequence[str], console: Console) -> None:
    for sentence in dict.fromkeys(unseen):
        console.print(Text(f" ? not seen: {printable(sentence)}", "yellow"), soft_wrap=True)


def _print_event(found: Evidence, console: Console) -> None:
    _print_title(found, console)
    _print_steps(describe(found), console)
    _print_unseen(found.unseen, console)
    if found.event:
        console.print(Text(without_secrets(json.dumps(found.event, indent=2, ensure_ascii=False))), soft_wrap=True)


def _session_row(session: Mapping[str, Any]) -> list[str]:
    worker = f" #{session['worker']}" if "worker" in session else ""
    behind = f" (-{session['behind']})" if session["behind"] else ""
    state = session["state"] + (", full" if session["isFull"] else "")
    rooms = session["rooms"][0]["name"] if session["roomCount"] == 1 else str(session["roomCount"])
    return [
        session["sessionId"],
        session["userId"],
        session["transport"],
        session["dialect"],
        state,
        f"{session['offset']}{behind}",
        rooms,
        session["gateway"] + worker,
    ]


def _plain_rows(rows: Sequence[Sequence[str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text(name), Text(printable(value)))
    return table


def _person(found: Evidence) -> Mapping[str, Any]:
    return {name: found.user[name] for name in ("userId", "name", "email")}


def _answer_json(found: Evidence, answer: Answer) -> dict[str, Any]:
    return {
        "eventId": found.event_id,
        "type": found.type,
        "offset": found.offset,
        "delivered": answer.delivered,
        "verdict": answer.verdict,
        "says": answer.says,
        "advice": answer.advice,
        "steps": [asdict(one) for one in answer.steps],
        "sessions": [
            {
                "sessionId": one.session_id,
                "gateway": one.gateway,
                "worker": one.worker,
                "verdict": one.verdict,
                "says": one.says,
            }
            for one in answer.sessions
        ],
        "unseen": list(found.unseen),
    }


def _event_json(found: Evidence) -> dict[str, Any]:
    message = found.message
    return {
        "eventId": found.event_id,
        "type": found.type,
        "offset": found.offset,
        "subject": found.subject,
        "rooms": list(map(str, found.rooms)),
        "audience": found.audience,
        "storedAt": None if message is None else message.stored_at.isoformat().replace("+00:00", "Z"),
        "steps": [asdict(one) for one in describe(found)],
        "unseen": list(found.unseen),
        "event": json.loads(without_secrets(json.dumps(found.event))),
    }
