"""What `zhichao up` was asked for, checked before anything starts, and the ways in which it may end."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Literal

from cli.platform_layout import SERVICES, is_loopback, join

PLATFORM_CODE = re.compile(r"[0-9]{6}")

# Variables of the services that `up` reads itself.
SIGNING_KEY_VARIABLE = "ZHICHAO_SIGNING_KEY_FILE"
SECRETS_DIRECTORY_VARIABLE = "ZHICHAO_SECRETS_DIR"
PLAINTEXT_VARIABLE = "ZHICHAO_PLAINTEXT_LOOPBACK"
TRUST_DOMAIN_VARIABLE = "ZHICHAO_TRUST_DOMAIN"
# As the services have it (services.common.settings).
TRUST_DOMAIN_DEFAULT = "zhichao"
TLS_VARIABLES = ("ZHICHAO_TLS_CERTIFICATE_FILE", "ZHICHAO_TLS_KEY_FILE", "ZHICHAO_TLS_CA_FILE")
# As `zhichao pki issue` and cert-manager name them, in the order of the variables.
TLS_FILES = ("tls.crt", "tls.key", "ca.crt")
# As pydantic reads a setting that is true.
_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
GRACE_VARIABLE = "ZHICHAO_STOP_GRACE_SECONDS"

# What services take for running calls unless told (services.common.settings), and beyond it: they allow themselves
# 5 seconds to close (services.common.lifecycle), and a busy machine takes a little longer.
GRACE_SECONDS_DEFAULT = 20.0
GRACE_MARGIN_SECONDS = 10.0


class ExitCode(IntEnum):
    """How `zhichao up` ended; part of its interface, so numbers keep their meaning."""

    STOPPED = 0
    UNEXPECTED = 1
    USAGE = 2
    DATA_DIRECTORY = 3
    PORT_TAKEN = 4
    DATABASE = 5
    SERVICE = 6
    DRAIN_OVERRUN = 7


class UpError(Exception):
    """A start that cannot succeed, with what to do about it and the exit code that tells a script."""

    def __init__(self, exit_code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class UpOptions:
    """The options of one `zhichao up`, after the checks of `check`."""

    platform: str
    data_directory: Path
    services: tuple[str, ...]
    upstream: str
    listen: str
    base_port: int
    tls_directory: Path | None
    issues_credentials: bool
    is_split: bool
    log_format: Literal["console", "json"]
    ready_file: Path | None
    postgres_binaries: Path | None
    postgres_account: str | None
    watches_input: bool
    environment: Mapping[str, str]

    @property
    def drain_seconds(self) -> float:
        """How long services may take to stop before they are killed: longer than they allow themselves."""
        return _drain_seconds(self.given(GRACE_VARIABLE))

    @property
    def is_plaintext(self) -> bool:
        """Whether the services speak plain text: where nobody else can listen in, and none asks for certificates."""
        return is_loopback(self.listen) and not self.services_with_certificates

    @property
    def services_with_certificates(self) -> tuple[str, ...]:
        """The services that ask their callers for a certificate."""
        return tuple(
            name
            for name in self.services
            if (self.given(f"ZHICHAO_{name.upper()}_REQUIRE_CLIENT_CERTIFICATE") or "").lower() in _TRUE
        )

    def tls_files(self) -> Mapping[str, str]:
        """Return the certificate, key and authorities by their variables; empty when there are none."""
        if self.tls_directory is not None:
            return {
                variable: str(self.tls_directory / name)
                for variable, name in zip(TLS_VARIABLES, TLS_FILES, strict=True)
            }
        given = {variable: value for variable in TLS_VARIABLES if (value := self.given(variable))}
        return given if len(given) == len(TLS_VARIABLES) else {}

    def given(self, variable: str) -> str | None:
        """Return a setting of the services that was given as a variable or in the secrets directory."""
        if value := self.environment.get(variable):
            return value
        directory = self.environment.get(SECRETS_DIRECTORY_VARIABLE)
        if directory and (secret := Path(directory) / variable.lower()).is_file():
            return secret.read_text("utf-8").strip()
        return None


def _drain_seconds(grace: str | None) -> float:
    try:
        return float(grace or GRACE_SECONDS_DEFAULT) + GRACE_MARGIN_SECONDS
    except ValueError:
        # The services refuse it with a better message.
        return GRACE_SECONDS_DEFAULT + GRACE_MARGIN_SECONDS


def database_variable(service: str) -> str:
    """Return the variable with the database URL of a service."""
    return f"ZHICHAO_{service.upper()}_DATABASE_URL"


def address_variable(caller: str, called: str) -> str:
    """Return the variable that tells one service where another one is."""
    return f"ZHICHAO_{caller.upper()}_{called.upper()}_ADDRESS"


def parse_services(text: str) -> tuple[str, ...]:
    """Read a list of services separated by commas; ValueError names the one that is unknown."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [name for name in names if name not in SERVICES]
    if unknown or not names:
        raise ValueError(f"{', '.join(unknown) or 'nothing'}: choose from {', '.join(SERVICES)} 未知的服务")
    # Called services first: a start in this order needs no waiting.
    return tuple(name for name in SERVICES if name in names)


