"""Run the migrations. Alembic executes this file, with the connection and the service that `Migrations` passes."""

from typing import Any, Literal

from alembic import context
from sqlalchemy.types import TypeDecorator

from beaconfire_kit.migrations import Migrations


def _render(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Write revisions without our own types, which may change while revisions may not."""
    return f"sa.{item.impl_instance!r}" if kind == "type" and isinstance(item, TypeDecorator) else False


_given = context.config.attributes
_migrations: Migrations = _given["migrations"]

context.configure(
    connection=_given["connection"],
    target_metadata=_migrations.tables,
    version_table=_migrations.version_table,
    compare_type=True,
    render_item=_render,
    render_as_batch=True,  # SQLite cannot alter most of a table: it is copied
    transactional_ddl=True,  # SQLite can, as we start transactions ourselves: all or nothing
)
with context.begin_transaction():
    context.run_migrations()
