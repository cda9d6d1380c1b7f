"""Follow a page's commands while a set of services runs, as if `make up` had started it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from beaconfire.data_folder import OPERATOR_TOKEN, DataFolder, Running
from beaconfire.local_services import Services
from tests.docs.tree import blocks


@contextmanager
def running_up(root: Path, services: Services) -> Iterator[None]:
    """Imitate `make up` running in the tree at `root`, as far as the page's commands can see."""
    folder = DataFolder(root / ".beaconfire")
    with folder.locked():
        passwords = services.nats.passwords | {OPERATOR_TOKEN: services.operator_token}
        (folder.path / "passwords.json").write_text(json.dumps(passwords))
        folder.write_running(
            Running(
                services.gateways[0].url,
                services.auth_url,
                services.publisher_url,
                services.nats.url,
                services.auth.ops_url,
            )
        )
        yield


def script_of(page: str, services: Services) -> str:
    """Return the page's commands, with the addresses of this set for those of `make up`."""
    text = "\n".join(block.text for block in blocks(page) if block.language == "sh")
    for theirs, ours in {"8082": services.publisher.port, "8083": services.nats.port}.items():
        for separator in ":/":
            text = text.replace(f"127.0.0.1{separator}{theirs}", f"127.0.0.1{separator}{ours}")
    return text
