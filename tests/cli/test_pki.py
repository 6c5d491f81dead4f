"""`zhichao pki`: an authority, certificates as the services take them, renewals, and a look at all of them."""

import json
import ssl
import stat
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from cli.main import main
from cli.pki.authority import Authority, Validity
from cli.pki.files import write_authority, write_pair

URI = "spiffe://zhichao/platform/141025"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["pki", *map(str, arguments)])


def made(*arguments: object) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def names(found: x509.Certificate) -> list[str]:
    extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in extension]


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """Make an authority; return its folder."""
    directory = tmp_path / "authority"
    made("init", "--dir", directory)
    return directory


@pytest.fixture
def county(authority: Path, tmp_path: Path) -> Path:
    """Issue the certificate of a county; return its folder."""
    directory = tmp_path / "county"
    made("issue", "--dir", authority, "--platform", "141025", "--host", "county.example", "--out", directory)
    return directory


def test_an_authority_signs_certificates_and_no_authorities(authority: Path) -> None:
    found = certificate(authority / "ca.crt")

    constraints = found.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = found.extensions.get_extension_for_class(x509.KeyUsage)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.digital_signature) == (True, True, False)
    assert names(found) == ["spiffe://zhichao"]


def test_a_platforms_certificate_names_it_and_its_hosts(county: Path, authority: Path) -> None:
    found = certificate(county / "tls.crt")

    assert names(found) == [URI, "county.example", "localhost", "127.0.0.1", "::1"]
    found.verify_directly_issued_by(certificate(authority / "ca.crt"))
    usages = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usages) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    constraints = found.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca) == (True, False)
    assert (county / "ca.crt").read_bytes() == (authority / "ca.crt").read_bytes()


def test_the_files_are_what_tls_takes(county: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(county / "tls.crt", county / "tls.key")
    context.load_verify_locations(county / "ca.crt")


def test_the_holder_of_a_credential_may_call_and_not_serve(authority: Path, tmp_path: Path) -> None:
    out = tmp_path / "integrator"
    made("issue", "--dir", authority, "--platform", "141025", "--credential", "scale-works-1", "--out", out)

    found = certificate(out / "tls.crt")
    assert names(found) == [f"{URI}/credential/scale-works-1"]
    usages = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_another_trust_domain_stands_in_what_it_signs(tmp_path: Path) -> None:
    made("init", "--dir", tmp_path / "ca", "--trust-domain", "shanxi.example")
    made("issue", "--dir", tmp_path / "ca", "--platform", "140000", "--out", tmp_path / "out")

    assert names(certificate(tmp_path / "out" / "tls.crt"))[0] == "spiffe://shanxi.example/platform/140000"


@pytest.mark.parametrize("file", ["authority/ca.key", "county/tls.key"])
def test_only_the_owner_may_read_a_key(county: Path, tmp_path: Path, file: str) -> None:
    assert stat.S_IMODE((tmp_path / file).stat().st_mode) == 0o600


def test_serial_numbers_differ(county: Path, authority: Path, tmp_path: Path) -> None:
    made("issue", "--dir", authority, "--platform", "141025", "--out", tmp_path / "again")

    first, second = certificate(county / "tls.crt"), certificate(tmp_path / "again" / "tls.crt")
    assert first.serial_number != second.serial_number
    # CA/Browser Forum, 7.1: at least 64 random bits.
    assert min(first.serial_number, second.serial_number).bit_length() > 64


def test_nothing_is_overwritten(county: Path, authority: Path) -> None:
    before = {path: path.read_bytes() for path in (*county.iterdir(), *authority.iterdir())}

    again = run("init", "--dir", authority)
    issued = run("issue", "--dir", authority, "--platform", "141025", "--out", county)

    assert (again.exit_code, issued.exit_code) == (2, 2)
    assert "is not overwritten" in again.output
    assert "--renew" in issued.output
    assert {path: path.read_bytes() for path in before} == before


def test_a_renewal_keeps_the_names_and_changes_key_and_serial(county: Path, authority: Path) -> None:
    before, key_before = certificate(county / "tls.crt"), (county / "tls.key").read_bytes()

    made("issue", "--dir", authority, "--platform", "141025", "--out", county, "--renew")

    after = certificate(county / "tls.crt")
    assert names(after) == names(before)
    assert after.serial_number != before.serial_number
    assert (county / "tls.key").read_bytes() != key_before
    assert made("show", county).exit_code == 0
    assert sorted(path.name for path in county.iterdir()) == ["ca.crt", "tls.crt", "tls.key"]


def test_a_renewal_by_another_authority_keeps_the_former_one(county: Path, authority: Path, tmp_path: Path) -> None:
    made("init", "--dir", tmp_path / "next")
    made("issue", "--dir", tmp_path / "next", "--platform", "141025", "--out", county, "--renew")

    trusted = x509.load_pem_x509_certificates((county / "ca.crt").read_bytes())
    assert trusted == [certificate(tmp_path / "next" / "ca.crt"), certificate(authority / "ca.crt")]


def test_a_renewal_of_somebody_else_is_refused(county: Path, authority: Path) -> None:
    result = run("issue", "--dir", authority, "--platform", "141026", "--out", county, "--renew")

    assert result.exit_code == 2
    assert URI in result.output
    assert names(certificate(county / "tls.crt"))[0] == URI


def test_a_renewal_of_nothing_is_refused(authority: Path, tmp_path: Path) -> None:
    result = run("issue", "--dir", authority, "--platform", "141025", "--out", tmp_path / "none", "--renew")

    assert result.exit_code == 2
    assert "leave --renew out" in result.output


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--platform", "1410"), "--platform"),
        (("--platform", "141025", "--credential", "A b"), "--credential"),
        (("--platform", "141025", "--host", "county.example:7707"), "--host"),
        (("--platform", "141025", "--host", "999.1.2.3"), "--host"),
        (("--platform", "141025", "--host", "https://county.example"), "--host"),
        (("--platform", "141025", "--credential", "x", "--host", "a.example"), "--host"),
        (("--platform", "141025", "--days", "0"), "--days"),
        (("--platform", "141025", "--days", "3651"), "outlive the authority"),
    ],
)
def test_what_cannot_be_issued_is_named(authority: Path, tmp_path: Path, arguments: Sequence[str], named: str) -> None:
    result = run("issue", "--dir", authority, "--out", tmp_path / "out", *arguments)

    assert result.exit_code == 2
    assert named in result.output
    assert not (tmp_path / "out").exists()


