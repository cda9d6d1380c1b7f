"""Why the broker refused an event. Those that it refused before have no reason that is known."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.add_column(sa.Column("refused", sa.Text(), nullable=True))
        batch_op.create_index(
            "outbox_refused",
            ["id"],
            unique=False,
            sqlite_where=sa.text("refused IS NOT NULL"),
            postgresql_where=sa.text("refused IS NOT NULL"),
        )
    op.execute(
        "UPDATE outbox SET refused = 'refused before reasons were kept' "
        "WHERE published_at IS NOT NULL AND stream_offset IS NULL"
    )


def downgrade() -> None:
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.drop_index(
            "outbox_refused",
            sqlite_where=sa.text("refused IS NOT NULL"),
            postgresql_where=sa.text("refused IS NOT NULL"),
        )
        batch_op.drop_column("refused")
