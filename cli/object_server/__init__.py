"""An S3 server for a platform that brings its own: one SeaweedFS per data directory, run as a supervised child.

Owns the server's files, keys, ports and life; knows no bucket and no evidence. Production platforms name a store of
their own and never come here.
"""

from cli.object_server.errors import ObjectServerError
from cli.object_server.server import ObjectServer

__all__ = ["ObjectServer", "ObjectServerError"]
