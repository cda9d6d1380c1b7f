"""`beaconfire doctor`: check a running broker and its services, and advise what to change.

It only reads. The broker users `operator` and `setup` may ask everything that the doctor asks.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import nats.errors
from pydantic import SecretStr, create_model
from pydantic_settings import BaseSettings, SettingsConfigDict
from rich.console import Console
from rich.table import Table
from rich.text import Text

from beaconfire import broker_permissions, catalogue_diagnosis, outboxes, surroundings
from beaconfire import surroundings_diagnosis as judge
from beaconfire.broker_permissions import CannotAsk, MayNotAsk, Permissions, look_at_logins
from beaconfire.broker_users import USER_INFO, USERS, Publisher, password_variable
from beaconfire.catalogue_diagnosis import CatalogueSeen
from beaconfire.diagnosis import BROKER_CONFIG, OUTBOX_OF, Check, Facts, Readiness, Verdict, examine, parse_time, worst
from beaconfire.operating import AuthOperator
from beaconfire_kit import broker
from beaconfire_kit.broker import (
    ANCHOR,
    BUILT_IN_ROOTS,
    DEADLETTERS,
    STREAM,
    STREAM_NOT_FOUND,
    TICK,
)
from beaconfire_kit.catalogue_store import KV_STREAM
from beaconfire_kit.fetching import FetchFailed, ask, fetch
from beaconfire_kit.gateway_buckets import BUCKETS
from beaconfire_kit.progress import STUCK_S
from beaconfire_kit.seams.nats_connection import Connection, PublishDenied, server_info
from beaconfire_kit.settings import Settings
from beaconfire_kit.web import VERSION

CONNECT_S = 10.0
ANSWER_S = 5.0
HTTP_S = 5.0
MAX_PAGE_BYTES = 16 * 1024 * 1024


class CannotDiagnose(Exception):
    """The broker could not be checked. The text contains the reason and what to do."""


class _NotAllowed(Exception):
    """The broker's permissions do not allow this request."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """The parts of a deployment to check."""

    settings: Settings
    """How to reach the broker, and as which user."""
    passwords: Mapping[str, str] = field(default_factory=dict)
    """Passwords of other broker users, to try what these users may do."""
    publishers: Sequence[Publisher] = ()
    """Further publishers that the broker should know."""
    monitoring: Sequence[str] = ()
    """URLs of the monitoring ports of the broker's servers."""
    services: Sequence[str] = ()
    """URLs of services whose `/readyz` is asked."""
    service_names: Mapping[str, str] = field(default_factory=dict)
    """What services are called, by URL, if that is known. Otherwise they say it themselves."""
    databases: Mapping[str, str] = field(default_factory=dict)
    """URLs of databases whose outboxes are checked, by service."""
    doors: Sequence[str] = ()
    """Public addresses of the deployment, whose certificates are checked."""
    auth: AuthOperator | None = None
    """Auth's operations port, which is asked for keys and service tokens."""
    answer_s: float = ANSWER_S
    """How long the broker may take for an answer."""
    stuck_s: float = STUCK_S
    """How long a consumer may redeliver a message before it counts as stuck."""


async def diagnose(deployment: Deployment) -> list[Check]:
    """Check everything. Raises CannotDiagnose if the broker cannot be reached or refuses the user."""
    async with (
        _connected(deployment.settings, answer_s=deployment.answer_s) as asked,
        aiohttp.ClientSession() as http,
    ):
        catalogue = await _catalogue(asked)
        facts = await _facts(deployment, asked, http, catalogue.roots or BUILT_IN_ROOTS)
        checks = [
            *examine(facts),
            *catalogue_diagnosis.examine(catalogue, facts.stream),
            *await _surroundings(deployment, facts),
        ]
        parts = list(dict.fromkeys(check.part for check in checks))
        return sorted(checks, key=lambda check: parts.index(check.part))


