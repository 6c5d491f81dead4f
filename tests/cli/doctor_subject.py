"""What the tests of the doctor look at: a platform without anything, and what they add to it."""

import socket
from dataclasses import replace
from pathlib import Path

from cli.doctor.subject import Subject
from cli.pki.authority import Authority
from services.journal.notes import new_private_key_pem
from tests.certificates import days_ago, platform_files
from tests.cli.verified_journals import COUNTY


def subject(**changes: object) -> Subject:
    environment = {"ZHICHAO_PLATFORM": COUNTY}
    environment |= changes.pop("environment", {})  # type: ignore[call-overload]  # a dict, as each test gives it
    made = Subject(COUNTY, environment, ("weighing",))
    return replace(made, **changes)  # type: ignore[arg-type]  # tests name the fields


def key_of(directory: Path, platform: str = COUNTY) -> Path:
    path = directory / f"{platform}.pem"
    path.write_bytes(new_private_key_pem())
    path.chmod(0o600)
    return path


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


def tls_environment(directory: Path, authority: Authority, platform: str, days: int = 90) -> dict[str, str]:
    files = platform_files(directory, authority, platform, validity=days_ago(0, -days), hosts=["127.0.0.1"])
    return {
        "ZHICHAO_TLS_CERTIFICATE_FILE": str(files.certificate),
        "ZHICHAO_TLS_KEY_FILE": str(files.key),
        "ZHICHAO_TLS_CA_FILE": str(files.ca),
    }
