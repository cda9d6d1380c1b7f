"""Create a root: its creator becomes its owner at auth, and its row and events are written.

async def write(tx: Writing, campaign_id: str) -> None:
    await tx.add(CAMPAIGNS, {"id": campaign_id}, wanted.model_dump())

campaign_id, tx = await create_root(store, access, caller, key, write)
if tx is None:
    ...  # an earlier request under this key created it: answer as for a read
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from beaconfire_kit import errors
from beaconfire_kit.access import Access, Caller
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.idempotency import Key
from beaconfire_kit.store import Store, Writing, new_id

W = TypeVar("W", bound=Writing)


async def _allow() -> None:
    """Allow everything."""


async def create_root(
    store: Store[W],
    access: Access,
    caller: Caller,
    key: Key | None,
    write: Callable[[W, str], Awaitable[None]],
    *,
    check: Callable[[], Awaitable[None]] = _allow,
) -> tuple[str, W | None]:
    """Make the caller the owner of a new root, and call `write` with its id. Return the id and the transaction.

    The transaction is None for a repeat under the same key. `check` is awaited before the first side effect.

    The grant comes first. A crash in between leaves an owner without a root, which is harmless. The other way round it
    would leave a root that no user can reach. Auth grants only while the root has no member, so a repeated request
    never takes a root back, however late it comes.
    """
    root_id = new_id()
    if key is not None:
        async with store.writing(caller.metadata) as tx:
            earlier = await tx.claim(key, {"id": root_id}, is_done=False)
        if earlier is not None:
            root_id = earlier.outcome["id"]
            if earlier.is_done:
                return root_id, None
    await check()
    try:
        await access.make_owner(caller, root_id)
    except BeaconfireError as error:
        if error.code is errors.CONFLICT and key is not None:
            return root_id, None
        raise
    async with store.writing(caller.metadata) as tx:
        if key is not None and not await tx.complete(key):
            return root_id, None
        await write(tx, root_id)
    return root_id, tx
