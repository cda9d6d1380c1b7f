"""Sign-up, sign-in, refresh and sign-out over HTTP."""

import asyncio
from pathlib import Path

import jwt
import pytest

from beaconfire.nats_server import NatsServer
from tests.auth.conftest import PASSWORD, Auth, person, running_auth
from tests.databases import execute, on_both_databases

pytestmark = on_both_databases


async def test_signing_up_signs_the_user_in_for_a_quarter_of_an_hour(auth: Auth) -> None:
    owner = await auth.sign_up("owner")
    me = await auth.call("GET", "/auth/me", token=owner.token)
    header, claims = (
        jwt.get_unverified_header(owner.token),
        jwt.decode(owner.token, options={"verify_signature": False}),
    )

    assert me.body == {"user": {"id": owner.id, "name": "owner", "email": "owner@auth.example"}}
    assert (header["alg"], header["typ"]) == ("EdDSA", "at+jwt")
    assert (claims["sub"], claims["exp"] - claims["iat"]) == (owner.id, 900)


async def test_published_keys_verify_tokens_and_contain_nothing_private(auth: Auth) -> None:
    owner = await auth.sign_up("owner")
    keys = (await auth.call("GET", "/.well-known/jwks.json")).body["keys"]
    key = next(key for key in keys if key["kid"] == jwt.get_unverified_header(owner.token)["kid"])
    claims = jwt.decode(
        owner.token, jwt.PyJWK(key).key, algorithms=["EdDSA"], audience="beaconfire", issuer="beaconfire"
    )

    assert claims["sub"] == owner.id
    assert not [key for key in keys if "d" in key]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"email": "nobody"}, "email"),
        ({"email": "a@b@c"}, "email"),
        ({"email": "a" * 250 + "@auth.example"}, "email"),
        ({"email": 7}, "email"),
        ({"password": "short"}, "password"),
        ({"password": "x" * 201}, "password"),
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"admin": True}, "admin"),
    ],
)
async def test_sign_up_with_a_wrong_field_is_refused_with_the_fields_name(
    auth: Auth, change: dict[str, object], named: str
) -> None:
    body = {"email": "new@auth.example", "password": PASSWORD, "name": "New", **change}
    answer = await auth.call("POST", "/auth/sign-up", body)

    assert (answer.status, answer.code) == (400, "bad_request")
    assert answer.body["error"]["message"].startswith(f"{named}: ")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 50_000])
async def test_body_that_is_no_json_object_is_refused(auth: Auth, body: bytes) -> None:
    assert (await auth.call("POST", "/auth/sign-in", body)).status == 400


async def test_body_over_64_kib_is_refused(auth: Auth) -> None:
    answer = await auth.call("POST", "/auth/sign-in", {"email": "x" * 70_000})

    assert (answer.status, answer.code) == (413, "too_large")


async def test_an_address_can_sign_up_only_once_however_it_is_written(auth: Auth) -> None:
    await auth.sign_up("owner")
    body = {"email": " OWNER@auth.example", "password": PASSWORD, "name": "x"}
    answer = await auth.call("POST", "/auth/sign-up", body)

    assert (answer.status, answer.code) == (409, "conflict")


async def test_wrong_password_and_unknown_address_get_the_same_answer(auth: Auth) -> None:
    owner = await auth.sign_up("owner")
    right, wrong, unknown = (
        await auth.sign_in("owner"),
        await auth.sign_in("owner", "wrong password"),
        await auth.sign_in("nobody"),
    )

    assert right.body["user"]["id"] == owner.id
    assert (wrong.status, wrong.body) == (unknown.status, unknown.body)
    assert wrong.code == "bad_credentials"


@pytest.mark.parametrize("token", ["", "nonsense", "a.b.c"])
async def test_call_without_a_valid_token_is_refused(auth: Auth, token: str) -> None:
    answer = await auth.call("GET", "/auth/me", token=token)

    assert (answer.status, answer.code) == (401, "token_invalid")


@pytest.mark.parametrize(
    "header", [b"Bearer \xff", b"Bearer \xed\xa0\x80.a.b", b"Basic abc", b"Bearer", b"Bearer " + b"a." * 3_000]
)
async def test_any_bytes_in_the_authorization_header_get_401_and_never_500(auth: Auth, header: bytes) -> None:
    host, port = auth.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /auth/me HTTP/1.1\r\nHost: auth.example\r\nAuthorization: " + header + b"\r\n\r\n")
    status = await reader.readline()
    writer.close()

    assert status.split()[1] == b"401"


async def test_refresh_token_is_exchanged_for_a_new_pair(auth: Auth) -> None:
    owner = await auth.sign_up("owner")
    second = person(await auth.call("POST", "/auth/refresh", {"refreshToken": owner.refresh_token}))
    third = await auth.call("POST", "/auth/refresh", {"refreshToken": second.refresh_token})

    assert second.refresh_token != owner.refresh_token
    assert third.status == 200


