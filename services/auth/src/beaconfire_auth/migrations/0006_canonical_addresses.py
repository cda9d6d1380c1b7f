"""Add one form in which addresses are compared. It writes two columns of every user, which takes seconds for a million.

If two accounts turn out to have one address, both stay: the one that was made first is twin 0, the next is twin 1.
Each signs in with its own password. The migration logs how many there are.
"""

import logging

import sqlalchemy as sa
from alembic import op

from beaconfire_auth.email_addresses import canonical

revision = "0006"
down_revision = "0005"

log = logging.getLogger(__name__)

AT_ONCE = 1_000
USERS = sa.table(
    "users",
    sa.column("id", sa.String),
    sa.column("email", sa.String),
    sa.column("canonical_email", sa.String),
    sa.column("email_twin", sa.Integer),
    sa.column("created_at", sa.DateTime),
)


def upgrade() -> None:
    with op.batch_alter_table("users", schema=None) as batch_op:
        batch_op.add_column(sa.Column("canonical_email", sa.String(length=254), nullable=True))
        batch_op.add_column(sa.Column("email_twin", sa.Integer(), server_default="0", nullable=False))
    _write_canonical_forms(op.get_bind())
    with op.batch_alter_table("users", schema=None) as batch_op:
        batch_op.create_unique_constraint("one_account_for_an_address", ["canonical_email", "email_twin"])


def downgrade() -> None:
    with op.batch_alter_table("users", schema=None) as batch_op:
        batch_op.drop_constraint("one_account_for_an_address", type_="unique")
        batch_op.drop_column("email_twin")
        batch_op.drop_column("canonical_email")


def _write_canonical_forms(connection: sa.Connection) -> None:
    oldest_first = sa.select(USERS.c.id, USERS.c.email).order_by(USERS.c.created_at, USERS.c.id)
    twins: dict[str, int] = {}
    rows = []
    for user in connection.execute(oldest_first).all():
        form = canonical(user.email)
        rows.append({"of": user.id, "form": form, "twin": twins.get(form, 0)})
        twins[form] = twins.get(form, 0) + 1
    change = sa.update(USERS).where(USERS.c.id == sa.bindparam("of"))
    written = change.values(canonical_email=sa.bindparam("form"), email_twin=sa.bindparam("twin"))
    for at in range(0, len(rows), AT_ONCE):
        connection.execute(written, rows[at : at + AT_ONCE])
    if shared := sum(1 for count in twins.values() if count > 1):
        log.warning("%d addresses have several accounts, each with its own password", shared)
