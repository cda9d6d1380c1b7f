"""Our own events are fragments like any others, made from our event classes."""

import pytest

from beaconfire_kit.catalogue import builtin, schemas
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.event import events
from beaconfire_kit.subjects import RESERVED_KINDS


def test_builtin_fragments_and_the_system_have_every_event_class_once() -> None:
    catalogue = Catalogue.of(1, builtin.fragments())

    assert {(name, version) for name, versions in catalogue.types.items() for version in versions} == {
        (cls.type, cls.version) for cls in events().values()
    }


def test_builtin_fragments_have_no_warnings() -> None:
    assert {name: fragment.warnings for name, fragment in builtin.fragments().items()} == {
        "campaign": (),
        "workspace": (),
        "user": (),
    }


def test_catalogue_without_fragments_has_users_and_the_system() -> None:
    catalogue = Catalogue.of(0, {})

    assert set(catalogue.types) == {"member_changed", "access_revoked"}
    assert catalogue.root_kinds == {"user"}
    assert catalogue.stream_subjects == ("user.>",)
    assert not catalogue.root_kinds & RESERVED_KINDS


@pytest.mark.parametrize("name", ["settlement_updated", "user.typing", "member_changed", "notification.new"])
def test_builtin_schemas_compile(name: str) -> None:
    event_type = Catalogue.of(1, builtin.fragments()).types[name][1]

    assert not schemas.compile(event_type).is_valid([])
