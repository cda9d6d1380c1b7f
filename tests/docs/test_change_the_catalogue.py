"""The page on changing the catalogue, followed line by line against a running `up`."""

import sys
from pathlib import Path

import pytest

from tests.docs.tree import RUN_S, blocks, fresh_shell, write_blocks
from tests.tools.terminal import free_ports, terminal

PAGE = "docs/howto/change_the_catalogue.md"


@pytest.mark.timeout(RUN_S)
def test_following_change_the_catalogue_pushes_shows_compares_and_takes_back(tmp_path: Path) -> None:
    """Every command of the page works on the page's file, in the order in which they stand there."""
    write_blocks(PAGE, tmp_path)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "beaconfire").write_text(f'#!/bin/sh\nexec {sys.executable} -m beaconfire "$@"\n')
    (programs / "beaconfire").chmod(0o755)
    push, look, back = [block.text for block in blocks(PAGE) if block.language == "sh"]
    ports, data = str(free_ports()), str(tmp_path / ".beaconfire")

    with terminal(
        tmp_path, "up", "--port", ports, "--data", data, "--no-demo", "--gateways", "1", "--only", "campaign"
    ) as up:
        up.wait_for("Ctrl-C stops everything")
        pushed = fresh_shell(push, tmp_path)
        looked = fresh_shell(look, tmp_path)
        taken_back = fresh_shell(back, tmp_path)
        up.interrupt()
        up.ends()

    assert "Revision 2 counts from offset" in pushed
    assert "A parcel is at another place of the depot." in looked
    assert "No event and no root is different." in looked
    assert "Revision 3 counts from offset" in taken_back
