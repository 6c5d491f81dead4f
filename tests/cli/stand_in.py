"""Stands in for the services and their migrations, so that `zhichao up` is tested without them: keeps to the
environment they are given, answers health checks, and ends like they do.
"""

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import psycopg
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from cli import main, up_run
from services.common import database


def serve(names: list[str]) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    servers = []
    for name in names:
        if os.environ.get("STAND_IN_FAILS") == name:
            sys.exit(1)
        if url := os.environ.get(f"ZHICHAO_{name.upper()}_DATABASE_URL"):
            with psycopg.connect(url) as connection:
                connection.execute("SELECT 1")
        server = grpc.server(ThreadPoolExecutor(2))
        servicer = health.HealthServicer()
        servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        for kind in ("LISTEN", "HEALTH_LISTEN"):
            server.add_insecure_port(os.environ[f"ZHICHAO_{name.upper()}_{kind}"])
        server.start()
        servers.append(server)
    while not stop.wait(1):
        pass
    for server in servers:
        server.stop(1).wait()


def up() -> None:
    up_run.SERVICES_COMMAND = (sys.executable, __file__, "serve")
    database.upgrade = lambda url, migrations_package: None
    main.main()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2:])
    else:
        up()
