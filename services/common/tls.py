"""TLS of one platform: its certificate, its key and the authorities, kept up to date with their files, and which
addresses go without. gRPC speaks TLS 1.2 and 1.3 and nothing older.
"""

import ipaddress
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol
from weakref import WeakValueDictionary

import grpc
import structlog

from services.common.settings import SettingsError
from services.common.tls_files import (
    CA_VARIABLE,
    CERTIFICATE_VARIABLE,
    KEY_VARIABLE,
    TlsBundle,
    TlsFileError,
    TlsFiles,
    read_authorities,
    read_bundle,
    stamp_of,
)

PLAINTEXT_VARIABLE: Final = "ZHICHAO_PLAINTEXT_LOOPBACK"

FILE_CHECK_SECONDS: Final = 1.0
"""The files are looked at at most this often: three calls of `stat`, and a new certificate is used within a second."""

_SECONDS_PER_DAY: Final = 24 * 3600

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
            self._bundle = read_authorities(path, setting)
        except TlsFileError as error:
            raise SettingsError(str(error)) from error

    def current(self) -> TlsBundle:
        """Return the authorities."""
        return self._bundle


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
            self._stamp = stamp_of(files)
            self._bundle = read_bundle(self._files, self._required_uri)
        except TlsFileError as error:
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
            stamp = stamp_of(self._files)
            if stamp == self._stamp:
                return
            bundle = read_bundle(self._files, self._required_uri)
            if complaint := self._complaint_about_dates(bundle):
                raise TlsFileError(complaint)
        except TlsFileError as error:
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

    def _complaint_about_dates(self, bundle: TlsBundle) -> str:
        now = datetime.fromtimestamp(self._now(), UTC)
        if now < bundle.begins_at:
            return f"{CERTIFICATE_VARIABLE}: the certificate is valid from {bundle.begins_at:%Y-%m-%d %H:%M} UTC only"
        if now > bundle.ends_at:
            return f"{CERTIFICATE_VARIABLE}: the certificate has ended at {bundle.ends_at:%Y-%m-%d %H:%M} UTC"
        return ""


# Those of this process that somebody holds: its servers and channels look at the same files once, and tell once.
_in_use: WeakValueDictionary[tuple[TlsFiles, str], Tls] = WeakValueDictionary()
_in_use_guard = threading.Lock()


def _shared(files: TlsFiles, required_uri: str) -> Tls:
    with _in_use_guard:
        tls = _in_use.get((files, required_uri))
        if tls is None:
            tls = _in_use[files, required_uri] = Tls(files, required_uri=required_uri)
        return tls


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
        error only where somebody needs it. Who names the same files in one process gets the same Tls.
        """
        named = {
            CERTIFICATE_VARIABLE: settings.tls_certificate_file,
            KEY_VARIABLE: settings.tls_key_file,
            CA_VARIABLE: settings.tls_ca_file,
        }
        certificate, key, ca = named.values()
        tls = None
        if certificate is not None and key is not None and ca is not None:
            tls = _shared(TlsFiles(certificate, key, ca), required_uri)
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
