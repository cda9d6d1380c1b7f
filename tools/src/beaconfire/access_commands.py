"""`beaconfire root …`, `member …` and `user …`: manage who may hear what, as a backend does."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typer.core import TyperGroup

from beaconfire import member_files
from beaconfire.api import ApiError
from beaconfire.backend_client import BackendClient, Named, RightRefused, backend_client
from beaconfire.data_folder import DataFolder
from beaconfire.member_files import Line
from beaconfire.options import DATA, AsJson, Data, or_in_file
from beaconfire.tables import listing, print_table
from beaconfire_kit.backend import MAX_CHANGES
from beaconfire_kit.roles import Role
from beaconfire_kit.settings import ENV_PREFIX
from beaconfire_kit.subjects import membership_of, parse_root

roots = typer.Typer(help="Create, list and delete roots: who may hear them.", no_args_is_help=True)
members = typer.Typer(help="List, put, remove and import members of roots.", no_args_is_help=True)


class _ShowsByDefault(TyperGroup):
    """`user vera@example.org` means `user show vera@example.org`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        is_name = bool(args) and args[0] not in self.commands and not args[0].startswith("-")
        return super().resolve_command(ctx, ["show", *args] if is_name else args)


users = typer.Typer(
    cls=_ShowsByDefault, help="Show a user, or end a user's access at once. `user USER` shows it.", no_args_is_help=True
)

ACCESS = "user.*.access"
SHOWN = 100
"""Refused lines that are printed one by one."""

