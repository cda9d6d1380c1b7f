"""The workspace's OpenAPI document is valid, complete, and describes the running service."""

from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from beaconfire_demo.workspace import openapi
from beaconfire_demo.workspace.app import build
from beaconfire_demo.workspace.settings import Settings
from tests.demo.workspace.conftest import Workspace
from tests.openapi import assert_described, described, routes
from tests.publisher.conftest import Reply

DOCUMENT = openapi.document()


def test_workspaces_openapi_document_is_valid() -> None:
    validate(DOCUMENT, cls=OpenAPIV31SpecValidator)


def test_workspaces_openapi_document_has_exactly_the_served_calls() -> None:
    app = build(Settings(environment="development", database_url="sqlite+aiosqlite://"), on_fatal=lambda: None)

    assert described(DOCUMENT) == routes(app)


def check(method: str, path: str, reply: Reply) -> None:
    """The answer is one that the document has for this call."""
    assert_described(DOCUMENT, method, path, reply.status, reply.body, reply.headers)


async def test_answers_are_those_that_the_document_describes(workspace: Workspace) -> None:
    approvals, agents = "/v1/workspaces/{workspace_id}/approvals", "/v1/workspaces/{workspace_id}/agents"
    messages = "/v1/workspaces/{workspace_id}/chats/{chat_id}/messages"
    approval = await workspace.editor.post(workspace.approvals, {"title": "Buy oil"})
    agent = await workspace.editor.post(f"{workspace.workspace}/agents", {"name": "Scout"})
    decision = f"{workspace.approvals}/{approval.body['approval']['id']}/decision"
    report = f"{workspace.workspace}/agents/{agent.body['agent']['id']}/status"
    answers = [
        ("get", "/v1/workspaces", await workspace.owner.get("/v1/workspaces")),
        ("get", "/v1/workspaces/{workspace_id}", await workspace.owner.get(workspace.workspace)),
        ("post", "/v1/workspaces", await workspace.owner.post("/v1/workspaces", {"name": "Own"})),
        ("post", approvals, approval),
        ("get", approvals, await workspace.owner.get(workspace.approvals)),
        ("post", approvals, await workspace.viewer.post(workspace.approvals, {"title": "Mine"})),
        ("post", f"{approvals}/{{id}}/decision", await workspace.owner.post(decision, {"status": "approved"})),
        ("post", f"{approvals}/{{id}}/decision", await workspace.owner.post(decision, {"status": "rejected"})),
        ("post", f"{approvals}/{{id}}/decision", await workspace.owner.post(decision, {"status": "perhaps"})),
        ("delete", f"{approvals}/{{id}}", await workspace.owner.delete(decision.removesuffix("/decision"))),
        ("get", f"{approvals}/{{id}}", await workspace.owner.get(decision.removesuffix("/decision"))),
        ("post", agents, agent),
        ("get", agents, await workspace.owner.get(f"{workspace.workspace}/agents")),
        ("put", f"{agents}/{{id}}/status", await workspace.editor.call("PUT", report, {"status": "failed"})),
        ("post", messages, await workspace.viewer.post(workspace.messages, {"text": "Hello"})),
        ("get", messages, await workspace.viewer.get(workspace.messages)),
        ("get", "/v1/notifications", await workspace.owner.get("/v1/notifications")),
        ("post", "/v1/notifications/read", await workspace.owner.post("/v1/notifications/read", {"ids": ["n1"]})),
        ("get", "/v1/notifications", await workspace.nobody.get("/v1/notifications")),
    ]

    for method, path, reply in answers:
        check(method, path, reply)
    described_statuses = [reply.status for _, _, reply in answers]
    assert described_statuses == [
        *(200, 200, 201, 201, 200, 403, 200, 409, 400, 204, 404, 201, 200, 200, 201, 200, 200, 204, 401),
    ]
