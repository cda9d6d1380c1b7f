"""Gateways know events as data: no event class but the two of the system is ever imported into one."""

import json
import subprocess
import sys

from tests.architecture.sources import module_name, modules

IMPORTS = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
from beaconfire_kit.event import events
print(json.dumps(sorted(events())))
"""


def test_gateway_imports_no_event_class_but_those_of_the_system() -> None:
    names = [module_name(path) for path in modules("services/gateway/src") if path.name != "__main__.py"]
    ran = subprocess.run([sys.executable, "-c", IMPORTS, json.dumps(names)], capture_output=True, text=True, check=True)

    assert len(names) > 50
    assert json.loads(ran.stdout) == ["access_revoked", "member_changed"]
