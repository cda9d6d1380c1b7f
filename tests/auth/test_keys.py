"""Signing keys are made once, sealed, rotated with an overlap, and destroyed when nothing needs them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from beaconfire_auth.keys import KEEP_S, Keys
from beaconfire_auth.migrations import MIGRATIONS
from beaconfire_auth.root_kinds import RootKinds
from beaconfire_auth.seal import KeysUnusable, Seal
from beaconfire_auth.service_tokens import ServiceTokens
from beaconfire_auth.settings import Settings
from beaconfire_kit import tokens
from beaconfire_kit.catalogue.builtin import fragments
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue_follower import CatalogueFollower
from beaconfire_kit.database import Database
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.migrations import open_database
from tests.databases import database_url, execute, on_both_databases

pytestmark = on_both_databases

SECRET = "one secret"


class Clock:
    """The time, as the test wants it."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(folder: Path, *secrets: str, clock: Clock | None = None) -> AsyncIterator[Keys]:
    """An auth process's keys on a folder's database."""
    database = Database(database_url(folder, "auth"))
    await open_database(database, MIGRATIONS, migrate=True)
    try:
        keys = Keys(database, Seal(secrets or (SECRET,)), clock=clock or Clock())
        await keys.open()
        yield keys
    finally:
        await database.close()


def sign(keys: Keys) -> str:
    kid, key = keys.signer
    return tokens.sign(key, kid, user_id="u1", name="", issuer="i", audience="a", ttl_s=60)


def verifies(keys: Keys, token: str) -> bool:
    try:
        tokens.verify(token, tokens.read_jwks(keys.jwks()), issuer="i", audience="a")
    except tokens.UnknownKey:
        return False
    return True


async def test_first_start_makes_one_signing_key_that_all_processes_share(tmp_path: Path) -> None:
    async with opened(tmp_path) as first, opened(tmp_path) as second:
        assert len(first.jwks()["keys"]) == 1
        assert first.jwks() == second.jwks()
        assert verifies(second, sign(first))


async def test_signing_key_cannot_be_read_from_the_database_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as keys:
        raw = keys.signer[1].private_bytes_raw()
    ((sealed,),) = execute(tmp_path, "auth", "SELECT sealed FROM signing_keys")

    assert raw.hex() not in sealed
    with pytest.raises(KeysUnusable, match="BEACONFIRE_KEYS_SECRET"):
        async with opened(tmp_path, "another secret"):
            pass


async def test_keys_are_sealed_again_with_a_new_secret_and_the_old_one_is_no_longer_needed(tmp_path: Path) -> None:
    async with opened(tmp_path) as keys:
        before = keys.jwks()
    async with opened(tmp_path, "new secret", SECRET):
        pass
    async with opened(tmp_path, "new secret") as keys:
        assert keys.jwks() == before


async def test_new_key_is_published_before_it_signs_and_the_old_one_verifies_until_its_tokens_expire(
    tmp_path: Path,
) -> None:
    clock = Clock()
    async with opened(tmp_path, clock=clock) as here, opened(tmp_path, clock=clock) as there:
        old, old_kid = sign(here), here.signer[0]
        new = await here.rotate(lead_s=120)
        await there.refresh()
        assert {key["kid"] for key in there.jwks()["keys"]} == {old_kid, new.kid}
        assert (new.state, here.signer[0], there.signer[0]) == ("next", old_kid, old_kid)

        clock.now += 120
        assert here.signer[0] == there.signer[0] == new.kid
        assert all(verifies(keys, token) for keys in (here, there) for token in (old, sign(there)))

        clock.now += KEEP_S - 1
        await here.destroy_old()
        assert verifies(here, old)
        clock.now += 1
        await here.destroy_old()
        await there.refresh()
        assert [key["kid"] for key in there.jwks()["keys"]] == [new.kid]
        assert not verifies(there, old)


async def test_after_two_rotations_three_keys_verify_and_the_newest_signs(tmp_path: Path) -> None:
    """While one key waits for its time to sign, no other is made."""
    async with opened(tmp_path) as keys:
        signed = [sign(keys)]
        for _ in range(2):
            await keys.rotate(lead_s=0)
            signed.append(sign(keys))
        assert [verifies(keys, token) for token in signed] == [True] * 3
        assert [one.state for one in await keys.list()] == ["signing", "verifying", "verifying"]

        await keys.rotate(lead_s=60)
        with pytest.raises(BeaconfireError, match="is already waiting"):
            await keys.rotate(lead_s=60)


async def test_simultaneous_rotations_in_two_processes_each_succeed_or_are_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as here, opened(tmp_path) as there:
        await here.rotate(lead_s=0)
        await there.rotate(lead_s=0)
        await here.refresh()

        assert here.jwks() == there.jwks()
        assert here.signer[0] == there.signer[0]


async def test_leaked_key_is_removed_at_once_when_it_no_longer_signs(tmp_path: Path) -> None:
    async with opened(tmp_path) as keys:
        old, leaked = sign(keys), keys.signer[0]
        with pytest.raises(BeaconfireError, match="rotate first"):
            await keys.retire(leaked)
        await keys.rotate(lead_s=0)
        await keys.retire(leaked)

        assert not verifies(keys, old)
        with pytest.raises(BeaconfireError, match="no such key"):
            await keys.retire(leaked)


async def test_key_stays_as_long_as_a_service_token_it_signed_is_valid(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock=clock) as keys:
        catalogues = CatalogueFollower()
        catalogues.current = Catalogue.of(1, fragments())
        services = ServiceTokens(Settings(), keys._database, keys, RootKinds(catalogues))
        row, _ = await services.issue("weather", ["campaign.>"], expires_in_s=300 * 24 * 3600)
        clock.now = row.created_at.timestamp()
        await keys.rotate(lead_s=0)
        clock.now += KEEP_S + 1
        await keys.destroy_old()
        assert [one.service_tokens for one in await keys.list()] == [0, 1]

        await services.revoke(row.id)
        await keys.destroy_old()
        assert len(await keys.list()) == 1
