"""The files of TLS: which are taken, which are refused and how that is told, and which addresses go without."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from cli.pki.authority import Authority, Validity
from services.common.settings import PlatformSettings, SettingsError, load
from services.common.tls import FILE_CHECK_SECONDS, Tls, Transport, TrustedAuthorities, is_local
from services.common.tls_files import TlsFiles
from tests.certificates import MONTH, days_ago, files_in, new_authority, platform_files, tls_environment, write
from tests.common.conftest import Events

COUNTY = "141025"


@dataclass
class Watch:
    """A clock that the test moves."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Watched:
    """The files of a county, and what is made of them."""

    directory: Path
    authority: Authority = field(default_factory=new_authority)
    watch: Watch = field(default_factory=Watch)

    def write(self, validity: Validity = MONTH, platform: str = COUNTY) -> TlsFiles:
        return platform_files(self.directory, self.authority, platform, validity=validity)

    def load(self, **options: object) -> Tls:
        return Tls(files_in(self.directory), monotonic=self.watch, **options)  # type: ignore[arg-type]  # passed through

    def look(self, tls: Tls, times: int = 1) -> str:
        """Look so many times at the files and return the serial number that is in use."""
        for _ in range(times):
            self.watch.seconds += FILE_CHECK_SECONDS
            tls.current()
        return tls.current().serial


@pytest.fixture
def files(tmp_path: Path) -> Watched:
    """Write the files of a county."""
    watched = Watched(tmp_path / "tls")
    watched.write()
    return watched


def break_certificate(found: TlsFiles) -> None:
    found.certificate.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")


def break_key(found: TlsFiles) -> None:
    found.key.write_text("nonsense")


def swap_key(found: TlsFiles) -> None:
    found.key.write_bytes(new_authority().pair.key_pem())


def empty_authorities(found: TlsFiles) -> None:
    found.ca.write_text("")


def remove_authorities(found: TlsFiles) -> None:
    found.ca.unlink()


def grow_certificate(found: TlsFiles) -> None:
    found.certificate.write_bytes(found.certificate.read_bytes() * 2000)


BROKEN = [
    pytest.param(break_certificate, "TLS_CERTIFICATE_FILE: .*holds no certificate", id="certificate is none"),
    pytest.param(break_key, "TLS_KEY_FILE: .*holds no private key", id="key is none"),
    pytest.param(swap_key, "TLS_KEY_FILE: the key in .* is not that of", id="key of another certificate"),
    pytest.param(empty_authorities, "TLS_CA_FILE: .*holds no certificate", id="no authority"),
    pytest.param(remove_authorities, "TLS_CA_FILE: .*No such file", id="file is missing"),
    pytest.param(grow_certificate, "TLS_CERTIFICATE_FILE: .*larger than", id="file without end"),
]

Break = Callable[[TlsFiles], None]


@pytest.mark.parametrize(("spoil", "message"), BROKEN)
def test_files_that_cannot_be_used_stop_the_start(files: Watched, spoil: Break, message: str) -> None:
    spoil(files_in(files.directory))

    with pytest.raises(SettingsError, match=message):
        files.load()


@pytest.mark.parametrize(("spoil", "message"), BROKEN)
def test_files_that_cannot_be_used_leave_the_former_in_use(
    files: Watched, events: Events, spoil: Break, message: str
) -> None:
    tls = files.load()
    before = tls.current()
    files.write()
    spoil(files_in(files.directory))

    assert files.look(tls, times=5) == before.serial
    assert tls.current() is before
    (told,) = events.named("certificate_not_taken")
    assert told["log_level"] == "error"


def test_the_bundle_hides_its_key(files: Watched) -> None:
    assert "PRIVATE KEY" not in repr(files.load().current())


def test_a_renewal_is_taken_at_the_next_look(files: Watched, events: Events) -> None:
    tls = files.load()
    before = tls.current().serial
    files.write()

    files.watch.seconds += FILE_CHECK_SECONDS / 2
    assert tls.current().serial == before
    after = files.look(tls)
    assert after != before
    (told,) = events.named("certificate_taken")
    assert (told["serial"], told["serial_before"]) == (after, before)


def test_a_renewal_that_is_half_written_is_not_complained_of(files: Watched, events: Events) -> None:
    tls = files.load()
    before = tls.current().serial
    pair = files.authority.issue_platform(COUNTY, (), MONTH)
    found = files_in(files.directory)

    found.key.write_bytes(pair.key_pem())
    assert files.look(tls) == before
    found.certificate.write_bytes(pair.certificate_pem())
    assert files.look(tls) != before
    assert events.named("certificate_not_taken") == []


