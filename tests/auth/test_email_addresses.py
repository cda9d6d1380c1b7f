"""One e-mail address is one account, however it is written."""

import asyncio
import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from beaconfire.nats_server import NatsServer
from beaconfire_auth.email_addresses import MAX_ADDRESS, canonical, known_address, new_address
from beaconfire_auth.migrations import MIGRATIONS
from beaconfire_auth.store import USERS
from beaconfire_kit.database import Database
from tests.auth.conftest import PASSWORD, Answer, Auth, running_auth
from tests.databases import database_url, execute, on_both_databases

ONE_ADDRESS = {
    "as it is": "josé@bücher.example",
    "capitals": "JOSÉ@BÜCHER.EXAMPLE",
    "capitals in the domain": "josé@Bücher.Example",
    "decomposed": unicodedata.normalize("NFD", "josé@bücher.example"),
    "punycode": "josé@xn--bcher-kva.example",
    "punycode in capitals": "josé@XN--BCHER-KVA.example",
    "spaces around it": " \tjosé@bücher.example\n",
    "no-break space behind it": "josé@bücher.example\u00a0",
    "zero-width space": "jo\u200bsé@bücher.example",
    "zero-width joiner": "jo\u200dsé@bü\u200dcher.example",
    "zero-width non-joiner": "jo\u200csé@bücher.exam\u200cple",
    "byte-order mark in front": "\ufeffjosé@bücher.example",
    "word joiner": "josé@\u2060bücher.example",
    "soft hyphen": "jo\u00adsé@bü\u00adcher.example",
    "variation selector": "jo\ufe0fsé@bücher.example",
    "variation selector of ideographs": "jo\U000e0100sé@bücher.example",
    "Mongolian variation selector": "jo\u180bsé@bücher.example",
    "Hangul filler": "jo\u3164sé@bücher.example",
    "Hangul filler of half width": "jo\uffa0sé@bücher.example",
    "Khmer vowel that is not shown": "jo\u17b4sé@bücher.example",
    "Braille without dots": "jo\u2800sé@bücher.example",
    "note without a head": "jo\U0001d159sé@bücher.example",
    "mark of direction": "\u200ejosé@bücher.example\u200f",
    "full width": "ｊｏｓé@ｂücher．ｅｘａｍｐｌｅ",
    "ideographic full stop": "josé@bücher。example",
}
MALFORMED = [
    "nobody",
    "@auth.example",
    "ann@",
    "a@b@c",
    "a b@auth.example",
    "a..b@auth.example",
    ".a@auth.example",
    "a\u202eb@auth.example",
    "a@auth\u2066.example",
    "a\0b@auth.example",
    "a@auth.example\0",
    "a\u0301@\u0301auth.example",
    "a@-auth.example",
    "a@auth..example",
    "a@[127.0.0.1]",
    "Ann <ann@auth.example>",
    "\u200b@auth.example",
    "acme-ann@acme.invalid",
    "a" * 65 + "@auth.example",
    "a" * 250 + "@auth.example",
    "\u200b" * 5_000 + "a@auth.example",
]


@pytest.mark.parametrize("typed", ONE_ADDRESS.values(), ids=ONE_ADDRESS)
def test_all_spellings_of_an_address_have_one_canonical_form(typed: str) -> None:
    assert new_address(typed).canonical == known_address(typed).canonical == "josé@xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("strasse@auth.example", "straße@auth.example"),
        ("ann@fass.example", "ann@faß.example"),
        ("ann+a@auth.example", "ann@auth.example"),
        ("a.nn@auth.example", "ann@auth.example"),
        ("jose@auth.example", "josé@auth.example"),
        ("ann@auth.example", "ann@auth.example.example"),
    ],
)
def test_addresses_of_possibly_different_mailboxes_stay_different(one: str, other: str) -> None:
    assert new_address(one).canonical != new_address(other).canonical


@pytest.mark.parametrize("typed", ["root@localhost", "ann@corp.local", "ann@intranet", "o\u2019brien@auth.example"])
def test_address_of_a_private_network_is_accepted(typed: str) -> None:
    assert new_address(typed).shown == typed


