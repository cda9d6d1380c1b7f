"""The one list of message types agrees with the specification."""

import re
from pathlib import Path
from typing import get_args

from beaconfire_gateway.wire.messages import Event, Message, Request

PROTOCOL = (Path(__file__).parents[3] / "PROTOCOL.md").read_text()


def test_protocol_page_describes_every_message_type() -> None:
    types = {one.TYPE for one in (*get_args(Request), *get_args(Message), Event)}
    specified = set(re.findall(r"`([a-z.]+)`", PROTOCOL)) | set(re.findall(r'"type": *"([a-z.]+)"', PROTOCOL))

    assert types <= specified
