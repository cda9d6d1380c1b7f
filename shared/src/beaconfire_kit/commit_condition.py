"""Hold back the commits of a task until a condition holds.

    with committing_only_if(auth_agrees):          # an async function that raises if the commit may not happen
        async with database.writing() as tx:       # it is rolled back if `auth_agrees` raises
            ...

So the statements of a transaction can run while the answer to a question is still on its way.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Condition = Callable[[], Awaitable[None]]

_condition: ContextVar[Condition | None] = ContextVar("commit condition", default=None)


@contextmanager
def committing_only_if(condition: Condition) -> Iterator[None]:
    """Let this task, and the tasks that it starts, commit nothing until `condition` has returned.

    What `condition` raises rolls the transaction back, and is raised by the transaction's block.
    """
    token = _condition.set(condition)
    try:
        yield
    finally:
        _condition.reset(token)


async def check() -> None:
    """Wait for the condition of this task, if it has one. Called before each commit."""
    if (condition := _condition.get()) is not None:
        await condition()
