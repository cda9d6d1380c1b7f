"""The OpenAPI 3.1 document of the workspace service, generated from the models that its calls use."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from beaconfire_demo.workspace import agents, approvals, chat, notifications
from beaconfire_demo.workspace.agents import Agent, AgentStatus, NewAgent
from beaconfire_demo.workspace.approvals import Approval, Decision, NewApproval
from beaconfire_demo.workspace.chat import Message, NewMessage
from beaconfire_demo.workspace.notifications import Notification, Seen
from beaconfire_demo.workspace.workspaces import ONE, PATH, NewWorkspace, Workspace
from beaconfire_kit import errors, openapi
from beaconfire_kit.openapi import (
    IDEMPOTENCY_KEY,
    IF_MATCH,
    READS,
    TAG,
    WRITES,
    Call,
    list_of,
    object_of,
    reference,
)

ABOUT = (
    "Approvals, agents, chats and notifications of workspaces. Each change publishes an event that reaches the sockets "
    "of every member. docs/topics/demo.md says who may do what."
)
_MEMBERS = (errors.BAD_REQUEST, errors.FORBIDDEN, errors.NOT_FOUND)
_WRITERS = (*_MEMBERS, errors.CONFLICT)
_SENT: tuple[type[BaseModel], ...] = (NewWorkspace, NewApproval, Decision, NewAgent, AgentStatus, NewMessage, Seen)
_ANSWERED: tuple[type[BaseModel], ...] = (Workspace, Approval, Agent, Message, Notification)


def document() -> dict[str, Any]:
    """Return the whole document."""
    return openapi.document(
        title="Beaconfire workspace",
        about=ABOUT,
        bearer="An access token of auth",
        calls=calls(),
        schemas=_schemas(),
    )


def calls() -> Iterator[Call]:
    """Yield every call except the health endpoints and the document itself."""
    yield from _workspaces()
    yield from _approvals()
    yield from _agents()
    yield from _others()


def _workspaces() -> Iterator[Call]:
    workspace = object_of(workspace=reference("Workspace"))
    listed = object_of(workspaces=list_of("Workspace"))
    yield Call("get", PATH, "List the caller's workspaces", (), listed, headers=READS)
    yield _creation(PATH, "Create a workspace; the caller is its owner", "NewWorkspace", workspace, TAG | READS)
    yield Call("get", ONE, "Read a workspace", _MEMBERS, workspace, headers=TAG | READS)


def _approvals() -> Iterator[Call]:
    things, thing = approvals.PATH, approvals.ONE
    approval = object_of(approval=reference("Approval"))
    listed = object_of(approvals=list_of("Approval"))
    yield Call("get", things, "List the newest approvals of each status", _MEMBERS, listed, headers=READS)
    yield _creation(things, "Request an approval (editors)", "NewApproval", approval)
    yield Call("get", thing, "Read an approval", _MEMBERS, approval, headers=TAG | READS)
    yield Call(
        "post",
        f"{thing}/decision",
        "Decide an approval that is pending (editors); the first decision counts",
        _WRITERS,
        approval,
        body=reference("Decision"),
        headers=TAG | WRITES,
        parameters=(IF_MATCH, IDEMPOTENCY_KEY),
    )
    yield Call(
        "delete",
        thing,
        "Withdraw an own approval that is pending (editors), or delete any (owners)",
        _WRITERS,
        None,
        204,
        headers=WRITES,
        parameters=(IF_MATCH,),
    )


def _agents() -> Iterator[Call]:
    agent = object_of(agent=reference("Agent"))
    yield Call("get", agents.PATH, "List the agents", _MEMBERS, object_of(agents=list_of("Agent")), headers=READS)
    yield _creation(agents.PATH, "Register an agent (editors)", "NewAgent", agent)
    yield Call(
        "put",
        f"{agents.ONE}/status",
        "Report the status of an agent (editors)",
        _WRITERS,
        agent,
        body=reference("AgentStatus"),
        headers=TAG | WRITES,
        parameters=(IF_MATCH,),
    )


def _others() -> Iterator[Call]:
    before = {"name": "before", "in": "query", "schema": {"type": "string", "pattern": "^[0-9]{1,15}$"}}
    yield Call(
        "get",
        chat.PATH,
        "List the newest messages of a chat, oldest first, or those before a number",
        _MEMBERS,
        object_of(messages=list_of("Message")),
        headers=READS,
        parameters=(before,),
    )
    yield _creation(chat.PATH, "Write a message (every member)", "NewMessage", object_of(message=reference("Message")))
    unread = {"type": "integer", "minimum": 0}
    listed = object_of(notifications=list_of("Notification"), unread=unread)
    yield Call("get", notifications.PATH, "List the caller's newest notifications", (), listed, headers=READS)
    yield Call(
        "post",
        f"{notifications.PATH}/read",
        "Mark notifications of the caller as read",
        (),
        None,
        204,
        reference("Seen"),
        WRITES,
    )


def _creation(path: str, summary: str, body: str, answer: Any, headers: Any = None) -> Call:
    given = headers or TAG | WRITES
    return Call("post", path, summary, _WRITERS, answer, 201, reference(body), given, (IDEMPOTENCY_KEY,))


def _schemas() -> dict[str, Any]:
    modes: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        *((model, "validation") for model in _SENT),
        *((model, "serialization") for model in _ANSWERED),
    ]
    _, found = models_json_schema(modes, by_alias=True, ref_template=openapi.REFERENCE)
    schemas: dict[str, Any] = found["$defs"]
    return schemas
