"""Answer HTTP calls on chats: every member reads and writes, viewers too, since writing changes no thing of others."""

from aiohttp import web

from beaconfire_demo.workspace.fields import Message as Text
from beaconfire_demo.workspace.fields import Thing
from beaconfire_demo.workspace.store import MESSAGES, WORKSPACES
from beaconfire_kit import errors
from beaconfire_kit.access import Access
from beaconfire_kit.answers import answer, idempotency_key, tag
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.events.workspace import ChatMessage
from beaconfire_kit.models import Body
from beaconfire_kit.store import Row, Store, Writing, new_id
from beaconfire_kit.web import read_body

PATH = "/v1/workspaces/{workspace_id}/chats/{chat_id}/messages"
MOST = 50


class NewMessage(Body):
    """A message to write."""

    text: Text


class Message(Thing):
    """A message as a member sees it."""

    workspace_id: str
    chat_id: str
    sender_id: str
    number: int
    """Counts the messages of the workspace. It is the order of the messages in a chat."""
    text: str


class Chats:
    """The HTTP calls on the chats of a workspace. A chat exists as soon as something is written in it."""

    def __init__(self, access: Access, store: Store[Writing]) -> None:
        self._access = access
        self._store = store

    def routes(self) -> list[web.RouteDef]:
        return [web.get(PATH, self._list), web.post(PATH, self._access.while_asking(self._write))]

    async def _list(self, request: web.Request) -> web.Response:
        """Return the newest messages, oldest first; with `before`, those before that number."""
        caller = await self._access.member(request)
        before = _number(request)
        async with self._store.reading() as tx:
            await tx.find(WORKSPACES, {"id": caller.path["workspace_id"]})
            rows = await tx.find_last(MESSAGES, caller.path, "number", most=MOST, below=before)
        return answer({"messages": [_show(row) for row in reversed(rows)]}, tx.headers)

    async def _write(self, request: web.Request) -> web.Response:
        caller = await self._access.member(request)
        wanted = await read_body(request, NewMessage)
        key = idempotency_key(request, caller.user_id, wanted)
        id_ = new_id()
        async with self._store.writing(caller.metadata) as tx:
            workspace = await tx.find(WORKSPACES, {"id": caller.path["workspace_id"]})  # others wait for the number
            earlier = await tx.claim(key, {"id": id_}) if key else None
            if earlier is not None:
                row = await tx.find(MESSAGES, {**caller.path, "id": earlier.outcome["id"]})
            else:
                number = workspace["message_count"] + 1
                await tx.note(WORKSPACES, workspace, {"message_count": number})
                given = {"sender_id": caller.user_id, "number": number}
                row, _ = await tx.add(MESSAGES, {**caller.path, "id": id_}, {**wanted.model_dump(), **given})
                tx.publish(ChatMessage.model_validate(_show(row)))
        return answer({"message": _show(row)}, {**tag(row), **await self._store.cursor_headers(tx)}, status=201)


def _number(request: web.Request) -> int | None:
    """Return `before` of a request's query. Raises BeaconfireError `bad_request`."""
    text = request.query.get("before")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise BeaconfireError(errors.BAD_REQUEST, f"before: expected the number of a message, got {text[:80]!r}")
    return int(text)


def _show(row: Row) -> dict[str, object]:
    return Message.model_validate(row).model_dump(mode="json")