async def test_refresh_token_that_was_never_issued_is_refused(auth: Auth) -> None:
    assert (await auth.call("POST", "/auth/refresh", {"refreshToken": "nonsense"})).code == "token_invalid"


async def test_signing_out_ends_only_this_sign_in_and_can_be_repeated(auth: Auth) -> None:
    owner = await auth.sign_up("owner")
    elsewhere = person(await auth.sign_in("owner"))
    first = await auth.call("POST", "/auth/sign-out", {"refreshToken": owner.refresh_token})
    second = await auth.call("POST", "/auth/sign-out", {"refreshToken": owner.refresh_token})
    refreshed = await auth.call("POST", "/auth/refresh", {"refreshToken": owner.refresh_token})
    other = await auth.call("POST", "/auth/refresh", {"refreshToken": elsewhere.refresh_token})

    assert (first.status, second.status, refreshed.status, other.status) == (204, 204, 401, 200)


async def test_signing_out_everywhere_revokes_all_earlier_tokens_and_allows_an_immediate_sign_in(auth: Auth) -> None:
    owner = await auth.sign_up("owner")
    elsewhere = person(await auth.sign_in("owner"))
    await auth.call("POST", "/auth/sign-out", {"refreshToken": owner.refresh_token, "everywhere": True})
    old = [(await auth.call("GET", "/auth/me", token=one.token)).status for one in (owner, elsewhere)]
    refreshed = await auth.call("POST", "/auth/refresh", {"refreshToken": elsewhere.refresh_token})
    back = person(await auth.sign_in("owner"))
    me = await auth.call("GET", "/auth/me", token=back.token)

    assert old == [401, 401]
    assert refreshed.status == 401
    assert me.status == 200


async def test_second_sign_out_everywhere_within_a_second_revokes_tokens_issued_in_between(auth: Auth) -> None:
    await auth.sign_up("owner")
    seen = []
    for _ in range(3):
        back = person(await auth.sign_in("owner"))
        await auth.call("POST", "/auth/sign-out", {"refreshToken": back.refresh_token, "everywhere": True})
        seen.append((await auth.call("GET", "/auth/me", token=back.token)).status)

    assert seen == [401, 401, 401]


async def test_sign_in_succeeds_although_a_sign_out_everywhere_overtakes_its_password_check(
    stream: NatsServer, tmp_path: Path
) -> None:
    async with running_auth(stream, tmp_path, argon2_time_cost=40, argon2_memory_kib=16_384) as auth:
        owner = await auth.sign_up("owner")
        async with asyncio.TaskGroup() as tasks:
            signing_in = tasks.create_task(auth.sign_in("owner"))
            await auth.call("POST", "/auth/sign-out", {"refreshToken": owner.refresh_token, "everywhere": True})
        me = await auth.call("GET", "/auth/me", token=person(signing_in.result()).token)

    assert me.status == 200


async def test_expired_refresh_token_is_refused_and_deleted_at_the_next_sign_in(
    stream: NatsServer, tmp_path: Path
) -> None:
    """The database never has a refresh token in clear."""
    async with running_auth(stream, tmp_path) as auth:
        owner = await auth.sign_up("owner")
    execute(tmp_path, "auth", "UPDATE refresh_tokens SET expires_at = '2020-01-01 00:00:00.000000'")
    async with running_auth(stream, tmp_path) as auth:
        refreshed = await auth.call("POST", "/auth/refresh", {"refreshToken": owner.refresh_token})
        await auth.sign_in("owner")
    kept = execute(tmp_path, "auth", "SELECT hash, CAST(expires_at AS TEXT) FROM refresh_tokens")

    assert refreshed.code == "token_invalid"
    assert len(kept) == 1
    assert kept[0][1] > "2020-01-02"
    assert owner.refresh_token not in str(kept)


async def test_keys_and_users_outlive_a_restart(stream: NatsServer, tmp_path: Path) -> None:
    async with running_auth(stream, tmp_path) as auth:
        owner = await auth.sign_up("owner")
    async with running_auth(stream, tmp_path) as auth:
        me = await auth.call("GET", "/auth/me", token=owner.token)
        again = await auth.sign_in("owner")

    assert me.body["user"]["id"] == owner.id
    assert again.status == 200


async def test_only_configured_origins_may_read_answers(stream: NatsServer, tmp_path: Path) -> None:
    async with running_auth(stream, tmp_path, allowed_origins="https://app.example") as auth:
        allowed = await auth.call("GET", "/.well-known/jwks.json", headers={"Origin": "https://app.example"})
        foreign = await auth.call("GET", "/.well-known/jwks.json", headers={"Origin": "https://evil.example"})

    assert allowed.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert "Access-Control-Allow-Origin" not in foreign.headers
