"""The workspace: approvals, agents, a chat and notifications, as a domain service built with the kit, and its page.

* `workspaces` creates and lists workspaces, the roots.
* `store` has the tables, `settings` the settings, and `app` puts everything together.

The types of its events are built in: `beaconfire_kit.events.workspace` and `beaconfire_kit.events.notification`.
"""