async def _surroundings(deployment: Deployment, facts: Facts) -> list[Check]:
    seen = _Seen()
    store = next((page["jetstream"].get("config", {}).get("store_dir") for page in facts.varz), None)
    doors = await surroundings.look_at_doors(deployment.doors)
    credentials = deployment.auth and await seen.get(
        "credentials", asyncio.to_thread(surroundings.read_credentials, deployment.auth)
    )
    broker_is_private = await asyncio.to_thread(_is_private, deployment.settings)
    checks = [
        judge.broker_door(deployment.settings.nats_url, bool(facts.server.get("tls_required")), broker_is_private),
        *judge.versions(facts.services, VERSION),
        *judge.clocks(facts.services, facts.outboxes),
        *judge.disks(surroundings.disks_of(store, deployment.databases), facts.stream),
        *judge.rooms(facts.account, facts.varz, {f"bucket {name}": info for name, info in facts.buckets.items()}),
        *judge.doors(doors, facts.now, development=facts.development),
    ]
    if credentials:
        checks += judge.expiries(credentials, facts.now)
    elif deployment.auth:
        checks.append(
            Check("credentials", "credentials", "unseen", seen.why["credentials"], "check the operator token")
        )
    return checks


def _is_private(settings: Settings) -> bool:
    return all(surroundings.is_private(_host(server)) for server in settings.nats_servers)


def _host(server: str) -> str:
    return urlsplit(server if "://" in server else f"nats://{server}").hostname or ""


async def _catalogue(asked: "_Asked") -> CatalogueSeen:
    calls = (f"$JS.API.STREAM.MSG.GET.{stream}" for stream in (KV_STREAM, STREAM))
    seen = await catalogue_diagnosis.see(asked.nc, answer_s=asked.answer_s)
    denied = next((call for call in calls if asked.was_refused(call)), None)
    return CatalogueSeen(problem=asked.may_not(denied), advice=BROKER_CONFIG) if denied else seen


async def renew_epoch(settings: Settings) -> tuple[str, str]:
    """Give the stream a new epoch. Return the old and the new one. Raises CannotDiagnose."""
    async with _connected(settings) as asked:
        try:
            change = broker.renew_epoch(asked.nc, timeout_s=asked.answer_s)
            was, epoch = await asked.unless_refused(change, f"$JS.API.STREAM.UPDATE.{STREAM}")
        except _NotAllowed as error:
            raise CannotDiagnose(f"{error}: only the user setup may change the stream") from None
        except broker.BrokerRefused as error:
            raise CannotDiagnose(str(error)) from None
        except TimeoutError:
            raise CannotDiagnose(
                f"{settings.nats_url} did not change the stream within {asked.answer_s:.0f} s: "
                "has its cluster a leader?"
            ) from None
        return was, epoch


def passwords_of(env_file: Path, publishers: Sequence[Publisher] = ()) -> dict[str, str]:
    """Read the passwords of broker users from a deployment's `.env` (deploy/make-env.sh). Raises CannotDiagnose."""
    if not env_file.is_file():
        raise CannotDiagnose(f"{env_file} is not a file: give the .env of the deployment")
    variables = {user.name: password_variable(user.name) for user in USERS}
    variables |= {publisher.name: publisher.password_variable for publisher in publishers}
    fields: dict[str, Any] = {variable.lower(): (str, "") for variable in variables.values()}
    found = create_model("Passwords", __base__=_EnvFile, **fields)(_env_file=env_file).model_dump()
    return {name: found[variable.lower()] for name, variable in variables.items()}


class _EnvFile(BaseSettings):
    model_config = SettingsConfigDict(extra="ignore")


def print_json(checks: Sequence[Check]) -> None:
    """Print all checks as one JSON object."""
    print(json.dumps({"verdict": worst(checks), "checks": [asdict(check) for check in checks]}, ensure_ascii=False))


MARKS: Mapping[Verdict, tuple[str, str]] = {
    "ok": ("✓", "green"),
    "warning": ("!", "bold yellow"),
    "wrong": ("✗", "bold red"),
    "unseen": ("?", "cyan"),
}


def print_readable(checks: Sequence[Check], console: Console) -> None:
    """Print a line for each check, grouped by part, with what to change below it. Then print the counts.

    Services have a table of their own, with their names, addresses and versions.
    """
    named = [check for check in checks if not check.service]
    names = max((len(check.name) for check in named), default=0)
    for part, group in groupby(checks, key=lambda check: check.part):
        console.print()
        console.print(Text(f"    {part}", "bold"))
        of_part = list(group)
        services = [check for check in of_part if check.service]
        others = [check for check in of_part if not check.service]
        if services:
            console.print(_services(services))
        if others:
            console.print(_lines(others, names))
    console.print()
    console.print(_sum(checks))


