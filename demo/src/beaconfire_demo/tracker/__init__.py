"""The reference tracker: teams, issues, comments, projects and cycles of a workspace, as a service and its page.

* `store`: the tables. Each transaction locks its workspace first, so changes of a workspace come one after the other.
* `workspaces`, `teams`, `issues`, `comments`, `plans` (projects and cycles), `activity`: the HTTP calls on each.
* `feed`: the entries of the activity feed, with the old and the new value of each changed field.
* `progress`: how much of a project or a cycle is done.
* `app`, `settings`, `migrations`: the service, put together with the kit. `python -m beaconfire_demo.tracker` runs it.
* `page/`: what browsers show.
"""