def test_a_folder_without_an_authority_is_named(tmp_path: Path) -> None:
    result = run("issue", "--dir", tmp_path, "--platform", "141025", "--out", tmp_path / "out")

    assert result.exit_code == 2
    assert "zhichao pki init" in result.output


def test_an_authority_that_was_not_made_here_signs_nothing(authority: Path, county: Path, tmp_path: Path) -> None:
    (authority / "ca.key").write_bytes((county / "tls.key").read_bytes())

    result = run("issue", "--dir", authority, "--platform", "141026", "--out", tmp_path / "out")

    assert result.exit_code == 2
    assert "not that of its certificate" in result.output


def test_show_tells_the_days_left(county: Path) -> None:
    result = made("show", county, "--json")

    first, authority = json.loads(result.output)
    assert (first["uris"], first["hosts"][0], first["is_authority"]) == ([URI], "county.example", False)
    assert 364 < first["days_left"] < 366
    assert (authority["uris"], authority["is_authority"]) == (["spiffe://zhichao"], True)
    assert made("show", county / "tls.crt").output.count("141025") == 1


@pytest.mark.parametrize(("age_days", "problem"), [(40, "it has ended"), (-2, "it is not valid yet")])
def test_show_fails_for_a_certificate_that_is_not_valid_now(tmp_path: Path, age_days: int, problem: str) -> None:
    then = datetime.now(UTC) - timedelta(days=age_days)
    authority = Authority.new("zhichao", Validity.of_days(60, then))
    write_pair(tmp_path / "out", authority.issue_platform("141025", (), Validity.of_days(30, then)), authority)

    result = run("show", tmp_path / "out")

    assert result.exit_code == 1
    assert problem in " ".join(result.output.split())


def test_show_fails_for_files_that_do_not_belong_together(county: Path, tmp_path: Path) -> None:
    other = Authority.new("zhichao", Validity.of_days(30))
    write_authority(tmp_path / "other", other)
    (county / "tls.key").write_bytes(other.pair.key_pem())
    (county / "ca.crt").write_bytes(other.pair.certificate_pem())

    found = json.loads(run("show", county, "--json").output)

    assert found[0]["problems"] == [
        "tls.key is the key of another certificate",
        "none of the authorities in ca.crt has signed it",
    ]


def test_show_warns_of_a_key_that_others_may_read(county: Path) -> None:
    (county / "tls.key").chmod(0o640)

    result = run("show", county)

    assert result.exit_code == 1
    assert "chmod 600" in result.output


def test_show_of_what_is_no_certificate(county: Path) -> None:
    result = run("show", county / "tls.key")

    assert result.exit_code == 2
    assert "holds no certificate" in result.output
