"""`beaconfire migrate` prints what it did, and refuses databases that it does not know."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from beaconfire.migrate import SERVICES, CannotMigrate, migrate


def test_migrate_prints_each_database_with_its_revision_and_does_nothing_twice(tmp_path: Path) -> None:
    """Of the demo's applications, only those are migrated that have a database."""
    heads = {name: migrations.head for name, migrations in SERVICES.items() if name in ("auth", "publisher")}

    first = list(migrate(None, None, tmp_path, timeout_s=0))
    again = list(migrate(None, None, tmp_path, timeout_s=0))

    assert first == [f"{name}: migrated from no revision to {head}" for name, head in heads.items()]
    assert again == [f"{name}: already up to date, at revision {head}" for name, head in heads.items()]
    assert sorted(path.name for path in tmp_path.glob("*.db")) == ["auth.db", "publisher.db"]

    (tmp_path / "workspace.db").touch()
    assert list(migrate(None, None, tmp_path, timeout_s=0))[-1].startswith("workspace: migrated from no revision to ")


def test_new_databases_are_readable_by_their_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    """Existing files keep their permissions."""
    (tmp_path / "data").mkdir(mode=0o755)
    (tmp_path / "data" / "publisher.db").touch(mode=0o640)
    umask = os.umask(0)
    try:
        list(migrate(None, None, tmp_path / "data", timeout_s=0))
        list(migrate(None, None, tmp_path / "new" / "data", timeout_s=0))
    finally:
        os.umask(umask)

    modes = {path: oct(path.stat().st_mode & 0o777) for path in tmp_path.rglob("*") if path.name != "new"}
    assert modes == {
        tmp_path / "data": "0o755",
        tmp_path / "data" / "auth.db": "0o600",
        tmp_path / "data" / "publisher.db": "0o640",
        tmp_path / "new" / "data": "0o700",
        tmp_path / "new" / "data" / "auth.db": "0o600",
        tmp_path / "new" / "data" / "publisher.db": "0o600",
    }


@pytest.mark.parametrize(
    ("service", "url", "sentence"),
    [
        (
            "gateway",
            None,
            "no service 'gateway' with a database. It is one of auth or publisher or workspace or tracker",
        ),
        (None, "sqlite:///x.db", "one database is given: name its service"),
    ],
)
def test_impossible_migrate_arguments_are_refused_before_anything_is_changed(
    service: str | None, url: str | None, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(CannotMigrate, match=sentence):
        list(migrate(service, url, tmp_path, timeout_s=0))

    assert list(tmp_path.iterdir()) == []


def test_migrate_takes_its_url_from_the_environment_and_exits_with_1_if_it_is_unusable(tmp_path: Path) -> None:
    (tmp_path / "none.db").write_text("this is no database, whatever its name says" * 100)
    failed = subprocess.run(
        [sys.executable, "-m", "beaconfire", "migrate", "auth"],
        env={"BEACONFIRE_DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/none.db"},
        capture_output=True,
        text=True,
    )

    assert failed.returncode == 1
    assert failed.stderr.startswith("error: cannot open the database sqlite+aiosqlite:////")
    assert "file is not a database. Move it away, or point elsewhere" in failed.stderr
    assert "Traceback" not in failed.stderr