AuthUrl = Annotated[
    str | None, typer.Option("--auth", help="URL of auth. Default: that of the running `beaconfire up`.")
]
ServiceToken = Annotated[
    str | None,
    typer.Option(
        envvar=f"{ENV_PREFIX}SERVICE_TOKEN",
        callback=or_in_file("service_token"),
        help="A service token that names `KIND.*.member.*`. Default: one of the running `beaconfire up`.",
    ),
]
Root = Annotated[str, typer.Argument(metavar="ROOT", help="The root, like `workspace:w1`.")]
User = Annotated[str | None, typer.Argument(metavar="[USER]", help="Id of the user, like `acme-42`.")]
Issuer = Annotated[
    str | None, typer.Option(help="Instead of USER: the outside issuer, by our name for it or its `iss`.")
]
Sub = Annotated[str | None, typer.Option(help="With --issuer: the issuer's name for the user.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


@roots.command("create")
def create_root(
    root: Root,
    owner: Annotated[str | None, typer.Option(help="Id of the first owner, like `acme-42`.")] = None,
    issuer: Annotated[
        str | None, typer.Option(help="Instead of --owner: the outside issuer, by our name for it or its `iss`.")
    ] = None,
    sub: Sub = None,
    auth: AuthUrl = None,
    service_token: ServiceToken = None,
    data: Data = DATA,
) -> None:
    """Create a root with its first owner, who may never have connected. Running it again changes nothing."""
    user = _named(owner, issuer, sub, "--owner")
    created = _of_root(root, auth, service_token, data).create_root(root, user)
    print(f"{root} is created." if created else f"The user owns {root} already.")


@roots.command("list")
def list_roots(
    kind: Annotated[str, typer.Argument(help="The kind of root, like `workspace`.")],
    as_json: AsJson = False,
    auth: AuthUrl = None,
    service_token: ServiceToken = None,
    data: Data = DATA,
) -> None:
    """List the roots of a kind that have members."""
    found = list(_client(kind, auth, service_token, data).roots(kind))
    if as_json:
        print(json.dumps(found))
    else:
        print_table(listing(["root", "members"], [[one["root"], str(one["members"])] for one in found], whole=["root"]))


@roots.command("show")
def show_root(
    root: Root, as_json: AsJson = False, auth: AuthUrl = None, service_token: ServiceToken = None, data: Data = DATA
) -> None:
    """Say how many members a root has, and who owns it."""
    found = list(_of_root(root, auth, service_token, data).members(root))
    counts = Counter(str(member["role"]) for member in found)
    owners = [str(member["userId"]) for member in found if member["role"] == Role.OWNER]
    if as_json:
        print(
            json.dumps({"root": root, "members": {role.value: counts[role.value] for role in Role}, "owners": owners})
        )
        return
    if not found:
        print(f"{root} has no members.")
        return
    print(f"{root} has {', '.join(_counted(counts[role.value], role.value) for role in Role)}.")
    for owner in owners:
        print(f"owner {owner}")


@roots.command("delete")
def delete_root(
    root: Root, yes: Yes = False, auth: AuthUrl = None, service_token: ServiceToken = None, data: Data = DATA
) -> None:
    """Remove all members of a root. Its events stay in the history."""
    client = _of_root(root, auth, service_token, data)
    if not yes:
        typer.confirm(f"This removes every member of {root}. Continue?", abort=True)
    print(f"{_counted(client.delete_root(root), 'member')} removed")


@members.command("list")
def list_members(
    root: Root, as_json: AsJson = False, auth: AuthUrl = None, service_token: ServiceToken = None, data: Data = DATA
) -> None:
    """List the members of a root."""
    found = list(_of_root(root, auth, service_token, data).members(root))
    if as_json:
        print(json.dumps(found))
        return
    if not found:
        print(f"{root} has no members.")
        return
    rows = [
        [one["userId"], one["role"], one["name"], "never connected" if one["placeholder"] else one["email"]]
        for one in found
    ]
    print_table(listing(["user", "role", "name", "e-mail"], rows, whole=["user"]))


@members.command("put")
def put_member(
    root: Root,
    user: User = None,
    role: Annotated[Role, typer.Option(help="The role that the user is to have.")] = Role.VIEWER,
    issuer: Issuer = None,
    sub: Sub = None,
    auth: AuthUrl = None,
    service_token: ServiceToken = None,
    data: Data = DATA,
) -> None:
    """Give a user a role in a root. The user may never have connected. Running it again changes nothing."""
    answer = _of_root(root, auth, service_token, data).put_member(root, _named(user, issuer, sub), role)
    is_now = "is" if answer["changed"] else "was already"
    print(f"{answer['member']['userId']} {is_now} {answer['member']['role']} of {root}.")


@members.command("remove")
def remove_member(
    root: Root,
    user: User = None,
    issuer: Issuer = None,
    sub: Sub = None,
    auth: AuthUrl = None,
    service_token: ServiceToken = None,
    data: Data = DATA,
) -> None:
    """Remove a user from a root, even its last owner. Running it again changes nothing."""
    _of_root(root, auth, service_token, data).remove_member(root, _named(user, issuer, sub))
    print(f"{user or sub} is no member of {root} now.")


@members.command("import")
def import_members(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, JSON or JSON Lines. `-` is the standard input.")],
    form: Annotated[
        str | None, typer.Option("--format", help="`csv`, `json` or `jsonl`. Default: by the file's name.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, and say what would change.")] = False,
    as_json: AsJson = False,
    auth: AuthUrl = None,
    service_token: ServiceToken = None,
    data: Data = DATA,
) -> None:
    """Make the changes of a file with lines `root,user,role` or `root,issuer,sub,role`. The role `none` removes.

    Wrong lines are reported and stop no other. If the command is interrupted, run it again: it continues, because what
    is done already changes nothing. Exit code 1 means that some lines were refused.
    """
    if form not in (None, *set(member_files.FORMATS.values())):
        raise typer.BadParameter("expected csv, json or jsonl", param_hint="--format")
    lines = member_files.read(file, form)
    problems = [(line.number, line.problem) for line in lines if line.change is None]
    good = [line for line in lines if line.change is not None]
    counts: Counter[str] = Counter(refused=len(problems))
    if good:
        by_kind: dict[str, list[Line]] = defaultdict(list)
        for line in good:
            by_kind[parse_root(str((line.change or {})["root"])).kind].append(line)
        for kind, of_kind in by_kind.items():
            try:
                client = _client(kind, auth, service_token, data)
            except RightRefused as error:
                counts["refused"] += len(of_kind)
                problems += [(line.number, str(error)) for line in of_kind]
                continue
            for done, refused in _imported(client, file, of_kind, dry_run=dry_run, quiet=as_json):
                counts.update(done)
                problems += refused
    problems.sort()
    if as_json:
        errors = [{"line": number, "message": problem} for number, problem in problems]
        print(json.dumps({"lines": len(lines), **_ordered(counts), "errors": errors}))
    else:
        _report(file, len(lines), counts, problems, dry_run=dry_run)
    if problems:
        raise typer.Exit(1)


@users.command("disconnect")
def disconnect_user(
    user: User = None,
    issuer: Issuer = None,
    sub: Sub = None,
    auth: AuthUrl = None,
    service_token: ServiceToken = None,
    data: Data = DATA,
) -> None:
    """Close all open sockets of a user. The tokens stay valid, and clients ask for a new one.

    The service token has to name `user.*.access`.
    """
    named = _named(user, issuer, sub)
    backend_client(DataFolder(data), auth, service_token, {ACCESS}).disconnect(named)


@users.command("revoke")
def revoke_user(
    user: User = None,
    issuer: Issuer = None,
    sub: Sub = None,
    root: Annotated[
        str | None, typer.Option(help="Revoke only what tokens or an authorizer say about this root.")
    ] = None,
    auth: AuthUrl = None,
    service_token: ServiceToken = None,
    data: Data = DATA,
) -> None:
    """Refuse every token that a user has now, and close the sockets with them.

    The service token has to name `user.*.access`, or with --root the members of that root.
    """
    named = _named(user, issuer, sub)
    right = ACCESS if root is None else membership_of(parse_root(root).kind)
    backend_client(DataFolder(data), auth, service_token, {right}).revoke(named, root)


def _imported(
    client: BackendClient, file: Path, lines: Sequence[Line], *, dry_run: bool, quiet: bool
) -> Iterator[tuple[dict[str, int], list[tuple[int, str]]]]:
    """Send the lines in bulks. Yield how many changed, and which were refused. Raises ApiError with the place."""
    console = Console(stderr=True, quiet=quiet)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task("checked" if dry_run else "imported", total=len(lines))
        for start in range(0, len(lines), MAX_CHANGES):
            bulk = lines[start : start + MAX_CHANGES]
            try:
                answer = client.change_members([line.change or {} for line in bulk], dry_run=dry_run)
            except ApiError as error:
                raise ApiError(
                    error.status,
                    error.code,
                    f"stopped at {file}:{bulk[0].number}: {error}. Run the command again to continue",
                ) from None
            progress.advance(task, len(bulk))
            yield (
                {name: int(answer[name]) for name in ("changed", "unchanged", "refused")},
                [
                    (line.number, str(result["error"]["message"]))
                    for line, result in zip(bulk, answer["results"], strict=True)
                    if "error" in result
                ],
            )


def _report(
    file: Path, total: int, counts: Counter[str], problems: Sequence[tuple[int, str]], *, dry_run: bool
) -> None:
    errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    for number, problem in problems[:SHOWN]:
        errors.print(f"{file}:{number}: {problem}")
    if len(problems) > SHOWN:
        errors.print(f"{len(problems) - SHOWN:,} more lines were refused. To see all: --json")
    would = "would change" if dry_run else "changed"
    print(
        f"{total:,} lines: {counts['changed']:,} {would}, {counts['unchanged']:,} unchanged, {len(problems):,} refused"
    )


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _ordered(counts: Counter[str]) -> dict[str, Any]:
    return {name: counts[name] for name in ("changed", "unchanged", "refused")}


def _of_root(root: str, auth: str | None, service_token: str | None, data: Path) -> BackendClient:
    """Return the client for calls about a root. Raises InvalidRoom for a text that is no root."""
    return _client(parse_root(root).kind, auth, service_token, data)


def _client(kind: str, auth: str | None, service_token: str | None, data: Path) -> BackendClient:
    return backend_client(DataFolder(data), auth, service_token, {membership_of(kind)})


def _named(user: str | None, issuer: str | None, sub: str | None, name: str = "USER") -> Named:
    if (user is None) == (issuer is None) or (issuer is None) != (sub is None):
        raise typer.BadParameter(f"give either {name}, or --issuer and --sub")
    return Named(user, issuer, sub)
