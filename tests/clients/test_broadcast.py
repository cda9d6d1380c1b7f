"""The one-line helpers for service code reach a socket: in Python and in Node, over NATS and over HTTP."""

import asyncio
import json
import os
import re
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from nats.aio.client import Client

from beaconfire_kit import broadcast
from beaconfire_kit.events.workspace import ChatMessage
from beaconfire_kit.publishing import HttpPublisher, NatsPublisher, NotPublished, Published, Publisher
from beaconfire_kit.roles import Role
from tests.client import SocketClient, open_socket
from tests.clients.node_service import NODE, RUN_S, node_service
from tests.conftest import connected
from tests.e2e.conftest import Line, _line, _nc, _running
from tests.people import Person

__all__ = ["_line", "_nc", "_running"]

ROOT = Path(__file__).parents[2]
WORKSPACE = "w-broadcast"
ISSUE = {"teamId": "m1", "issueId": "i1"}
CALLS: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    (
        "approval.created",
        {"approval": {"id": "a1", "title": "T", "type": "x"}},
        "approval:a1",
        {"id": "a1", "title": "T", "type": "x"},
    ),
    (
        "approval.updated",
        {"approval": {"id": "a1", "assigneeId": None}},
        "approval:a1",
        {"id": "a1", "assigneeId": None},
    ),
    ("approval.deleted", {"approvalId": "a1"}, "approval:a1", {"id": "a1"}),
    ("agent.status.changed", {"agentId": "g1", "status": "idle"}, "agent:g1", {"agentId": "g1", "status": "idle"}),
    (
        "chat.message",
        {"chatId": "h1", "message": {"id": "k1", "content": "Hi"}},
        "chat:h1",
        {"id": "k1", "chatId": "h1", "content": "Hi"},
    ),
    ("ai.run.started", {"runId": "r1", "run": {"model": "m"}}, "run:r1", {"runId": "r1", "model": "m"}),
    ("ai.run.progress", {"runId": "r1", "progress": {"delta": "He"}}, "run:r1", {"runId": "r1", "delta": "He"}),
    ("ai.run.completed", {"runId": "r1", "result": {"output": "Hello"}}, "run:r1", {"runId": "r1", "output": "Hello"}),
    ("ai.run.failed", {"runId": "r1", "error": {"code": 5}}, "run:r1", {"runId": "r1", "error": {"code": 5}}),
    (
        "activity.created",
        {"activity": {"id": "x1", "verb": "approved"}},
        "activity:x1",
        {"id": "x1", "verb": "approved"},
    ),
    (
        "issue.created",
        {"issue": {"id": "i1", "teamId": "m1", "title": "T", "priority": 2}},
        "issue:i1",
        {"id": "i1", "teamId": "m1", "title": "T", "priority": 2},
    ),
    (
        "issue.updated",
        {**ISSUE, "changes": {"status": "done", "cycleId": None}},
        "issue:i1",
        {"id": "i1", "changes": {"status": "done", "cycleId": None}},
    ),
    ("issue.deleted", ISSUE, "issue:i1", {"id": "i1"}),
    ("issue.archived", ISSUE, "issue:i1", {"id": "i1"}),
    (
        "issue.activity.created",
        {**ISSUE, "activity": {"id": "x1", "kind": "status"}},
        "activity:x1",
        {"id": "x1", "issueId": "i1", "kind": "status"},
    ),
    (
        "comment.created",
        {**ISSUE, "comment": {"id": "k1", "body": "B"}},
        "comment:k1",
        {"id": "k1", "issueId": "i1", "body": "B"},
    ),
    (
        "comment.updated",
        {**ISSUE, "commentId": "k1", "changes": {"body": "C"}},
        "comment:k1",
        {"id": "k1", "issueId": "i1", "changes": {"body": "C"}},
    ),
    ("comment.deleted", {**ISSUE, "commentId": "k1"}, "comment:k1", {"id": "k1", "issueId": "i1"}),
    (
        "project.updated",
        {"projectId": "p1", "changes": {"name": "N"}},
        "project:p1",
        {"id": "p1", "changes": {"name": "N"}},
    ),
    ("cycle.updated", {"cycleId": "y1", "changes": {"number": 2}}, "cycle:y1", {"id": "y1", "changes": {"number": 2}}),
]
"""A type, the arguments of its helper, the innermost room, and what its payload has at least."""


