"""TLS of one platform: its certificate, its key and the authorities, kept up to date with their files, and which
addresses go without. gRPC speaks TLS 1.2 and 1.3 and nothing older.
"""

import ipaddress
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from services.common.settings import SettingsError

CERTIFICATE_VARIABLE: Final = "ZHICHAO_TLS_CERTIFICATE_FILE"
KEY_VARIABLE: Final = "ZHICHAO_TLS_KEY_FILE"
CA_VARIABLE: Final = "ZHICHAO_TLS_CA_FILE"
PLAINTEXT_VARIABLE: Final = "ZHICHAO_PLAINTEXT_LOOPBACK"

FILE_CHECK_SECONDS: Final = 1.0
"""The files are looked at at most this often: three calls of `stat`, and a new certificate is used within a second."""

FILE_BYTES_MAX: Final = 1024 * 1024
"""Largest file that is read: a certificate takes 1 to 2 kB, and a bundle of all public authorities some 250 kB."""

_SECONDS_PER_DAY: Final = 24 * 3600
_ALWAYS: Final = datetime.min.replace(tzinfo=UTC)

_log = structlog.get_logger()


class TlsSettings(Protocol):
    """What the settings of a platform say about TLS."""

    @property
    def tls_certificate_file(self) -> Path | None:
        """Certificate with its chain."""
        ...

    @property
    def tls_key_file(self) -> Path | None:
        """Private key of the certificate."""
        ...

    @property
    def tls_ca_file(self) -> Path | None:
        """Authorities that peers are held against."""
        ...

    @property
    def plaintext_loopback(self) -> bool:
        """Whether loopback addresses and unix sockets go without TLS."""
        ...


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The three files. A change of one of them is a change of all."""

    certificate: Path
    key: Path
    ca: Path


@dataclass(frozen=True, slots=True)
class TlsBundle:
    """What the files held at one moment, checked: the key fits the certificate, and there is an authority."""

    # Empty for somebody who shows none.
    certificate_chain: bytes
    private_key: bytes = field(repr=False)
    authorities: bytes
    # The earliest end in the chain.
    begins_at: datetime
    ends_at: datetime
    # The last end among the authorities: after it nobody is trusted.
    authorities_end_at: datetime
    uris: tuple[str, ...]
    serial: str


class ClientTls(Protocol):
    """What a channel needs to speak TLS."""

    def current(self) -> TlsBundle:
        """Return what is in use; the same object until it changes."""
        ...


class TrustedAuthorities:
    """The TLS of somebody without a certificate: a person's tools, which show a token. Read once."""

    def __init__(self, path: Path, setting: str = CA_VARIABLE) -> None:
        """Read the authorities. Raises SettingsError that names the setting."""
        try:
            pem = _read(path, setting)
            ends_at = max(one.not_valid_after_utc for one in _certificates(pem, path, setting))
        except _TlsFileError as error:
            raise SettingsError(str(error)) from error
        self._bundle = TlsBundle(b"", b"", pem, _ALWAYS, ends_at, ends_at, (), "")

    def current(self) -> TlsBundle:
        """Return the authorities."""
        return self._bundle


class _TlsFileError(Exception):
    """The files cannot be used; the text names the setting."""