def test_each_fault_is_told_once(files: Watched, events: Events) -> None:
    tls = files.load()
    break_key(files_in(files.directory))
    files.look(tls, times=4)
    break_certificate(files_in(files.directory))
    files.look(tls, times=4)
    files.write()
    files.look(tls)
    break_key(files_in(files.directory))
    files.look(tls, times=4)

    assert len(events.named("certificate_not_taken")) == 3


def test_a_certificate_that_has_ended_does_not_replace_a_good_one(files: Watched, events: Events) -> None:
    tls = files.load()
    before = tls.current().serial
    files.write(days_ago(30, 1))

    assert files.look(tls, times=3) == before
    assert "has ended" in events.named("certificate_not_taken")[0]["detail"]


def test_a_certificate_of_tomorrow_is_taken_tomorrow(files: Watched) -> None:
    clock = Watch(days_ago(0, 0).ends_at.timestamp())
    tls = files.load(now=clock)
    before = tls.current().serial
    files.write(days_ago(-1, -30))

    assert files.look(tls, times=3) == before
    clock.seconds += 25 * 3600
    assert files.look(tls) != before


def test_a_service_starts_with_a_certificate_that_has_ended_and_takes_the_next(files: Watched, events: Events) -> None:
    files.write(days_ago(30, 1))
    tls = files.load()

    assert len(events.named("certificate_out_of_date")) == 1
    assert -1.1 < tls.certificate_days_left() < -0.9
    files.write()
    files.look(tls)
    assert 29 < tls.certificate_days_left() < 31


def test_a_link_that_points_elsewhere_is_a_change(files: Watched, tmp_path: Path) -> None:
    # As Kubernetes changes a mounted secret: all files are links through one link, which is replaced.
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    current = mounted / "..data"
    current.symlink_to(files.directory)
    for name in ("tls.crt", "tls.key", "ca.crt"):
        (mounted / name).symlink_to(f"..data/{name}")
    watch = Watch()
    tls = Tls(files_in(mounted), monotonic=watch)
    before = tls.current().serial
    platform_files(tmp_path / "next", files.authority, COUNTY)

    (mounted / "..next").symlink_to(tmp_path / "next")
    (mounted / "..next").replace(current)
    watch.seconds += FILE_CHECK_SECONDS
    assert tls.current().serial != before


def test_the_chain_ends_with_its_first_end(files: Watched) -> None:
    found = files_in(files.directory)
    short = files.authority.issue_platform(COUNTY, (), Validity.of_days(5))
    found.certificate.write_bytes(found.certificate.read_bytes() + short.certificate_pem())

    tls = files.load()

    assert 4 < tls.certificate_days_left() < 6
    assert 399 < tls.authorities_days_left() < 401


def test_a_certificate_of_another_platform_is_refused_where_its_name_matters(files: Watched) -> None:
    uri = f"spiffe://zhichao/platform/{COUNTY}"
    tls = files.load(required_uri=uri)
    before = tls.current().serial
    files.write(platform="141026")

    assert files.look(tls, times=3) == before
    with pytest.raises(
        SettingsError, match=f"must carry the URI name {uri}; it carries spiffe://zhichao/platform/141026"
    ):
        files.load(required_uri=uri)


def test_a_certificate_without_names_is_refused_where_its_name_matters(files: Watched) -> None:
    write(files.directory, files.authority.pair, [files.authority])

    with pytest.raises(SettingsError, match="must carry the URI name"):
        files.load(required_uri=f"spiffe://zhichao/platform/{COUNTY}")


def with_key(files: Watched, key: Any) -> None:
    """Write a certificate for a key of another kind than `zhichao pki` makes."""
    issuer = files.authority.pair
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "county")]))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(MONTH.begins_at)
        .not_valid_after(MONTH.ends_at)
        .sign(issuer.key, SHA256())
    )
    found = files_in(files.directory)
    found.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    found.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


KEYS: dict[str, Callable[[], Any]] = {
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    # Short on purpose.
    "RSA of 1,024 bits": lambda: rsa.generate_private_key(65537, 1024),  # noqa: S505 - refused
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "RSA of 2,048 bits": lambda: rsa.generate_private_key(65537, 2048),
}


@pytest.mark.parametrize("kind", list(KEYS)[:4])
def test_a_key_that_grpc_cannot_use_is_not_taken(files: Watched, events: Events, kind: str) -> None:
    tls = files.load()
    before = tls.current().serial
    with_key(files, KEYS[kind]())

    assert files.look(tls, times=3) == before
    assert "must hold an ECDSA key" in events.named("certificate_not_taken")[0]["detail"]
    with pytest.raises(SettingsError, match="must hold an ECDSA key"):
        files.load()


