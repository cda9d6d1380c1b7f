"""The workspace: approvals, agents, a chat and notifications, as a domain service built with the kit, and its page.

* HTTP: `workspaces`, the roots, and in them `approvals`, `agents` and `chat`. `notifications` belong to a user.
* `openapi` describes the calls, and is served at `/openapi.json`.
* `people` asks auth whom to notify.
* `store` has the tables, `settings` the settings, and `app` puts everything together.

The types of its events are built in: `beaconfire_kit.events.workspace` and `beaconfire_kit.events.notification`.
"""