@pytest.mark.parametrize("typed", MALFORMED)
def test_malformed_address_is_refused_with_a_reason_that_repeats_nothing_dangerous(typed: str) -> None:
    with pytest.raises(ValueError, match=r"^not an e-mail address: ") as said:
        new_address(typed)

    assert str(said.value).isprintable()


@given(st.text(st.characters(exclude_categories=[]), max_size=300))
def test_canonical_form_of_any_text_is_short_enough_to_store_and_stable(typed: str) -> None:
    form = canonical(typed)

    assert len(form) <= MAX_ADDRESS
    assert canonical(form) == form


@pytest.mark.parametrize("expanding", ["\ufdfa" * 64, "\ufb03" * 100, "İ" * 200])
def test_canonical_form_that_is_longer_than_the_input_fits_the_column(expanding: str) -> None:
    assert len(canonical(f"{expanding}@auth.example")) <= MAX_ADDRESS


async def sign_up(auth: Auth, email: str, name: str = "Somebody") -> Answer:
    return await auth.call("POST", "/auth/sign-up", {"email": email, "password": PASSWORD, "name": name})


async def sign_in(auth: Auth, email: str, password: str = PASSWORD) -> Answer:
    return await auth.call("POST", "/auth/sign-in", {"email": email, "password": password})


@on_both_databases
async def test_account_signs_in_with_every_spelling_of_its_address(auth: Auth) -> None:
    first = await sign_up(auth, ONE_ADDRESS["as it is"])
    again = {name: (await sign_up(auth, typed)).status for name, typed in ONE_ADDRESS.items()}
    signed_in = {name: await sign_in(auth, typed) for name, typed in ONE_ADDRESS.items()}

    assert first.status == 201
    assert set(again.values()) == {409}, again
    assert {answer.body["user"]["id"] for answer in signed_in.values()} == {first.body["user"]["id"]}
    assert first.body["user"]["email"] == "josé@bücher.example"


@on_both_databases
async def test_simultaneous_sign_ups_with_spellings_of_one_address_make_one_account(auth: Auth) -> None:
    answers = await asyncio.gather(*(sign_up(auth, typed) for typed in ONE_ADDRESS.values()))

    assert sorted(answer.status for answer in answers) == [201] + [409] * (len(ONE_ADDRESS) - 1)


async def test_another_spelling_of_an_address_gives_no_further_sign_in_attempts(
    stream: NatsServer, tmp_path: Path
) -> None:
    async with running_auth(stream, tmp_path, attempts_per_minute_account=3) as auth:
        statuses = [(await sign_in(auth, typed, "wrong password")).status for typed in ONE_ADDRESS.values()]

    assert statuses == [401] * 3 + [429] * (len(ONE_ADDRESS) - 3)


async def test_member_can_be_invited_by_another_spelling_of_the_address(table: Any) -> None:
    await sign_up(table.auth, ONE_ADDRESS["as it is"])
    body = {"email": ONE_ADDRESS["punycode"], "role": "viewer"}
    added = await table.auth.call("POST", table.path, body, token=table.people["owner"].token)

    assert (added.status, added.body["member"]["email"]) == (201, "josé@bücher.example")


@pytest.mark.parametrize("email", [typed for typed in MALFORMED if typed.isprintable()])
async def test_sign_up_with_a_malformed_address_is_refused_with_the_fields_name(auth: Auth, email: str) -> None:
    answer = await sign_up(auth, email)

    assert answer.status == 400
    assert answer.body["error"]["message"].startswith("email: not an e-mail address: ")


@on_both_databases
@pytest.mark.parametrize("email", ["a\0b@auth.example", "a@auth.example\0", "\0@auth.example"])
async def test_address_with_a_nul_character_is_refused(table: Any, email: str) -> None:
    """A database cannot even be asked for such a text."""
    owner = table.people["owner"].token
    asked = await sign_in(table.auth, email)
    added = await table.auth.call("POST", table.path, {"email": email, "role": "viewer"}, token=owner)

    assert [(one.status, one.code) for one in (asked, added)] == [(400, "bad_request")] * 2