@pytest.mark.parametrize("kind", list(KEYS)[4:])
def test_other_usual_keys_are_taken(files: Watched, kind: str) -> None:
    tls = files.load()
    before = tls.current().serial
    with_key(files, KEYS[kind]())

    assert files.look(tls) != before


# Which addresses go without


def settings(**variables: str) -> PlatformSettings:
    return load(PlatformSettings, {"ZHICHAO_PLATFORM": COUNTY, **variables})


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("unix:/run/a.sock", True),
        ("127.0.0.1:7702", True),
        ("127.9.9.9:7702", True),
        ("[::1]:7702", True),
        ("localhost:7702", True),
        ("0.0.0.0:7702", False),
        ("[::]:7702", False),
        ("192.0.2.1:7702", False),
        ("county.example:7702", False),
        ("localhost.example:7702", False),
    ],
)
def test_which_addresses_are_local(address: str, expected: bool) -> None:
    assert is_local(address) is expected


@pytest.mark.parametrize("address", ["unix:/run/a.sock", "127.0.0.1:7702", "localhost:7702"])
def test_plain_text_only_when_asked_for(address: str) -> None:
    asked_for = Transport.of(settings(ZHICHAO_PLAINTEXT_LOOPBACK="true"))
    assert asked_for.for_address(address, "ZHICHAO_WEIGHING_LISTEN") is None

    with pytest.raises(SettingsError) as raised:
        Transport.of(settings()).for_address(address, "ZHICHAO_WEIGHING_LISTEN")
    for name in (
        f"ZHICHAO_WEIGHING_LISTEN is {address}",
        "ZHICHAO_TLS_CERTIFICATE_FILE",
        "ZHICHAO_TLS_KEY_FILE",
        "ZHICHAO_TLS_CA_FILE",
        "ZHICHAO_PLAINTEXT_LOOPBACK=true",
    ):
        assert name in str(raised.value)


@pytest.mark.parametrize("address", ["0.0.0.0:7702", "192.0.2.1:7702", "county.example:7702"])
def test_no_plain_text_beyond_this_machine(address: str) -> None:
    with pytest.raises(SettingsError, match="takes TLS"):
        Transport.of(settings(ZHICHAO_PLAINTEXT_LOOPBACK="true")).for_address(address, "ZHICHAO_WEIGHING_LISTEN")


def test_tls_where_plain_text_was_not_asked_for(files: Watched) -> None:
    transport = Transport.of(settings(**tls_environment(files.directory)))

    for address in ("unix:/run/a.sock", "127.0.0.1:7702", "192.0.2.1:7702"):
        assert transport.for_address(address, "ZHICHAO_WEIGHING_LISTEN") is transport.tls is not None


def test_both_side_by_side(files: Watched) -> None:
    environment = tls_environment(files.directory) | {"ZHICHAO_PLAINTEXT_LOOPBACK": "true"}
    transport = Transport.of(settings(**environment))

    assert transport.for_address("127.0.0.1:7702", "ZHICHAO_WEIGHING_LISTEN") is None
    assert transport.for_address("192.0.2.1:7702", "ZHICHAO_WEIGHING_LISTEN") is transport.tls is not None


def test_only_the_missing_files_are_asked_for(files: Watched) -> None:
    environment = tls_environment(files.directory)
    del environment["ZHICHAO_TLS_KEY_FILE"]

    with pytest.raises(SettingsError, match=r"set ZHICHAO_TLS_KEY_FILE; plain text"):
        Transport.of(settings(**environment)).for_address("192.0.2.1:7702", "ZHICHAO_WEIGHING_LISTEN")


def test_the_same_files_are_looked_at_once_in_a_process(files: Watched) -> None:
    environment = tls_environment(files.directory)
    server, client = Transport.of(settings(**environment)), Transport.of(settings(**environment))
    other = Transport.of(settings(**environment), required_uri=f"spiffe://zhichao/platform/{COUNTY}")

    assert server.tls is client.tls is not None
    assert other.tls is not server.tls


def test_authorities_of_somebody_without_a_certificate(files: Watched, tmp_path: Path) -> None:
    found = TrustedAuthorities(files_in(files.directory).ca).current()
    assert (found.certificate_chain, found.private_key) == (b"", b"")

    with pytest.raises(SettingsError, match=r"--ca: .*No such file"):
        TrustedAuthorities(tmp_path / "none", "--ca")
