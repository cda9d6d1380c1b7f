"""`beaconfire broker config` writes what deploy/nats has, and more for your own roots and publishers."""

import json
import os
import subprocess
from pathlib import Path

from beaconfire.broker_users import USERS, password_variable
from beaconfire.nats_server import binary
from tests.kit.fragments import with_root
from tests.tools.conftest import Call

SHIPPED = Path(__file__).parents[2] / "deploy/nats"


def rows(config: str) -> dict[str, str]:
    """The configuration's users: each row by the name of its user."""
    return {row.partition(",")[0]: row for row in config.split("{ user: ")[1:]}


def test_without_options_it_is_the_shipped_configuration(call: Call) -> None:
    assert call("broker", "config").text == (SHIPPED / "single.conf").read_text()
    assert call("broker", "config", "--cluster").text == (SHIPPED / "cluster.conf").read_text()


def test_roots_of_catalogue_files_and_further_publishers_are_in_it_and_nats_server_accepts_it(
    call: Call, tmp_path: Path
) -> None:
    fragment, publishers, out = tmp_path / "logistics.yaml", tmp_path / "publishers.yaml", tmp_path / "nats.conf"
    fragment.write_text(json.dumps(with_root("logistics", "depot")))
    publishers.write_text("publishers:\n  weather: {publish: [depot.>], password_variable: WEATHER}\n")
    (tmp_path / "passwords.conf").write_text('WEATHER: "x-secret"\n')
    options = ("--catalogue", str(fragment), "--publishers", str(publishers), "--passwords", "passwords.conf")

    said = call("broker", "config", *options, "--out", str(out))

    assert (said.exit_code, said.text) == (0, "")
    shipped, written = rows((SHIPPED / "single.conf").read_text()), rows(out.read_text())
    assert '"depot.>"' in written["publisher"]
    assert '"depot.>"' in written["weather"]
    assert "password: $WEATHER," in written["weather"]
    assert [name for name in shipped if '"depot.>"' in written[name]] == ["publisher"]
    environment = {password_variable(user.name): f"x-{user.name}" for user in USERS} | {"PATH": os.environ["PATH"]}
    checked = subprocess.run([binary(), "-t", "-c", str(out)], env=environment, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def test_broken_catalogue_file_is_refused_with_file_and_line(call: Call, tmp_path: Path) -> None:
    fragment = tmp_path / "logistics.yaml"
    fragment.write_text(
        "asyncapi: 3.0.0\ninfo: {title: T, version: '1'}\nx-beaconfire: {fragment: logistics, roots: {live: {}}}\n"
    )

    said = call("broker", "config", "--catalogue", str(fragment))

    assert said.exit_code == 1
    assert f"{fragment}:3: " in said.text
    assert "live" in said.text