@pytest.mark.parametrize("field", ["email", "name"])
async def test_text_with_a_lone_surrogate_is_refused(auth: Auth, field: str) -> None:
    body = b'{"email": "ann@auth.example", "password": "correct horse", "name": "Ann"}'
    broken = body.replace(b'"Ann"' if field == "name" else b'"ann@', b'"\\ud83d"' if field == "name" else b'"\\ud83d@')
    answer = await auth.call("POST", "/auth/sign-up", broken)

    assert (answer.status, answer.code) == (400, "bad_request")
    assert "surrogate" in answer.body["error"]["message"]


async def test_names_in_any_script_are_kept_and_direction_overrides_are_refused(auth: Auth) -> None:
    names = ["علی\u200cرضا", "ශ්\u200dරී", "👨\u200d👩\u200d👧", "Ann\u00a0Lee"]
    kept = [(await sign_up(auth, f"n{at}@auth.example", name)).body["user"]["name"] for at, name in enumerate(names)]
    refused = await sign_up(auth, "x@auth.example", "Ann\u202eeeL")

    assert kept == [*names[:3], "Ann Lee"]
    assert refused.body["error"]["message"] == "name: a name cannot contain U+202E (RIGHT-TO-LEFT OVERRIDE)"


@asynccontextmanager
async def database_of_the_version_before(folder: Path) -> AsyncIterator[Database]:
    """Auth's tables as they were before addresses had a canonical form."""
    database = Database(database_url(folder, "auth"))
    try:
        await MIGRATIONS.downgrade(database, "0005")
        yield database
        await MIGRATIONS.upgrade(database)
    finally:
        await database.close()


OLD = ["josé@bücher.example", unicodedata.normalize("NFD", "josé@bücher.example"), "josé@xn--bcher-kva.example"]


@on_both_databases
async def test_accounts_of_an_earlier_version_that_share_an_address_all_sign_in(
    stream: NatsServer, tmp_path: Path
) -> None:
    """The spelling that was typed decides first; with another spelling, the password does.

    Other people cannot sign up with any of them.
    """
    async with running_auth(stream, tmp_path) as auth:
        for number in range(3):
            body = {"email": f"old{number}@auth.example", "password": f"{PASSWORD} {number}", "name": f"Old {number}"}
            assert (await auth.call("POST", "/auth/sign-up", body)).status == 201
        await sign_up(auth, "lonely@auth.example", "Lonely")
    async with database_of_the_version_before(tmp_path) as database:
        now = datetime.now(UTC)
        async with database.transaction() as tx:
            for number, email in enumerate(OLD):
                change = text("UPDATE users SET email = :email WHERE name = :name")
                await tx.execute(change, {"email": email, "name": f"Old {number}"})
                at = USERS.update().where(USERS.c.name == f"Old {number}")
                await tx.execute(at.values(created_at=now + timedelta(seconds=number)))
            await tx.execute(text("UPDATE users SET email = 'a..b@auth.example' WHERE name = 'Lonely'"))

    async with running_auth(stream, tmp_path) as auth:
        for number, email in enumerate(OLD):
            password = f"{PASSWORD} {number}"
            assert (await sign_in(auth, email, password)).body["user"]["name"] == f"Old {number}"
            assert (await sign_in(auth, email.upper(), password)).body["user"]["name"] == f"Old {number}"
            assert (await sign_in(auth, f"\u200b{email}", password)).body["user"]["name"] == f"Old {number}"
            assert (await sign_up(auth, email)).status == 409
        assert (await sign_in(auth, OLD[0], "wrong password")).code == "bad_credentials"
        assert (await sign_in(auth, "A..B@auth.example")).status == 200
    twins = execute(tmp_path, "auth", "SELECT name, email_twin FROM users ORDER BY name")

    assert twins == [("Lonely", 0), ("Old 0", 0), ("Old 1", 1), ("Old 2", 2)]


@on_both_databases
async def test_account_made_by_the_earlier_version_during_an_upgrade_is_completed_at_sign_in(
    stream: NatsServer, tmp_path: Path
) -> None:
    async with running_auth(stream, tmp_path) as auth:
        await sign_up(auth, "ann@auth.example")
        execute(tmp_path, "auth", "UPDATE users SET canonical_email = NULL")
        taken = await sign_up(auth, "Ann@auth.example")
        back = await sign_in(auth, "ann@auth.example")
        otherwise = await sign_in(auth, "a\u200bnn@auth.example")

    assert (taken.status, back.status, otherwise.status) == (409, 200, 200)
