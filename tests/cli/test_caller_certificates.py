"""Commands that call services which ask for certificates: real processes, each service asking its callers, its siblings
among them, for one.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.main import main
from cli.pki.authority import Authority
from cli.pki.files import write_authority, write_pair
from cli.platform_layout import SERVICES
from cli.platform_process import PlatformProcess
from tests.certificates import MONTH, days_ago, new_authority

PLATFORM = "141025"
ASKS = {f"ZHICHAO_{name.upper()}_REQUIRE_CLIENT_CERTIFICATE": "true" for name in SERVICES}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return new_authority()


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="zhichao-test-certificates-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def platform(directory: Path, authority: Authority) -> Iterator[PlatformProcess]:
    """Run a platform whose services, each a process of its own, ask all who call for a certificate."""
    own = directory / "platform"
    write_pair(own, authority.issue_platform(PLATFORM, (), MONTH), authority)
    with PlatformProcess(PLATFORM, directory / PLATFORM, is_split=True, tls_directory=own, environment=ASKS) as process:
        yield process


@pytest.fixture(scope="module")
def client(directory: Path, authority: Authority) -> Path:
    """Make the certificate of somebody who shows a token too; return its folder."""
    folder = directory / "client"
    write_pair(folder, authority.issue_client(PLATFORM, "office-1", MONTH), authority)
    return folder


def run(*arguments: object, **environment: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(one) for one in arguments], env=environment)
    return result.exit_code, result.output


def token(platform: PlatformProcess, person: str = "operator") -> tuple[str, Path]:
    return "--token-file", platform.data_directory / "secrets" / f"{person}.token"


def test_siblings_reach_each_other_and_the_machine_its_platform(platform: PlatformProcess) -> None:
    exit_code, output = run("status", platform.data_directory, "--json")

    (document,) = json.loads(output)
    assert exit_code == 0
    assert document["is_well"]
    assert [one["health"] for one in document["services"]] == ["SERVING"] * len(SERVICES)
    assert run("whoami", "--data", platform.data_directory)[0] == 0
    assert run("verify", platform.data_directory, "--rpc")[0] == 0
    assert run("doctor", "--data", platform.data_directory)[0] == 0
    assert run("audit-log", "list", "--data", platform.data_directory)[0] == 0
    assert run("relay", "parked", "--data", platform.data_directory)[0] == 0
    assert run("notice", "list", "--data", platform.data_directory)[0] == 0
    assert run("duty-check", "list", "--data", platform.data_directory)[0] == 0


def test_whoever_names_an_address_shows_a_certificate(platform: PlatformProcess, client: Path) -> None:
    files = ("--ca", client / "ca.crt", "--certificate", client / "tls.crt", "--certificate-key", client / "tls.key")
    for shown in (("--tls", client), files):
        exit_code, output = run(
            "whoami", "--registry", platform.address("registry"), *token(platform), *shown, "--json"
        )
        assert exit_code == 0, output
        assert json.loads(output)["principal"].startswith("person/")
    addresses = [platform.address(name) for name in SERVICES]
    exit_code, output = run("status", *addresses, *token(platform), "--tls", client, "--json")
    (document,) = json.loads(output)
    assert [exit_code, document["platform"], document["is_well"]] == [0, PLATFORM, True]
    assert run("relay", "status", "--relay", platform.address("relay"), *token(platform), "--tls", client)[0] == 0


def test_variables_name_the_files_too(platform: PlatformProcess, client: Path) -> None:
    environment = {
        "ZHICHAO_TLS_CA_FILE": str(client / "ca.crt"),
        "ZHICHAO_TLS_CERTIFICATE_FILE": str(client / "tls.crt"),
        "ZHICHAO_TLS_KEY_FILE": str(client / "tls.key"),
    }
    exit_code, output = run("whoami", "--registry", platform.address("registry"), *token(platform), **environment)
    assert exit_code == 0, output


def test_simulated_terminals_show_a_certificate_too(platform: PlatformProcess, client: Path, tmp_path: Path) -> None:
    exit_code, output = run(
        "simulate",
        *("--weighing", platform.address("weighing"), "--registry", platform.address("registry"), "--json"),
        *("--platform", PLATFORM, "--units", 1, "--rate", 20, "--for", 1, "--tls", client, *token(platform)),
        *("--issuer-token-file", token(platform, "security")[1], "--ledger", tmp_path / "ledger"),
    )
    assert exit_code == 0, output


def test_without_a_certificate_one_is_told_what_may_be_missing(platform: PlatformProcess, client: Path) -> None:
    address, ca = platform.address("registry"), ("--ca", client / "ca.crt")
    for words in (
        ("whoami", "--registry", address, *token(platform), *ca),
        ("status", address, *token(platform), *ca),
    ):
        exit_code, output = run(*words)
        assert exit_code == 1
        assert "cuts off whoever shows none" in output


def test_a_clients_certificate_opens_nothing_without_a_token(platform: PlatformProcess, client: Path) -> None:
    exit_code, output = run("whoami", "--registry", platform.address("registry"), "--tls", client)
    assert exit_code == 1
    assert "INVALID_CREDENTIALS" in output


def test_an_integrator_calls_by_certificate_alone(
    platform: PlatformProcess, directory: Path, authority: Authority
) -> None:
    authority_directory, folder = directory / "authority", directory / "integrator"
    write_authority(authority_directory, authority)
    unit = ("--unit", register_unit(platform))
    created = run(
        *("credential", "create", "integrator", "--data", platform.data_directory, "--name", "示例集成商"),
        *(*unit, "--id", "works-1", "--certificate-only"),
    )
    assert created[0] == 0, created[1]
    issued = run(
        *("pki", "issue", "--dir", authority_directory, "--platform", PLATFORM, "--credential", "works-1"),
        *("--days", 30, "--out", folder),
    )
    assert issued[0] == 0, issued[1]
    exit_code, output = run("whoami", "--registry", platform.address("registry"), "--tls", folder, "--json")
    assert exit_code == 0, output
    assert json.loads(output)["principal"] == "integrator/works-1"


def register_unit(platform: PlatformProcess) -> str:
    """Register the unit that the integrator is bound to, unless another test has; return its id."""
    from cli.simulate.registration import register_site
    from cli.simulate.site import make_site
    from services.common.clock import SystemClock
    from zhichao.registry.v1.service_pb2_grpc import RegistryServiceStub

    site = make_site(seed=1, units=1, platform_code=PLATFORM)
    with platform.connect("registry") as channel:
        register_site(RegistryServiceStub(channel), site, today=SystemClock().now().date())
    return site.units[0].source_unit_id


def wrong(folder: Path, case: str, authority: Authority) -> tuple[list[Any], str]:
    """Return options that cannot work, and what is said of them."""
    good = authority.issue_client(PLATFORM, "office-1", MONTH)
    write_pair(folder, good, authority)
    key = folder / "tls.key"
    if case == "no such file":
        key.unlink()
        return ["--tls", folder], f"there is no file {key}"
    if case == "no such key":
        key.unlink()
        return [
            *("--ca", folder / "ca.crt", "--certificate", folder / "tls.crt", "--certificate-key", key)
        ], f"--certificate-key: {key} cannot be read"
    if case == "key of another":
        key.write_bytes(authority.issue_client(PLATFORM, "office-2", MONTH).key_pem())
        return ["--tls", folder], f"--certificate-key: the key in {key} is not that of"
    if case == "expired":
        past = authority.issue_client(PLATFORM, "office-1", days_ago(20, 10))
        key.write_bytes(past.key_pem())
        (folder / "tls.crt").write_bytes(past.certificate_pem())
        return ["--tls", folder], f"--certificate: {folder / 'tls.crt'} has ended"
    if case == "not yet valid":
        ahead = authority.issue_client(PLATFORM, "office-1", days_ago(-10, -20))
        key.write_bytes(ahead.key_pem())
        (folder / "tls.crt").write_bytes(ahead.certificate_pem())
        return ["--tls", folder], f"--certificate: {folder / 'tls.crt'} is valid from"
    if case == "without key":
        return [
            "--ca",
            folder / "ca.crt",
            "--certificate",
            folder / "tls.crt",
        ], "--certificate goes with --certificate-key"
    if case == "without authority":
        return ["--certificate", folder / "tls.crt", "--certificate-key", key], "--certificate goes with --ca"
    return ["--tls", folder, "--ca", folder / "ca.crt"], "give --tls or --ca, not both"


@pytest.mark.parametrize(
    "case",
    [
        "no such file",
        "no such key",
        "key of another",
        "expired",
        "not yet valid",
        "without key",
        "without authority",
        "twice",
    ],
)
def test_files_that_cannot_work_are_named(case: str, tmp_path: Path, authority: Authority) -> None:
    options, told = wrong(tmp_path / "wrong", case, authority)
    exit_code, output = run("whoami", "--registry", "127.0.0.1:9", *options)
    assert exit_code in (1, 2)
    assert told in output


def test_a_platform_that_asks_for_certificates_needs_one(tmp_path: Path) -> None:
    exit_code, output = run("up", "--platform", PLATFORM, "--data", tmp_path / "data", "--port", 0, **ASKS)
    assert exit_code == 2
    assert "asks for certificates, which takes TLS: give --tls DIR" in output