def _lines(checks: Sequence[Check], names: int) -> Table:
    table = _grid()
    table.add_column(no_wrap=True, min_width=names)
    table.add_column(overflow="fold")
    for check in checks:
        mark, style = MARKS[check.verdict]
        table.add_row(Text(f" {mark}", style), Text(check.name), _words(check, style))
    return table


def _services(checks: Sequence[Check]) -> Table:
    """Return a table of services. Further lines of a service, its warnings, have neither name nor address."""
    table = _grid()
    for _ in ("name", "address", "version"):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    before = ""
    for check in checks:
        mark, style = MARKS[check.verdict]
        where = (check.service, check.name, check.version) if check.name != before else ("", "", "")
        table.add_row(Text(f" {mark}", style), *(Text(one) for one in where), _words(check, style))
        before = check.name
    return table


def _grid() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(width=2)
    return table


def _words(check: Check, style: str) -> Text:
    found = Text(check.found, "" if check.verdict == "ok" else style.removeprefix("bold "))
    if not check.advice:
        return found
    return found.append("\n→ ", style).append(check.advice, "default")


def _sum(checks: Sequence[Check]) -> Text:
    counts = {verdict: sum(check.verdict == verdict for check in checks) for verdict in MARKS}
    parts = [Text(f"{count} {_noun(verdict, count)}", MARKS[verdict][1]) for verdict, count in counts.items() if count]
    return Text("  ").append(Text(", ").join(parts))


def _noun(verdict: Verdict, count: int) -> str:
    if verdict == "warning":
        return "warning" if count == 1 else "warnings"
    return {"ok": "ok", "wrong": "wrong", "unseen": "not seen"}[verdict]


