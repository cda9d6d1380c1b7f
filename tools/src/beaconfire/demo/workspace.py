"""Create the workspace's demo over its public HTTP interface."""

from collections.abc import Mapping

from beaconfire.api import call
from beaconfire.demo.people import add_members

WORKSPACE = "Lantern Works"


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
    return str(workspace["id"])