def check(options: UpOptions) -> None:
    """Raise UpError for options that are understood but cannot work together."""
    if PLATFORM_CODE.fullmatch(options.platform) is None:
        raise UpError(
            ExitCode.USAGE,
            f"--platform {options.platform}: give the six-digit division code, like 141025 请给出六位行政区划代码",
        )
    for caller in options.services:
        for needed in SERVICES[caller].needs:
            variable = address_variable(caller, needed)
            if needed not in options.services and not options.given(variable):
                raise UpError(
                    ExitCode.USAGE,
                    f"{caller} needs {needed}: add it to --services, or say in {variable} where it is 缺少所依赖的服务",
                )
    if options.upstream:
        if "relay" not in options.services:
            raise UpError(
                ExitCode.USAGE,
                "--upstream needs the service relay: add it to --services 接入上级需要转发服务, 请加入 --services",
            )
        host, _, port = options.upstream.rpartition(":")
        if not host or not port.isdecimal():
            raise UpError(
                ExitCode.USAGE, f"--upstream {options.upstream}: give host:port, like 127.0.0.1:7807 请写成 主机:端口"
            )
    # Last: who wrote an address wrongly should not make certificates for it first.
    _check_certificates(options)


def _check_certificates(options: UpOptions) -> None:
    host = options.listen
    try:
        is_reached_by_others = not is_loopback(host)
    except ValueError:
        raise UpError(
            ExitCode.USAGE, f"--listen {host}: give an IP address of this machine 请给出本机的 IP 地址"
        ) from None
    files = options.tls_files()
    for path in map(Path, files.values()):
        if not path.is_file():
            raise UpError(
                ExitCode.USAGE,
                f"there is no file {path}: `zhichao pki issue --out DIR` makes all three"
                " 文件不存在, 可用 `zhichao pki issue --out DIR` 生成",
            )
    _check_contents(options, files)
    if is_reached_by_others and not files:
        raise UpError(
            ExitCode.USAGE,
            f"--listen {host} lets other machines in, which takes TLS: give --tls DIR with {', '.join(TLS_FILES)}"
            " 其他机器可访问的地址须使用 TLS, 请用 --tls 指定证书目录",
        )
    if options.services_with_certificates and not files:
        raise UpError(
            ExitCode.USAGE,
            f"{', '.join(options.services_with_certificates)} asks for certificates, which takes TLS: give --tls DIR "
            f"with {', '.join(TLS_FILES)}"
            " 要求客户端证书须使用 TLS, 请用 --tls 指定证书目录",
        )
    if options.upstream and not files:
        raise UpError(
            ExitCode.USAGE,
            "--upstream takes a certificate of this platform: give --tls DIR with "
            f"{', '.join(TLS_FILES)}, as `zhichao pki issue` makes them"
            " 接入上级需要本平台证书, 请用 --tls 指定证书目录",
        )


def _check_contents(options: UpOptions, files: Mapping[str, str]) -> None:
    """Refuse what the services would refuse, before databases are made for it. Dates are theirs to judge."""
    from services.common.access.certificates import platform_id
    from services.common.tls_files import TlsFileError, TlsFiles, read_bundle

    if not files:
        return
    domain = options.given(TRUST_DOMAIN_VARIABLE) or TRUST_DOMAIN_DEFAULT
    # Only the relay is known to other platforms by it.
    wanted = platform_id(domain, options.platform) if "relay" in options.services else ""
    certificate, key, authorities = (Path(files[variable]) for variable in TLS_VARIABLES)
    try:
        read_bundle(TlsFiles(certificate, key, authorities), wanted)
    except TlsFileError as error:
        raise UpError(
            ExitCode.USAGE,
            f"{error}; `zhichao pki show {certificate}` shows what it holds 证书不可用, 请用 `zhichao pki show` 核对",
        ) from error


def service_environment(
    options: UpOptions,
    *,
    listens: Mapping[str, tuple[str, str]],
    locals_: Mapping[str, str],
    database_urls: Mapping[str, str],
    signing_key_file: Path,
    secrets: Mapping[str, str],
    peer_listen: str,
) -> dict[str, str]:
    """Make the environment of the service processes: what was given to us, and the platform's own settings over it.

    `listens` has the gRPC and the health address of each service, `locals_` where its neighbours reach it, `secrets`
    the settings that name files with secrets. `peer_listen` is where relays of lower platforms dial in; empty for
    nowhere.
    """
    result = dict(options.environment)
    result.update(
        ZHICHAO_PLATFORM=options.platform,
        ZHICHAO_SIGNING_KEY_FILE=str(signing_key_file),
        ZHICHAO_LOG_FORMAT=options.log_format,
        ZHICHAO_PLAINTEXT_LOOPBACK=str(options.is_plaintext).lower(),
        PYTHONPATH=os.pathsep.join(_import_path(options.environment)),
    )
    for name, (listen, health) in listens.items():
        result[f"ZHICHAO_{name.upper()}_LISTEN"] = listen
        result[f"ZHICHAO_{name.upper()}_HEALTH_LISTEN"] = health
        for called in SERVICES[name].calls:
            if called in locals_:
                result[address_variable(name, called)] = locals_[called]
    for name, url in database_urls.items():
        result[database_variable(name)] = url
    result |= {**options.tls_files(), **secrets}
    result["ZHICHAO_RELAY_UPSTREAM"] = options.upstream
    result["ZHICHAO_RELAY_PEER_LISTEN"] = peer_listen
    return result


def _import_path(environment: Mapping[str, str]) -> Sequence[str]:
    # Services run with `python -P`, so that a directory called `services` where somebody works is not taken for ours;
    # a checkout that was not installed is found by this.
    root = Path(__file__).resolve().parent.parent
    given = environment.get("PYTHONPATH", "")
    return [str(root), str(root / "gen"), *(part for part in given.split(os.pathsep) if part)]


def describe_address(host: str, port: int, service: str, flag: str) -> str:
    """Say which port is meant, for whom, and where it comes from."""
    return f"{join(host, port)} ({service}, from {flag})"
