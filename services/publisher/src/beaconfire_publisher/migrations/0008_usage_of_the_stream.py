"""Add a table of what users and roots have published lately. It is empty at first, so no user is over a limit."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "stream_usage",
        sa.Column("scope", sa.String(length=160), nullable=False),
        sa.Column("events", sa.Float(precision=53), nullable=False),
        sa.Column("bytes", sa.Float(precision=53), nullable=False),
        sa.Column("share", sa.Float(precision=53), nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("scope"),
    )


def downgrade() -> None:
    op.drop_table("stream_usage")
