"""Whose certificates a command trusts, and which one it shows: the options, and the TLS made of the files they name."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from services.common.tls import ClientTls
    from services.common.tls_files import TlsBundle

# The same variables as the services': in a pod, and beside a service, commands show the certificate of the platform.
CA_FILE_VARIABLE: Final = "ZHICHAO_TLS_CA_FILE"
CERTIFICATE_FILE_VARIABLE: Final = "ZHICHAO_TLS_CERTIFICATE_FILE"
KEY_FILE_VARIABLE: Final = "ZHICHAO_TLS_KEY_FILE"

TLS_FILES: Final = ("tls.crt", "tls.key", "ca.crt")
"""What `--tls DIR` holds: the names that `zhichao pki issue`, Kubernetes and cert-manager give to the three files."""

_OPTIONS: Final = {
    CA_FILE_VARIABLE: "--ca",
    CERTIFICATE_FILE_VARIABLE: "--certificate",
    KEY_FILE_VARIABLE: "--certificate-key",
}

Command = TypeVar("Command", bound=Callable[..., Any])

_TLS = click.option(
    "--tls",
    "tls_directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder with tls.crt, tls.key and ca.crt, instead of --ca, --certificate and --certificate-key. 证书目录。",
)
_CA = click.option(
    "--ca",
    "ca_file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar=CA_FILE_VARIABLE,
    show_envvar=True,
    help="Certificates of the authority that the platform's certificate is checked with; TLS is spoken then. "
    "CA 证书文件, 指定后使用 TLS。",
)
_CERTIFICATE = click.option(
    "--certificate",
    "certificate_file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar=CERTIFICATE_FILE_VARIABLE,
    show_envvar=True,
    help="Certificate to show to a service that asks for one. 客户端证书文件。",
)
_KEY = click.option(
    "--certificate-key",
    "key_file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar=KEY_FILE_VARIABLE,
    show_envvar=True,
    help="Private key of the certificate. 客户端证书私钥文件。",
)


class CallerTlsError(Exception):
    """The files cannot be used; the text names the option and the remedy."""


@dataclass(frozen=True, slots=True)
class CallerTls:
    """The files of somebody who calls; without an authority there is no TLS, which is for this machine only."""

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None

    @property
    def has_certificate(self) -> bool:
        """Whether a certificate is shown to who asks."""
        return self.certificate_file is not None

    def over(self, other: "CallerTls") -> "CallerTls":
        """Return these files, and the other's where nothing is named here. Certificate and key belong together."""
        mine = self if self.certificate_file is not None or self.key_file is not None else other
        return CallerTls(self.ca_file or other.ca_file, mine.certificate_file, mine.key_file)

    def load(self, now: datetime | None = None) -> "ClientTls | None":
        """Return the TLS of a channel, read once; None for plain text. Raises CallerTlsError."""
        from services.common.settings import SettingsError
        from services.common.tls import TrustedAuthorities
        from services.common.tls_files import TlsFileError, TlsFiles, read_bundle

        if (self.certificate_file is None) != (self.key_file is None):
            raise CallerTlsError("--certificate goes with --certificate-key: give both 证书与私钥须同时指定")
        if self.ca_file is None:
            if self.certificate_file is None:
                return None
            raise CallerTlsError(
                f"--certificate goes with --ca (or {CA_FILE_VARIABLE}), the authority that the platform's own "
                "certificate is checked with 使用客户端证书须同时指定 CA 证书"
            )
        try:
            if self.certificate_file is None or self.key_file is None:
                return TrustedAuthorities(self.ca_file, "--ca")
            bundle = read_bundle(TlsFiles(self.certificate_file, self.key_file, self.ca_file), "")
        except SettingsError as error:
            raise CallerTlsError(str(error)) from error
        except TlsFileError as error:
            raise CallerTlsError(_by_option(str(error))) from error
        _check_days(bundle, self.certificate_file, now or datetime.now(UTC))
        return _LoadedTls(bundle)


class _LoadedTls:
    """What the files held when they were read: a command ends long before its certificate does."""

    def __init__(self, bundle: "TlsBundle") -> None:
        self._bundle = bundle

    def current(self) -> "TlsBundle":
        """Return it."""
        return self._bundle


def tls_options(command: Command) -> Command:
    """Add `--tls`, `--ca`, `--certificate` and `--certificate-key` to a command, as the arguments of `caller_tls`."""
    return _TLS(_CA(_CERTIFICATE(_KEY(command))))


def caller_tls(
    tls_directory: Path | None, ca_file: Path | None, certificate_file: Path | None, key_file: Path | None
) -> CallerTls:
    """Return the files that the options name; a folder goes before variables. Raises click.UsageError."""
    if tls_directory is None:
        return CallerTls(ca_file, certificate_file, key_file)
    context = click.get_current_context()
    for name, option in (("ca_file", "--ca"), ("certificate_file", "--certificate"), ("key_file", "--certificate-key")):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"give --tls or {option}, not both 两者只能给出一种")
    certificate, key, ca = (tls_directory / name for name in TLS_FILES)
    for file in (certificate, key, ca):
        if not file.is_file():
            raise click.UsageError(
                f"--tls {tls_directory}: there is no file {file}; `zhichao pki issue --out DIR` makes all three, and "
                "with --ca alone no certificate is shown 证书目录缺少该文件"
            )
    return CallerTls(ca, certificate, key)


def without_certificate_hint(tls: CallerTls) -> str:
    """Return what to add when a connection was cut off; empty where a missing certificate cannot be the cause."""
    if tls.ca_file is None or tls.has_certificate:
        return ""
    return (
        "\n  a service that asks for certificates cuts off whoever shows none: name yours with --tls, or --certificate "
        "and --certificate-key 若服务要求客户端证书, 请用 --tls 或 --certificate 与 --certificate-key 指定"
    )


def _by_option(text: str) -> str:
    # The reader of the files speaks to operators of services, who set variables.
    for variable, option in _OPTIONS.items():
        text = text.replace(variable, option)
    return text


def _check_days(bundle: "TlsBundle", path: Path, now: datetime) -> None:
    if now > bundle.ends_at:
        raise CallerTlsError(
            f"--certificate: {path} has ended at {bundle.ends_at:%Y-%m-%d %H:%M} UTC: renew it where it was issued "
            "(`zhichao pki issue … --renew`) 客户端证书已过期, 请更新"
        )
    if now < bundle.begins_at:
        raise CallerTlsError(
            f"--certificate: {path} is valid from {bundle.begins_at:%Y-%m-%d %H:%M} UTC only: look at this machine's "
            "clock 客户端证书尚未生效, 请检查本机时钟"
        )
