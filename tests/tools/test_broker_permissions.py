"""What a NATS pattern covers, and how a user's permissions are compared with the table."""

import pytest

from beaconfire.broker_permissions import Permissions, covers, look_at_logins
from beaconfire.broker_users import USERS
from beaconfire.diagnosis import LoginProbe


@pytest.mark.parametrize(
    ("pattern", "subject", "is_covered"),
    [
        ("campaign.>", "campaign.c1.state", True),
        ("campaign.>", "campaign.>", True),
        ("campaign.>", "campaign", False),
        ("campaign.*.state", "campaign.c1.state", True),
        ("campaign.*.state", "campaign.c1.member.u1", False),
        ("campaign.*", "campaign.>", False),
        ("campaign.c1", "campaign.*", False),
        ("*.*.member.*", "campaign.*.member.u1", True),
        (">", "anything.at.all", True),
        ("auth.grant workers", "auth.grant workers", True),
        ("auth.grant workers", "auth.grant", False),
        ("auth.grant", "auth.grant workers", True),
    ],
)
def test_pattern_covers_subjects_and_narrower_patterns(pattern: str, subject: str, is_covered: bool) -> None:
    assert covers(pattern, subject) is is_covered


async def test_user_of_a_broker_without_permissions_may_do_everything() -> None:
    async def asks(_user: str, _password: str) -> Permissions:
        return Permissions.read(None)

    (probe,) = [one for one in await look_at_logins(asks, {"gateway": "x"}, (), ()) if one.user == "gateway"]

    assert probe.shut == ()
    assert set(probe.opened) == {"publish live.>", "subscribe to everything", "change members", "push a catalogue"}


@pytest.mark.parametrize("user", [user.name for user in USERS])
async def test_permissions_of_the_table_lack_nothing_and_open_nothing(user: str) -> None:
    row = next(one for one in USERS if one.name == user)
    given = {
        "publish": {"allow": row.publish, "deny": row.deny_publish},
        "subscribe": {"allow": [*row.subscribe, f"_INBOX_{user}.>"]},
    }

    async def asks(_user: str, _password: str) -> Permissions:
        return Permissions.read(given)

    found = {probe.user: probe for probe in await look_at_logins(asks, {user: "x"}, (), ())}

    assert found[user] == LoginProbe(user)
