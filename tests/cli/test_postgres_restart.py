"""The embedded server started again by the same owner."""

from pathlib import Path

from cli.postgres import EmbeddedPostgres


def test_a_stopped_server_is_started_again_with_changed_settings(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "data", databases=["weighing"])
    server.start()
    server.query("ALTER SYSTEM SET wal_level = logical")
    server.stop()
    server.start()
    try:
        assert server.query("SHOW wal_level").strip() == "logical"
    finally:
        server.stop()