def in_node(type_: str) -> str:
    """Return the name of a type's helper in Node."""
    return "broadcast" + "".join(word.capitalize() for word in type_.split("."))


def in_python(type_: str) -> Callable[..., Awaitable[Published]]:
    helper: Callable[..., Awaitable[Published]] = getattr(broadcast, "broadcast_" + type_.replace(".", "_"))
    return helper


def snake_case(arguments: dict[str, Any]) -> dict[str, Any]:
    return {re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name): value for name, value in arguments.items()}


def arguments_of(person: Person, type_: str, more: dict[str, Any]) -> dict[str, Any]:
    return {"workspaceId": WORKSPACE, **more, "userId": person.id, "correlationId": f"about-{type_}"}


@pytest.fixture(name="person")
async def _person(line: Line, nc: Client) -> Person:
    person = await line.sign_up("member")
    await line.grant(nc, f"workspace:{WORKSPACE}", person, Role.VIEWER)
    return person


@asynccontextmanager
async def python_publisher(line: Line, way: str, person: Person) -> AsyncIterator[Publisher]:
    if way == "nats":
        async with connected(line.services.nats, "publisher") as nc:
            yield NatsPublisher(nc, source="theirs")
        return
    async with aiohttp.ClientSession() as http:
        yield HttpPublisher(http, line.services.publisher_url, token=await token_for(line, person))


async def token_for(line: Line, person: Person) -> str:
    return await line.service_token("theirs", f"workspace.{WORKSPACE}.>", f"user.{person.id}.notification.*")


@pytest.fixture(name="node_folder", scope="module")
def _node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return node_service(tmp_path_factory.mktemp("node"), "broadcasts.mjs")


async def with_node(
    line: Line,
    folder: Path,
    way: str,
    person: Person,
    calls: list[tuple[str, dict[str, Any]]],
    *,
    user: str = "publisher",
) -> list[dict[str, Any]]:
    """Make these calls in Node, over NATS as this broker user. Returns what each gave."""
    environment = {**os.environ, "CALLS": json.dumps(calls), "USER_ID": person.id}
    if way == "nats":
        broker = line.services.nats.environment(user)
        environment["ADDRESS"] = broker["BEACONFIRE_NATS_URL"]
        environment["NATS_USER"], environment["NATS_PASSWORD"] = user, broker["BEACONFIRE_NATS_PASSWORD"]
    else:
        environment["ADDRESS"], environment["TOKEN"] = line.services.publisher_url, await token_for(line, person)
    command = ["node", "broadcasts.mjs", way]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=folder, env=environment, capture_output=True, text=True, timeout=RUN_S
    )
    assert done.returncode == 0, done.stderr
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results


async def events_of_helpers(client: SocketClient, count: int) -> list[dict[str, Any]]:
    """The next events. The membership that was just granted may be heard before them."""
    frames: list[dict[str, Any]] = []
    while len(frames) < count:
        frame = await client.next("event")
        frames += [frame] if frame["event"]["type"] != "member_changed" else []
    return frames


def check_frames(person: Person, frames: list[dict[str, Any]]) -> None:
    """Check that each call's event was heard, in its rooms, with its payload and its metadata."""
    by_type = {frame["event"]["type"]: frame for frame in frames}
    assert len(by_type) == len(CALLS)
    for type_, _, room, payload in CALLS:
        event, rooms = by_type[type_]["event"], by_type[type_]["rooms"]
        assert (rooms[0], rooms[-1]) == (f"workspace:{WORKSPACE}", f"workspace:{WORKSPACE}/{room}")
        assert {name: event["payload"].get(name, "absent") for name in payload} == payload
        metadata = event["metadata"]
        assert (metadata["source"], metadata["userId"]) == ("theirs", person.id)
        assert metadata["correlationId"] == f"about-{type_}"
        if type_.startswith(("issue.", "comment.")):
            assert {f"workspace:{WORKSPACE}/team:m1", f"workspace:{WORKSPACE}/issue:i1"} <= set(rooms)


