"""Ask auth who is in a workspace, with the token of the user who asks."""

import aiohttp
from aiohttp import hdrs, web
from pydantic import BaseModel, ValidationError

from beaconfire_kit.authorization import AuthUnavailable
from beaconfire_kit.models import CamelModel
from beaconfire_kit.roles import Role, can_edit
from beaconfire_kit.web import bearer_token

MAX_TOLD = 100
"""How many people are notified of one request."""
TIMEOUT_S = 5.0


class _Member(CamelModel):
    user_id: str
    role: Role


class _Members(BaseModel):
    members: list[_Member]


class People:
    """The members of workspaces."""

    def __init__(self, auth_url: str) -> None:
        self._auth_url = auth_url
        self._http: aiohttp.ClientSession

    async def start(self, http: aiohttp.ClientSession) -> None:
        """Ask with this client from now on."""
        self._http = http

    async def deciders(self, request: web.Request, workspace_id: str) -> list[str]:
        """Return the users who can decide, at most `MAX_TOLD`. The caller of the request is a member.

        Raises AuthUnavailable.
        """
        roles = await self.roles(request, workspace_id)
        return [user_id for user_id, role in roles.items() if can_edit(role)][:MAX_TOLD]

    async def roles(self, request: web.Request, workspace_id: str) -> dict[str, Role]:
        """Return the members with their roles. Raises as `deciders` does."""
        url = f"{self._auth_url}/auth/roots/workspace:{workspace_id}/members"
        headers = {hdrs.AUTHORIZATION: f"Bearer {bearer_token(request)}"}
        try:
            async with self._http.get(url, headers=headers, timeout=aiohttp.ClientTimeout(TIMEOUT_S)) as answer:
                answer.raise_for_status()
                found = _Members.model_validate_json(await answer.read())
        except (aiohttp.ClientError, TimeoutError, ValidationError):
            raise AuthUnavailable from None
        return {member.user_id: member.role for member in found.members}