class Tls:
    """The files as they are now. Thread-safe.

    New contents are taken when they are whole: they parse, the key fits, and today lies within the certificate's days.
    Until then the former stay in use, so that half a renewal never cuts a platform off. What is still not whole at the
    next look is told in one log line (`certificate_not_taken`).
    """

    def __init__(
        self,
        files: TlsFiles,
        *,
        required_uri: str = "",
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the files; `required_uri` is a name that the certificate must carry. Raises SettingsError."""
        self._files = files
        self._required_uri = required_uri
        self._now = now
        self._monotonic = monotonic
        self._guard = threading.Lock()
        self._complaint = ""
        self._has_told = False
        self._looked_at = monotonic()
        try:
            self._stamp = _stamp(files)
            self._bundle = self._read()
        except _TlsFileError as error:
            raise SettingsError(str(error)) from error
        if complaint := self._complaint_about_dates(self._bundle):
            # The start goes on: what is spoken over loopback works, and a renewal is taken as soon as it is there.
            _log.error("certificate_out_of_date", path=str(files.certificate), detail=complaint)

    def current(self) -> TlsBundle:
        """Return what is in use; the same object until it changes. Looks at the files at most once a second."""
        if self._monotonic() - self._looked_at >= FILE_CHECK_SECONDS and self._guard.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._guard.release()
        return self._bundle

    def certificate_days_left(self) -> float:
        """Return the days until the certificate in use ends, or another of its chain; negative afterwards."""
        return (self.current().ends_at.timestamp() - self._now()) / _SECONDS_PER_DAY

    def authorities_days_left(self) -> float:
        """Return the days until the last of the authorities ends."""
        return (self.current().authorities_end_at.timestamp() - self._now()) / _SECONDS_PER_DAY

    def server_credentials(self, *, require_client_certificate: bool = False) -> grpc.ServerCredentials:
        """Return credentials for a port. Every handshake uses what is current then.

        With `require_client_certificate` a client without a certificate of one of the authorities is cut off.
        """
        used = self.current()

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            # Called by gRPC at each handshake; None leaves everything as it is.
            nonlocal used
            bundle = self.current()
            if bundle is used:
                return None
            used = bundle
            return _server_configuration(bundle)

        return grpc.dynamic_ssl_server_credentials(
            _server_configuration(used),
            fetch,  # type: ignore[arg-type]  # the stubs leave out None, which gRPC documents
            require_client_certificate,
        )

    def _look(self) -> None:
        self._looked_at = self._monotonic()
        try:
            # Taken before the files are read: a change in between is seen at the next look.
            stamp = _stamp(self._files)
            if stamp == self._stamp:
                return
            bundle = self._read()
            if complaint := self._complaint_about_dates(bundle):
                raise _TlsFileError(complaint)
        except _TlsFileError as error:
            if str(error) != self._complaint:
                # Three files are never written at once: whoever writes them has until the next look.
                self._complaint, self._has_told = str(error), False
            elif not self._has_told:
                self._has_told = True
                _log.error(
                    "certificate_not_taken",
                    path=str(self._files.certificate),
                    detail=self._complaint,
                    serial_in_use=self._bundle.serial,
                )
            return
        self._stamp, self._complaint = stamp, ""
        before, self._bundle = self._bundle, bundle
        _log.info(
            "certificate_taken",
            path=str(self._files.certificate),
            serial=bundle.serial,
            serial_before=before.serial,
            days_left=round(self.certificate_days_left(), 1),
        )

    def _read(self) -> TlsBundle:
        chain_pem = _read(self._files.certificate, CERTIFICATE_VARIABLE)
        key_pem = _read(self._files.key, KEY_VARIABLE)
        ca_pem = _read(self._files.ca, CA_VARIABLE)
        chain = _certificates(chain_pem, self._files.certificate, CERTIFICATE_VARIABLE)
        authorities = _certificates(ca_pem, self._files.ca, CA_VARIABLE)
        try:
            key = load_pem_private_key(key_pem, None)
        except (ValueError, TypeError) as error:
            raise _TlsFileError(
                f"{KEY_VARIABLE}: {self._files.key} holds no private key (PEM, without a password)"
            ) from error
        if key.public_key() != chain[0].public_key():
            raise _TlsFileError(
                f"{KEY_VARIABLE}: the key in {self._files.key} is not that of the first certificate in "
                f"{self._files.certificate}"
            )
        uris = _uris(chain[0])
        if self._required_uri and self._required_uri not in uris:
            raise _TlsFileError(
                f"{CERTIFICATE_VARIABLE}: the certificate in {self._files.certificate} must carry the URI name "
                f"{self._required_uri}; it carries {', '.join(uris) or 'none'}"
            )
        return TlsBundle(
            chain_pem,
            key_pem,
            ca_pem,
            max(one.not_valid_before_utc for one in chain),
            min(one.not_valid_after_utc for one in chain),
            max(one.not_valid_after_utc for one in authorities),
            uris,
            f"{chain[0].serial_number:x}",
        )

    def _complaint_about_dates(self, bundle: TlsBundle) -> str:
        now = datetime.fromtimestamp(self._now(), UTC)
        if now < bundle.begins_at:
            return f"{CERTIFICATE_VARIABLE}: the certificate is valid from {bundle.begins_at:%Y-%m-%d %H:%M} UTC only"
        if now > bundle.ends_at:
            return f"{CERTIFICATE_VARIABLE}: the certificate has ended at {bundle.ends_at:%Y-%m-%d %H:%M} UTC"
        return ""


class Transport:
    """How the services of a platform speak: in plain text where the settings say so, otherwise by TLS."""

    def __init__(self, tls: Tls | None, *, plaintext_loopback: bool, missing: Iterable[str] = ()) -> None:
        self.tls = tls
        self._plaintext_loopback = plaintext_loopback
        self._missing = tuple(missing)

    @classmethod
    def of(cls, settings: TlsSettings, *, required_uri: str = "") -> "Transport":
        """Read the files that the settings name. Raises SettingsError if one of them cannot be used.

        `required_uri` is a name that the certificate must carry. Without all three files there is no TLS; that is an
        error only where somebody needs it.
        """
        named = {
            CERTIFICATE_VARIABLE: settings.tls_certificate_file,
            KEY_VARIABLE: settings.tls_key_file,
            CA_VARIABLE: settings.tls_ca_file,
        }
        certificate, key, ca = named.values()
        tls = None
        if certificate is not None and key is not None and ca is not None:
            tls = Tls(TlsFiles(certificate, key, ca), required_uri=required_uri)
        missing = [name for name, path in named.items() if path is None]
        return cls(tls, plaintext_loopback=settings.plaintext_loopback, missing=missing)

    def is_plaintext(self, address: str) -> bool:
        """Tell whether an address goes without TLS."""
        return self._plaintext_loopback and is_local(address)

    def for_address(self, address: str, setting: str) -> Tls | None:
        """Return the TLS of an address that is listened on or called; None for plain text.

        Raises SettingsError if it takes TLS and there is none; `setting` is the variable that names the address.
        """
        return None if self.is_plaintext(address) else self.required(f"{setting} is {address}, which takes TLS")

    def required(self, why: str) -> Tls:
        """Return the TLS of something that is never plain text. Raises SettingsError that begins with `why`."""
        if self.tls is not None:
            return self.tls
        raise SettingsError(
            f"{why}: set {', '.join(self._missing)}; plain text is for loopback addresses and unix sockets only, with "
            f"{PLAINTEXT_VARIABLE}=true"
        )


def is_local(address: str) -> bool:
    """Tell whether only this machine reaches an address: a unix socket or loopback."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def channel_credentials(bundle: TlsBundle) -> grpc.ChannelCredentials:
    """Return credentials for calls: servers are held against the authorities; our own certificate, if any, is shown."""
    return grpc.ssl_channel_credentials(
        bundle.authorities, bundle.private_key or None, bundle.certificate_chain or None
    )


def _server_configuration(bundle: TlsBundle) -> grpc.ServerCertificateConfiguration:
    pairs = [(bundle.private_key, bundle.certificate_chain)]
    return grpc.ssl_server_certificate_configuration(pairs, bundle.authorities)


def _stamp(files: TlsFiles) -> tuple[tuple[int, int, int], ...]:
    stamps = []
    for path, variable in (
        (files.certificate, CERTIFICATE_VARIABLE),
        (files.key, KEY_VARIABLE),
        (files.ca, CA_VARIABLE),
    ):
        try:
            # Of the file behind links: Kubernetes changes a mounted secret by changing where a link points.
            status = path.stat()
        except OSError as error:
            raise _unreadable(path, variable, error) from error
        stamps.append((status.st_mtime_ns, status.st_ino, status.st_size))
    return tuple(stamps)


def _read(path: Path, variable: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise _unreadable(path, variable, error) from error
    if len(content) > FILE_BYTES_MAX:
        raise _TlsFileError(f"{variable}: {path} is larger than {FILE_BYTES_MAX} bytes")
    return content


def _unreadable(path: Path, variable: str, error: OSError) -> _TlsFileError:
    return _TlsFileError(f"{variable}: {path} cannot be read: {error.strerror or type(error).__name__}")


def _certificates(pem: bytes, path: Path, variable: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise _TlsFileError(f"{variable}: {path} holds no certificate (PEM)") from error


def _uris(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        # ValueError: an extension that cannot be read names nobody.
        return ()
    return tuple(names.get_values_for_type(x509.UniformResourceIdentifier))
