"""Revocations of a user's access to one root. A new table, empty until then."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "revocations",
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("root_kind", sa.String(length=64), nullable=False),
        sa.Column("root_id", sa.String(length=64), nullable=False),
        sa.Column("issued_before", sa.BigInteger(), nullable=False),
        sa.Column("authorizer_version", sa.BigInteger(), nullable=False),
        sa.Column("membership_version", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "root_kind", "root_id"),
    )
    with op.batch_alter_table("revocations", schema=None) as batch_op:
        batch_op.create_index("ix_revocations_revoked_at", ["revoked_at"])


def downgrade() -> None:
    with op.batch_alter_table("revocations", schema=None) as batch_op:
        batch_op.drop_index("ix_revocations_revoked_at")
    op.drop_table("revocations")
