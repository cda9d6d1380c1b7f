"""Add the inbox, which records the messages that the workers have handled."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "inbox",
        sa.Column("consumer", sa.String(length=64), nullable=False),
        sa.Column("cause", sa.String(length=64), nullable=False),
        sa.Column("handled_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("consumer", "cause"),
        if_not_exists=True,
    )
    op.create_index("ix_inbox_handled_at", "inbox", ["handled_at"], if_not_exists=True)


def downgrade() -> None:
    op.drop_table("inbox")
