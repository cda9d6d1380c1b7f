"""Operators look a user up: roles, revocations, and rooms that the user may hear now."""

import pytest

from tests.auth.conftest import Auth
from tests.databases import on_both_databases


@on_both_databases
async def test_an_operator_sees_a_user_by_id_and_by_address_with_roles_and_revocations(auth: Auth) -> None:
    owner = await auth.sign_up("owner")
    root = {"root": "campaign:c1", "owner": {"userId": owner.id}}
    rights = {"service": "s", "publish": ["campaign.*.member.*", "user.*.access"]}
    token = (await auth.operate("POST", "service-tokens", rights)).body["token"]
    assert (await auth.call("POST", "/auth/roots", root, token=token)).status == 201
    before = (await auth.operate("GET", f"users/{owner.id}")).body["user"]
    for revoked in ({"userId": owner.id}, {"userId": owner.id, "root": "campaign:c1"}):
        assert (await auth.call("POST", "/auth/revocations", revoked, token=token)).status == 200

    by_id = (await auth.operate("GET", f"users/{owner.id}?room=campaign:c1&room=campaign:c2")).body["user"]
    by_address = (await auth.operate("GET", "users/OWNER@auth.example")).body["user"]

    assert (by_id["userId"], by_id["email"], by_id["placeholder"]) == (owner.id, "owner@auth.example", False)
    assert (by_id["rootCount"], by_id["roots"]) == (1, {"campaign:c1": "owner"})
    assert by_id["rooms"]["campaign:c1"] == {"allowed": True, "root": "campaign:c1", "role": "owner"}
    assert by_id["rooms"]["campaign:c2"] == {"allowed": False}
    assert by_address["userId"] == owner.id
    assert by_address["rooms"] == {}
    assert (before["tokensCountFrom"], before["revoked"]) == (None, {})
    assert by_id["tokensCountFrom"] is not None
    assert set(by_id["revoked"]) == {"campaign:c1"}


@pytest.mark.parametrize(
    ("name", "status"), [("nobody", 404), ("no@auth.example", 404), ("no one", 400), ("a%00@b", 400)]
)
async def test_a_user_that_auth_does_not_know_is_said_to_be_unknown(auth: Auth, name: str, status: int) -> None:
    answer = await auth.operate("GET", f"users/{name}")

    assert answer.status == status
