"""Add the revision at which each field was last changed.

For existing rows every field counts as changed just now. So an edit that started before gets a conflict.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

TABLES = ("campaigns", "settlements", "structures", "entities")


def upgrade() -> None:
    for table in TABLES:
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.add_column(sa.Column("field_revisions", sa.JSON(), nullable=False, server_default="{}"))
        now = """'{"": ' || revision || '}'"""
        value = f"CAST({now} AS JSON)" if op.get_bind().dialect.name == "postgresql" else now
        op.execute(f"UPDATE {table} SET field_revisions = {value}")  # noqa: S608  (no part of it comes from outside)


def downgrade() -> None:
    for table in TABLES:
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.drop_column("field_revisions")
