"""Create the workspace's demo over its public HTTP interface."""

from collections.abc import Mapping
from typing import Any

from beaconfire.api import call
from beaconfire.demo.people import add_members

WORKSPACE = "Lantern Works"

AGENTS: tuple[dict[str, Any], ...] = (
    {"name": "Scout", "status": "working", "detail": "Reads the invoices of November"},
    {"name": "Scribe", "status": "waiting", "detail": "Needs an approval"},
    {"name": "Keeper", "status": "idle", "detail": ""},
)
APPROVALS: tuple[dict[str, Any], ...] = (
    {"title": "Order 40 litres of lamp oil", "detail": "The cheapest offer is from Saltmere, for 120 silver."},
    {"title": "Send the letter to the guild", "detail": "Dear guild, the towers need repairs.", "agent": "Scribe"},
)
MESSAGES = (("Owner", "Welcome. Requests that wait are under Approvals."), ("Editor", "I have two requests."))


def seed(auth_url: str, workspace_url: str, tokens: Mapping[str, str]) -> str:
    """Create the missing parts. Return the workspace's id. Raises ApiError. It can be repeated."""
    owner = tokens["Owner"]
    workspaces = f"{workspace_url}/v1/workspaces"
    known = call("GET", workspaces, token=owner)["workspaces"]
    workspace = next((one for one in known if one["name"] == WORKSPACE), None)
    if workspace is None:
        description = "Created by beaconfire up. Decide something and watch the other window."
        workspace = call("POST", workspaces, {"name": WORKSPACE, "description": description}, token=owner)["workspace"]
    add_members(auth_url, f"workspace:{workspace['id']}", owner)
    _add_content(f"{workspaces}/{workspace['id']}", tokens)
    return str(workspace["id"])


def _add_content(workspace_url: str, tokens: Mapping[str, str]) -> None:
    editor = tokens["Editor"]
    agents = {one["name"]: one["id"] for one in call("GET", f"{workspace_url}/agents", token=editor)["agents"]}
    for agent in AGENTS:
        if agent["name"] not in agents:
            added = call("POST", f"{workspace_url}/agents", agent, token=editor)["agent"]
            agents[agent["name"]] = added["id"]
    known = {one["title"] for one in call("GET", f"{workspace_url}/approvals", token=editor)["approvals"]}
    for wanted in APPROVALS:
        if wanted["title"] not in known:
            agent_id = agents.get(wanted.get("agent", ""))
            body = {"title": wanted["title"], "detail": wanted["detail"], "agentId": agent_id}
            call("POST", f"{workspace_url}/approvals", body, token=editor)
    messages = f"{workspace_url}/chats/general/messages"
    if not call("GET", messages, token=editor)["messages"]:
        for name, text in MESSAGES:
            call("POST", messages, {"text": text}, token=tokens[name])
