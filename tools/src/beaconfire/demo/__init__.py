"""Create the demo over the public HTTP interfaces: `people`, and for each application a root with something in it."""

from collections.abc import Collection, Iterator

from beaconfire.api import ApiError
from beaconfire.demo import campaign, tracker, workspace
from beaconfire.demo.people import PASSWORD, PEOPLE, NotSeeded, Person, tokens_of_people
from beaconfire.local_services import Services
from beaconfire_demo import applications

__all__ = ["PASSWORD", "PEOPLE", "NotSeeded", "Person", "campaign", "seed_all", "tracker", "workspace"]

SEEDS = {
    applications.CAMPAIGN.name: campaign.seed,
    applications.WORKSPACE.name: workspace.seed,
    applications.TRACKER.name: tracker.seed,
}
"""By application: creates what is missing of its demo, and returns the id of its root."""


def seed_all(services: Services, *, without: Collection[str] = ()) -> Iterator[tuple[str, str]]:
    """Create the demo of each application that runs, except those in `without`. Yield each name and its root's id.

    Raises NotSeeded. It can be repeated.
    """
    urls = {applications.CAMPAIGN.name: services.publisher_url} | {
        name: one.url for name, one in services.applications.items()
    }
    wanted = [name for name in services.application_names if name not in without]
    if not wanted:
        return
    try:
        tokens = tokens_of_people(services.auth_url)
        for name in wanted:
            yield name, SEEDS[name](services.auth_url, urls[name], tokens)
    except ApiError as error:
        raise NotSeeded(f"the demo could not be created: {error}. `--no-demo` starts without it") from error