@pytest.mark.parametrize("way", ["nats", "http"])
async def test_each_helper_in_python_publishes_its_event_to_a_socket(line: Line, person: Person, way: str) -> None:
    async with open_socket(line.services.gateways[0].url) as client, python_publisher(line, way, person) as publisher:
        await client.connect(person.token, [f"workspace:{WORKSPACE}"])
        published = [
            await in_python(type_)(publisher, **snake_case(arguments_of(person, type_, more)))
            for type_, more, _, _ in CALLS
        ]
        frames = await events_of_helpers(client, len(CALLS))

    check_frames(person, frames)
    assert [one.id for one in published] == [frame["event"]["id"] for frame in frames]
    assert all(one.offset in (None, frame["offset"]) for one, frame in zip(published, frames, strict=True))


@pytest.mark.timeout(2 * RUN_S)
@pytest.mark.parametrize("way", ["nats", "http"])
async def test_each_helper_in_node_publishes_its_event_to_a_socket(
    line: Line, person: Person, node_folder: Path, way: str
) -> None:
    calls = [(in_node(type_), arguments_of(person, type_, more)) for type_, more, _, _ in CALLS]
    async with open_socket(line.services.gateways[0].url) as client:
        await client.connect(person.token, [f"workspace:{WORKSPACE}"])
        results = await with_node(line, node_folder, way, person, calls)
        assert [one for one in results if "error" in one] == []
        frames = await events_of_helpers(client, len(CALLS))

    check_frames(person, frames)
    assert [one["id"] for one in results] == [frame["event"]["id"] for frame in frames]
    assert all(one["offset"] in (None, frame["offset"]) for one, frame in zip(results, frames, strict=True))


@pytest.mark.timeout(2 * RUN_S)
async def test_notifications_and_typing_reach_their_user_and_the_workspace_from_both_languages(
    line: Line, person: Person, nc: Client, node_folder: Path
) -> None:
    notification: dict[str, Any] = {"toUserId": person.id, "notification": {"id": "n1", "title": "Approve?"}}
    typing: dict[str, Any] = {
        "workspaceId": WORKSPACE,
        "targetKind": "issue",
        "targetId": "i1",
        "typingUserId": "u7",
        "typing": True,
    }
    calls = [("broadcastNotificationNew", notification), ("broadcastUserTyping", typing)]
    publisher = NatsPublisher(nc, source="theirs")
    async with open_socket(line.services.gateways[1].url) as client:
        await client.connect(person.token, [f"workspace:{WORKSPACE}", f"user:{person.id}"])
        await with_node(line, node_folder, "nats", person, calls)
        await broadcast.broadcast_notification_new(publisher, **snake_case(notification))
        await broadcast.broadcast_user_typing(publisher, **snake_case(typing))
        frames = await events_of_helpers(client, 4)

    heard = sorted((frame["event"]["type"], frame["event"]["payload"].get("title", "")) for frame in frames)
    assert heard == [("notification.new", "Approve?")] * 2 + [("user.typing", "")] * 2
    typed = [frame["event"]["payload"] for frame in frames if frame["event"]["type"] == "user.typing"]
    assert all((one["userId"], one["typing"]) == ("u7", True) for one in typed)


CHATS = [("h1", "k1"), ("h2", "k2"), ("h1", "k3")]


def check_chats(frames: list[dict[str, Any]], published: list[tuple[str, int | None]]) -> None:
    """Check that the three messages were heard in order, and are those that were published."""
    assert [frame["event"]["payload"]["id"] for frame in frames] == [message for _, message in CHATS]
    assert [frame["rooms"][-1] for frame in frames] == [f"workspace:{WORKSPACE}/chat:{chat}" for chat, _ in CHATS]
    assert {frame["event"]["metadata"]["correlationId"] for frame in frames} == {"req-9"}
    assert [id_ for id_, _ in published] == [frame["event"]["id"] for frame in frames]
    assert all(offset in (None, frame["offset"]) for (_, offset), frame in zip(published, frames, strict=True))


