"""Look users up by the e-mail address that a caller typed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import and_, case, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from beaconfire_auth.email_addresses import EmailAddress, canonical
from beaconfire_auth.store import USERS


class Person(NamedTuple):
    """A user as other applications know them: `sub` is the id of an outside issuer's user at the issuer."""

    user_id: str
    issuer: str | None = None
    sub: str | None = None


MAX_TWINS = 3
"""Accounts of one address that are considered. Each may cost the hash of a password."""


async def users_with_email(connection: AsyncConnection, address: EmailAddress) -> Sequence[Any]:
    """Return the rows of the users with this address, the likeliest first. Usually there is one, or none.

    Several belong to accounts that were made for different forms of one address, before there was a canonical form. The
    one whose form was typed comes first, then the oldest.
    """
    unknown_form = and_(USERS.c.canonical_email.is_(None), USERS.c.email == address.before)
    found = select(USERS).where(or_(USERS.c.canonical_email == address.canonical, unknown_form))
    exact = case((USERS.c.email == address.before, 0), else_=1)
    return (await connection.execute(found.order_by(exact, USERS.c.email_twin).limit(MAX_TWINS))).all()


async def store_canonical_email(tx: AsyncConnection, user: Any) -> None:
    """Store the canonical form of a user's address if an earlier version created the row without it."""
    if user.canonical_email is not None:
        return
    form = canonical(user.email)
    twins = select(func.coalesce(func.max(USERS.c.email_twin) + 1, 0)).where(USERS.c.canonical_email == form)
    this = update(USERS).where(USERS.c.id == user.id, USERS.c.canonical_email.is_(None))
    await tx.execute(this.values(canonical_email=form, email_twin=await tx.scalar(twins)))
