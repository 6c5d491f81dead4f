"""Imported before everything else by what runs services: keeps libraries out that others load only to look nicer.

structlog and mako (of alembic) take rich and pygments where they find them, to colour tracebacks that no service ever
draws: 8 MB in each process. The command line, which is installed beside, needs them.
"""

import sys

for _name in ("pygments", "rich"):
    # How Python says that a module cannot be imported.
    sys.modules[_name] = None  # type: ignore[assignment]  # documented for import statements, not in the type