@pytest.mark.parametrize("way", ["nats", "http"])
async def test_several_events_are_published_in_one_call_in_python(line: Line, person: Person, way: str) -> None:
    events = [ChatMessage(workspace_id=WORKSPACE, chat_id=chat, id=message) for chat, message in CHATS]
    elsewhere = ChatMessage(workspace_id="w-other", chat_id="h1", id="k4")
    async with open_socket(line.services.gateways[0].url) as client, python_publisher(line, way, person) as publisher:
        await client.connect(person.token, [f"workspace:{WORKSPACE}"])
        published = await publisher.publish_all(events, correlation_id="req-9")
        frames = await events_of_helpers(client, len(events))
        if way == "http":
            with pytest.raises(NotPublished, match="refused 1 of 2 events; the first: this token may not publish"):
                await publisher.publish_all([events[0], elsewhere])
        with pytest.raises(ValueError, match="1 to 500 events, not 0"):
            await publisher.publish_all([])

    check_chats(frames, [(one.id, one.offset) for one in published])


@pytest.mark.timeout(2 * RUN_S)
@pytest.mark.parametrize("way", ["nats", "http"])
async def test_several_events_are_published_in_one_call_in_node(
    line: Line, person: Person, node_folder: Path, way: str
) -> None:
    def event(workspace: str, chat: str, message: str) -> dict[str, Any]:
        subject = f"workspace.{workspace}.chat.{chat}"
        return {"type": "chat.message", "subject": subject, "payload": {"id": message}, "correlationId": "req-9"}

    events = [event(WORKSPACE, chat, message) for chat, message in CHATS]
    mixed = [event(WORKSPACE, "h1", "k4"), event("w-other", "h1", "k5")] if way == "http" else []
    calls: list[Any] = [("publishAll", events), ("publishAll", mixed)]
    async with open_socket(line.services.gateways[0].url) as client:
        await client.connect(person.token, [f"workspace:{WORKSPACE}"])
        results = await with_node(line, node_folder, way, person, calls)
        frames = await events_of_helpers(client, len(events))

    why = "refused 1 of 2 events; the first: this token may not publish" if way == "http" else "1 to 500 events, not 0"
    assert why in results[1]["error"]
    published: Any = results[0]  # one result for each event
    check_chats(frames, [(one["id"], one["offset"]) for one in published])


def refused_calls() -> list[tuple[str, dict[str, Any]]]:
    elsewhere = {"workspaceId": "w-other", **ISSUE}
    malformed = {"workspaceId": WORKSPACE, "teamId": "m.1", "issueId": "i1"}
    return [("broadcastIssueDeleted", elsewhere), ("broadcastIssueDeleted", malformed)]


async def test_refused_events_are_reported_in_python(line: Line, person: Person) -> None:
    async with python_publisher(line, "http", person) as publisher:
        with pytest.raises(NotPublished, match="refused the event: this token may not publish"):
            await broadcast.broadcast_issue_deleted(publisher, workspace_id="w-other", team_id="m1", issue_id="i1")
        with pytest.raises(ValueError, match="team_id"):
            await broadcast.broadcast_issue_deleted(publisher, workspace_id=WORKSPACE, team_id="m.1", issue_id="i1")
    async with connected(line.services.nats, "operator") as nc:
        with pytest.raises(NotPublished, match="the broker refused the event"):
            await broadcast.broadcast_issue_deleted(
                NatsPublisher(nc, source="theirs"), workspace_id=WORKSPACE, team_id="m1", issue_id="i1"
            )


@pytest.mark.timeout(2 * RUN_S)
async def test_refused_events_are_reported_in_node(line: Line, person: Person, node_folder: Path) -> None:
    results = await with_node(line, node_folder, "http", person, refused_calls())
    denied = await with_node(line, node_folder, "nats", person, refused_calls()[:1], user="operator")

    assert denied[0]["error"].startswith("NotPublished: the broker refused the event: "), denied
    assert results[0]["error"].startswith("NotPublished: the publisher refused the event: this token may not publish")
    assert results[1]["error"].startswith("TypeError: m.1 is not an id of a team")


def test_both_languages_have_a_helper_for_the_same_events() -> None:
    source = (NODE / "src/broadcast.js").read_text()
    node = set(re.findall(r"^export function (broadcast\w+)", source, re.MULTILINE))
    python = {name for name in vars(broadcast) if name.startswith("broadcast_")}

    assert {name.removeprefix("broadcast_").replace("_", "") for name in python} == {
        name.removeprefix("broadcast").lower() for name in node
    }
    assert {in_node(type_) for type_, *_ in CALLS} | {"broadcastNotificationNew", "broadcastUserTyping"} == node