class _Asked:
    """A connection that notices what the broker refuses. nats-py reports that to a callback, and the call times out."""

    def __init__(self, settings: Settings, answer_s: float) -> None:
        self.settings = settings
        self.answer_s = answer_s
        self.nc = Connection()
        self.problems: list[Exception] = []
        self._problem = asyncio.Event()

    async def note(self, problem: Exception) -> None:
        self.problems.append(problem)
        self._problem.set()

    async def connect(self) -> None:
        """Connect at the first attempt on each server. Raises CannotDiagnose."""
        options = broker.options(self.settings, "doctor") | {"error_cb": self.note}
        connecting = asyncio.create_task(self.nc.connect(**options))
        try:
            async with asyncio.timeout(CONNECT_S):
                while not connecting.done():
                    noticed = asyncio.create_task(self._problem.wait())
                    await asyncio.wait((connecting, noticed), return_when=asyncio.FIRST_COMPLETED)
                    noticed.cancel()
                    self._problem.clear()
                    self._give_up(len(options["servers"]))
            await connecting
        except TimeoutError:
            raise CannotDiagnose(
                f"{self.settings.nats_url} did not answer within {CONNECT_S:.0f} s: does a nats-server run there?"
            ) from None
        except (nats.errors.Error, OSError, ValueError) as error:
            raise CannotDiagnose(f"{self.settings.nats_url}: {error}") from None
        finally:
            connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await connecting

    def _give_up(self, servers: int) -> None:
        """Raise CannotDiagnose if no server accepts us."""
        user, url = self.settings.nats_user, self.settings.nats_url
        for problem in self.problems:
            if "authorization violation" in str(problem).lower():
                who = f"the user {user} with this password" if user else "clients without a user"
                raise CannotDiagnose(
                    f"{url} does not accept {who}: set BEACONFIRE_NATS_USER and BEACONFIRE_NATS_PASSWORD"
                )
        if len(self.problems) >= servers:
            why = self.problems[-1]
            said = getattr(why, "strerror", None) or str(why) or type(why).__name__
            raise CannotDiagnose(f"cannot reach {url} ({said}): is the address right, and does the broker run?")

    async def ask(self, call: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask the JetStream API. The answer may be an `error`. Raises _NotAllowed, TimeoutError."""
        subject = f"$JS.API.{call}"
        answer = await self.unless_refused(
            self.nc.request(subject, json.dumps(body or {}).encode(), timeout=self.answer_s), subject
        )
        return dict(json.loads(answer.data))

    async def unless_refused(self, wanted: Awaitable[Any], subject: str) -> Any:
        """Await a result. Raises _NotAllowed as soon as the broker reports that we may not publish on `subject`."""
        waiting = asyncio.ensure_future(wanted)
        try:
            while not waiting.done():
                noticed = asyncio.create_task(self._problem.wait())
                await asyncio.wait((waiting, noticed), return_when=asyncio.FIRST_COMPLETED)
                noticed.cancel()
                self._problem.clear()
                if not waiting.done() and self.was_refused(subject):
                    raise _NotAllowed(self.may_not(subject))
            return waiting.result()
        except PublishDenied:
            raise _NotAllowed(self.may_not(subject)) from None
        except nats.errors.NoRespondersError:
            raise TimeoutError("JetStream does not answer: is it on, and has its cluster a leader?") from None
        except nats.errors.Error as error:
            raise TimeoutError(f"no answer to {subject} ({type(error).__name__})") from None
        finally:
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await waiting

    def may_not(self, subject: str) -> str:
        """Return a sentence for an action that the broker's permissions do not allow."""
        return f"the user {self.settings.nats_user} may not ask for {subject}"

    def was_refused(self, subject: str) -> bool:
        """Return whether the broker said that we may not publish or subscribe on the subject."""
        return any(f'"{subject.lower()}"' in str(problem).lower() for problem in self.problems)


@asynccontextmanager
async def _connected(settings: Settings, *, answer_s: float = ANSWER_S) -> AsyncIterator[_Asked]:
    asked = _Asked(settings, answer_s)
    try:
        await asked.connect()
        yield asked
    finally:
        await broker.close(asked.nc)


class _Seen:
    """Collect answers, and reasons why there is none."""

    def __init__(self) -> None:
        self.why: dict[str, str] = {}

    async def get(self, name: str, wanted: Awaitable[Any]) -> Any:
        """Await a result. None if there is none: then `why` has the reason."""
        try:
            return await wanted
        except (
            _NotAllowed,
            TimeoutError,
            FetchFailed,
            OSError,
            ValueError,
            CannotDiagnose,
            outboxes.CannotLook,
        ) as error:
            self.why[name] = str(error) or type(error).__name__
            return None


async def _facts(deployment: Deployment, asked: _Asked, http: aiohttp.ClientSession, roots: Collection[str]) -> Facts:
    seen, settings = _Seen(), deployment.settings
    began = time.time()
    # All at once: if no majority is left, each of them waits for its whole timeout.
    stream, deadletters, catalogue_bucket, consumers, account, *buckets = await asyncio.gather(
        seen.get("stream", asked.ask(f"STREAM.INFO.{STREAM}", {"subjects_filter": ANCHOR})),
        seen.get("deadletters", asked.ask(f"STREAM.INFO.{DEADLETTERS}")),
        seen.get("catalogue bucket", asked.ask(f"STREAM.INFO.{KV_STREAM}")),
        seen.get("consumers", _consumers(asked)),
        seen.get("account", asked.ask("INFO")),
        *(seen.get(f"bucket {name}", asked.ask(f"STREAM.INFO.{one.stream}")) for name, one in BUCKETS.items()),
    )
    took_s = time.time() - began
    stores = await _try_to_store(asked) if stream and "error" not in stream else None
    pages = [await seen.get("varz", _page(http, f"{url.rstrip('/')}/varz")) for url in deployment.monitoring]
    boxes = [
        await seen.get(f"{OUTBOX_OF}{name}", outboxes.look_at(name, url)) for name, url in deployment.databases.items()
    ]
    return Facts(
        server=server_info(asked.nc),
        user=settings.nats_user,
        development=settings.environment == "development",
        now=datetime.now(UTC),
        skew_s=_skew(stream, began + took_s / 2),
        stream=_found(stream, "stream", seen),
        stores=stores,
        deadletters=_found(deadletters, "deadletters", seen),
        catalogue_bucket=_found(catalogue_bucket, "catalogue bucket", seen),
        buckets={name: _found(answer, f"bucket {name}", seen) for name, answer in zip(BUCKETS, buckets, strict=True)},
        consumers=consumers,
        account=_found(account, "account", seen),
        varz=tuple(page for page in pages if page is not None),
        open_to_all=not server_info(asked.nc).get("auth_required", False),
        logins=await look_at_logins(partial(_ask_as, settings), deployment.passwords, deployment.publishers, roots),
        services=tuple(await asyncio.gather(*(_readiness(http, url, deployment) for url in deployment.services))),
        outboxes=tuple([box for box in boxes if box is not None]),
        unseen=seen.why,
        stuck_s=deployment.stuck_s,
    )


async def _try_to_store(asked: _Asked) -> str | None:
    """Publish a tick, as gateways do all the time.

    Return why the stream stores no messages, or "" if it stored the tick.

    None if the broker refuses only this message: another check finds the reason.
    """
    try:
        await asked.unless_refused(broker.tick(asked.nc, timeout_s=asked.answer_s), TICK)
    except broker.MayNotPublish:
        return asked.may_not(TICK)
    except broker.BrokerRefused:
        return None
    except (_NotAllowed, broker.NotAcknowledged) as error:
        return str(error)
    return ""


def _skew(answer: Mapping[str, Any] | None, asked_at: float) -> float | None:
    """Return how far the broker's clock is ahead. The error is at most half the time that the answer took."""
    if answer is None or "ts" not in answer:
        return None
    return (parse_time(answer["ts"]) - datetime.fromtimestamp(asked_at, UTC)) / timedelta(seconds=1)


def _found(answer: dict[str, Any] | None, name: str, seen: _Seen) -> dict[str, Any] | None:
    """Return the answer. Empty if there is no such stream, None if the request was refused."""
    error = (answer or {}).get("error")
    if error is None:
        return answer
    if error.get("err_code") == STREAM_NOT_FOUND:
        return {}
    seen.why[name] = str(error.get("description"))
    return None


async def _consumers(asked: _Asked) -> tuple[dict[str, Any], ...]:
    found: list[dict[str, Any]] = []
    while True:
        answer = await asked.ask(f"CONSUMER.LIST.{STREAM}", {"offset": len(found)})
        if "error" in answer:
            raise TimeoutError(answer["error"].get("description"))
        found += answer.get("consumers") or []
        if not answer.get("consumers") or len(found) >= int(answer.get("total", 0)):
            return tuple(found)


async def _page(http: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    page = json.loads(await fetch(http, url, max_bytes=MAX_PAGE_BYTES, timeout_s=HTTP_S))
    if not isinstance(page, dict) or "jetstream" not in page:
        raise CannotDiagnose(f"{url} is not a monitoring page of nats-server")
    return page


async def _ask_as(settings: Settings, user: str, password: str) -> Permissions:
    """Ask the broker as this user what it may do. Raises CannotAsk, MayNotAsk."""
    theirs = settings.model_copy(update={"nats_user": user, "nats_password": SecretStr(password)})
    try:
        async with _connected(theirs) as one:
            asking = broker_permissions.ask(one.nc, one.answer_s)
            permissions: Permissions = await one.unless_refused(asking, USER_INFO)
            return permissions
    except _NotAllowed:
        raise MayNotAsk from None
    except (CannotDiagnose, TimeoutError) as error:
        raise CannotAsk(str(error) or type(error).__name__) from None


async def _readiness(http: aiohttp.ClientSession, url: str, deployment: Deployment) -> Readiness:
    began, name = time.time(), deployment.service_names.get(url, "")
    known = name or urlsplit(url).hostname or url
    try:
        answer = await ask(http, f"{url.rstrip('/')}/readyz", max_bytes=MAX_PAGE_BYTES, timeout_s=HTTP_S)
    except FetchFailed as error:
        return Readiness(url, ready=False, said=f"does not answer ({error})", service=known)
    try:
        answered = json.loads(answer.body)
        said, warnings = str(answered["status"]), tuple(str(one) for one in answered.get("warnings", ()))
        version, service = str(answered.get("version", "")), str(answered.get("service", ""))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        said = f"answered {answer.status} and is not a Beaconfire service"
        return Readiness(url, ready=False, said=said, service=known)
    skew_s = _skew_of(answer.date, (began + time.time()) / 2)
    return Readiness(url, answer.status == 200, said, warnings, version, name or service or known, skew_s)


def _skew_of(date: str, asked_at: float) -> float | None:
    """Return how far a server's clock is ahead. Its header has whole seconds: the error is half a second."""
    try:
        return parsedate_to_datetime(date).timestamp() + 0.5 - asked_at
    except ValueError:
        return None
