"""The applications of the demo: one row for each folder here with a page, and the broker user of its service.

To add an application, add its folder with a `page/main.js`, a package that runs with `python -m`, and a row here.
`beaconfire up` then starts it, and serves its page below its name. docs/topics/demo.md says what else a page needs.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Application:
    """An application of the demo."""

    name: str
    """Its folder here, its path on the gateways, and its value of `--only`."""
    title: str
    description: str
    """One line for people who choose an application."""
    publishes: tuple[str, ...] = ()
    """The subjects of its service's events, as patterns. Empty: the publisher is its service."""

    @property
    def has_service(self) -> bool:
        """Whether it has a service of its own, `python -m beaconfire_demo.<name>`."""
        return bool(self.publishes)


CAMPAIGN = Application(
    "campaign", title="Campaign", description="Settlements, a clock and members that everyone at the table sees change"
)
WORKSPACE = Application(
    "workspace",
    title="Workspace",
    description="Approvals, agents at work, a chat and notifications",
    publishes=("workspace.*.approval.*", "workspace.*.agent.*", "workspace.*.chat.*", "user.*.notification.*"),
)

TRACKER = Application(
    "tracker",
    title="Tracker",
    description="A board of issues with comments, projects, cycles and an activity feed",
    publishes=(
        "workspace.*.team.*.issue.>",
        "workspace.*.project.*",
        "workspace.*.cycle.*",
        "workspace.*.activity.*",
    ),
)

APPLICATIONS = {one.name: one for one in (CAMPAIGN, WORKSPACE, TRACKER)}
"""All applications by name, in the order in which they are shown."""
