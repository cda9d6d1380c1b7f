"""Add kingdoms and the schemas of variables. What was a structure's kind is its type; its column stays as it is.

Existing settlements are in no kingdom, and existing variables have no schema. For existing structures every field
counts as changed just now, so an edit that started before gets a conflict: it may know the field by its old name.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "kingdoms",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("campaign_id", sa.String(length=64), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("field_revisions", sa.JSON(), server_default="{}", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_kingdoms_campaign_id", "kingdoms", ["campaign_id"])
    op.add_column("settlements", sa.Column("kingdom_id", sa.String(length=64), nullable=True))
    op.create_index("ix_settlements_kingdom_id", "settlements", ["kingdom_id"])
    for table in ("settlements", "structures"):
        op.add_column(table, sa.Column("variable_schemas", sa.JSON(), server_default="{}", nullable=False))
    now = """'{"": ' || revision || '}'"""
    value = f"CAST({now} AS JSON)" if op.get_bind().dialect.name == "postgresql" else now
    op.execute(f"UPDATE structures SET field_revisions = {value}")  # noqa: S608  (no part of it comes from outside)


def downgrade() -> None:
    for table in ("settlements", "structures"):
        op.drop_column(table, "variable_schemas")
    op.drop_index("ix_settlements_kingdom_id", "settlements")
    op.drop_column("settlements", "kingdom_id")
    op.drop_table("kingdoms")
