"""What runs services does not load what only the command line draws with."""

import json
import subprocess
import sys

_LOADED = """
import importlib, json, sys
from services.__main__ import SERVICES
for name in SERVICES:
    importlib.import_module(f"services.{name}.app")
print(json.dumps(sorted(name for name in sys.modules if sys.modules[name] is not None)))
"""


def test_services_do_not_load_what_colours_tracebacks() -> None:
    done = subprocess.run([sys.executable, "-c", _LOADED], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert "structlog" in loaded
    assert not loaded & {"rich", "pygments", "cli", "av", "PIL"}
