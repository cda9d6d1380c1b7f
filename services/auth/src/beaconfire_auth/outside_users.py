"""Verify tokens of outside issuers, and make a row for each of their users when auth first hears of the user.

Such a user has no password and can be a member like any other. The e-mail address is copied if the issuer has checked
it and no user here has it. Otherwise the user gets an address that no mail reaches (RFC 2606), so that ids and
addresses stay unique.

A backend may make a user a member who has never connected. That makes a placeholder, with the id for a name. The user's
first valid token fills it with their name and address.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import aiohttp
from sqlalchemy import insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from beaconfire_auth.email_addresses import EmailAddress, known_address, new_address
from beaconfire_auth.people import Person, users_with_email
from beaconfire_auth.store import USERS
from beaconfire_kit import errors, logs, refusals, tokens
from beaconfire_kit.database import Database
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.names import display_name
from beaconfire_kit.outside_issuer import OutsideIssuer
from beaconfire_kit.outside_tokens import OutsideClaims
from beaconfire_kit.tokens import InvalidToken
from beaconfire_kit.verifier import JwksUnavailable, OutsideVerifier

log = logs.get(__name__)


class OutsideUsers:
    """Verify tokens of the outside issuers in the settings, and create rows for their users."""

    def __init__(self, issuers: Sequence[OutsideIssuer], database: Database) -> None:
        self._issuers = issuers
        self._database = database
        self._verifier: OutsideVerifier | None = None

    def start(self, http: aiohttp.ClientSession) -> None:
        """Start verifying. Keys are read when they are needed."""
        self._verifier = OutsideVerifier(http, self._issuers)

    async def verify(self, token: str) -> OutsideClaims | None:
        """Return the claims of a valid token, or None if it names no outside issuer.

        Raises InvalidToken, and BeaconfireError `unavailable` if the issuer's keys cannot be read.
        """
        if self._verifier is None or not self._verifier.knows(tokens.peek(token).issuer):
            return None
        try:
            claims = await self._verifier.verify(token)
        except JwksUnavailable:
            raise BeaconfireError(
                errors.UNAVAILABLE, "the token's issuer does not answer, try again", retry_after_ms=1_000
            ) from None
        assert isinstance(claims, OutsideClaims), "auth is none of these issuers"
        return claims

    async def person(self, user_id: str, token: str | None) -> Person:
        """Return how an issuer's user is named to an authorizer. A hashed id is looked up in the user's token."""
        issuer = self._issuer_of(user_id)
        if issuer is None:
            return Person(user_id)
        if user_id.startswith(f"{issuer.name}-"):
            return Person(user_id, issuer.name, user_id.removeprefix(f"{issuer.name}-"))
        try:
            claims = await self.verify(token or "")
        except (InvalidToken, BeaconfireError):
            return Person(user_id, issuer.name)
        return Person(user_id, issuer.name, claims.subject if claims and claims.user_id == user_id else None)

    async def grants_of(self, user_id: str, token: str) -> OutsideClaims | None:
        """Return the claims of a token of this user, if its issuer may grant anything.

        The token came with another service's question, so nothing in it is believed before it was verified here.
        Raises BeaconfireError `unavailable` if the issuer's keys cannot be read.
        """
        issuer = self._issuer_of(user_id)
        if issuer is None or not issuer.grants:
            return None
        try:
            claims = await self.verify(token)
        except InvalidToken as error:
            refusals.report(error, token)
            return None
        return claims if claims is not None and claims.user_id == user_id else None

    async def add_from_token(self, user_id: str, token: str) -> bool:
        """Create the user of an outside issuer's token, once. Return False if it is not a valid token of this user.

        Raises BeaconfireError `unavailable` if the issuer's keys cannot be read.
        """
        try:
            claims = await self.verify(token)
        except InvalidToken as error:
            refusals.report(error, token)
            return False
        if claims is None or claims.user_id != user_id:
            return False
        return await self.add_once(user_id, claims.name, claims.email)

    async def add_once(self, user_id: str, name: str, email: str) -> bool:
        """Create a user of an outside issuer, once. Return False if the id belongs to none of the issuers."""
        issuer = self._issuer_of(user_id)
        if issuer is None:
            return False
        for address in (_read(email), _unreachable(user_id, issuer)):
            if address is not None and await self._add(user_id, _readable(name) or user_id, address):
                break
        return True

    def user_id(self, issuer: str, subject: str) -> str:
        """Return the id of an issuer's user. `issuer` is our name for it, or its `iss`.

        Raises BeaconfireError `bad_request` if there is no such issuer.
        """
        known = [one for one in self._issuers if one.name == issuer]
        known += [one for one in self._issuers if one.issuer == issuer]
        if not known:
            names = ", ".join(one.name for one in self._issuers) or "none"
            raise BeaconfireError(
                errors.BAD_REQUEST, f"issuer: auth knows no outside issuer {issuer[:80]!r}. It knows {names}"
            )
        return known[0].user_id(subject)

    async def add_if_new(self, user_id: str) -> None:
        """Create a placeholder for a user of an outside issuer who has never connected."""
        async with self._database.writing() as tx:
            _, newcomers = await self.find(tx, [user_id])
            await self.add_placeholders(tx, newcomers)

    async def find(self, connection: AsyncConnection, user_ids: Collection[str]) -> tuple[set[str], set[str]]:
        """Return those of the users that exist, and those of outside issuers for which a placeholder can be added."""
        addresses = self._unreachable(user_ids)
        forms = [address.canonical for address in addresses.values()]
        either = or_(USERS.c.id.in_(user_ids), USERS.c.canonical_email.in_(forms))
        rows = (await connection.execute(select(USERS.c.id, USERS.c.canonical_email).where(either))).all()
        existing = {row.id for row in rows} & set(user_ids)
        # An account of an earlier version may have such an address. It is not the account of the issuer's user.
        taken = {row.canonical_email for row in rows}
        return existing, {one for one, address in addresses.items() if address.canonical not in taken} - existing

    async def add_placeholders(self, tx: AsyncConnection, user_ids: Collection[str]) -> None:
        """Create users of outside issuers who have never connected, in the caller's transaction. None may exist."""
        addresses = self._unreachable(user_ids)
        if addresses:
            made = [{**_row(one, one, address), "is_placeholder": True} for one, address in addresses.items()]
            await tx.execute(insert(USERS), made)
            log.info("made placeholders for users who have never connected", count=len(made))

    def _unreachable(self, user_ids: Collection[str]) -> dict[str, EmailAddress]:
        issuers = {user_id: issuer for user_id in user_ids if (issuer := self._issuer_of(user_id)) is not None}
        return {user_id: _unreachable(user_id, issuer) for user_id, issuer in issuers.items()}

    def _issuer_of(self, user_id: str) -> OutsideIssuer | None:
        return next((one for one in self._issuers if user_id.startswith((f"{one.name}-", f"{one.name}_"))), None)

    async def _add(self, user_id: str, name: str, address: EmailAddress) -> bool:
        """Create the user, or fill a placeholder. Return False if another user has the address.

        An existing user is not changed.
        """
        try:
            async with self._database.writing() as tx:
                this = USERS.c.id == user_id
                existing = (await tx.execute(select(USERS.c.is_placeholder).where(this))).one_or_none()
                if existing is not None and not existing.is_placeholder:
                    return True
                if any(other.id != user_id for other in await users_with_email(tx, address)):
                    return False
                row = _row(user_id, name, address)
                if existing is None:
                    await tx.execute(insert(USERS).values(**row))
                else:
                    filled = {column: row[column] for column in ("name", "email", "canonical_email")}
                    await tx.execute(update(USERS).where(this).values(**filled, is_placeholder=False))
        except IntegrityError:
            return False
        log.info("first heard of an outside user", user=user_id, was_placeholder=existing is not None)
        return True


def _row(user_id: str, name: str, address: EmailAddress) -> Mapping[str, Any]:
    return {
        "id": user_id,
        "email": address.shown,
        "canonical_email": address.canonical,
        "name": name,
        "password_hash": "",
        "issued_before": 0,
        "created_at": datetime.now(UTC),
    }


def _unreachable(user_id: str, issuer: OutsideIssuer) -> EmailAddress:
    return known_address(f"{_mailbox(user_id)}@{issuer.name}.invalid")


def _read(email: str) -> EmailAddress | None:
    try:
        return new_address(email)
    except ValueError:
        return None


def _readable(name: str) -> str:
    """Return the name in the form in which names are shown, or an empty text if it is not a name."""
    try:
        return display_name(name)
    except ValueError:
        return ""


def _mailbox(user_id: str) -> str:
    """Return a mailbox that belongs to this user only: addresses are compared in lower case, ids are not."""
    return user_id if user_id == user_id.lower() else hashlib.sha256(user_id.encode()).hexdigest()[:40]
