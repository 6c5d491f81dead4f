"""Settings from environment variables, or from one file per variable (`ZHICHAO_SECRETS_DIR`), read once at start-up and
frozen. Nothing else reads the environment.
"""

import os
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import AfterValidator, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

PREFIX = "ZHICHAO_"
# One file per variable, named like it in lower case, as Kubernetes mounts a Secret.
SECRETS_DIR_VARIABLE = "ZHICHAO_SECRETS_DIR"

REMOVED: Mapping[str, str] = {
    "ZHICHAO_ALLOW_PLAINTEXT_NETWORK": "addresses that other machines reach take TLS since 0.2.0: "
    "docs/operate/upgrade.md",
}
"""Settings of former releases, and what is there instead: whoever relied on one has to hear of it."""

SIMILARITY_MIN = 0.75
"""How much of a misspelt name, without the prefix, is that of a setting. Slips and other abbreviations have 0.78 and
more; other names of this project, such as ZHICHAO_TOKEN_FILE of the commands, up to 0.73."""

MASK = "***"
_DATABASE_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")


class SettingsError(Exception):
    """A setting is missing or not usable; the text names the variable and what it accepts, never a secret value."""


def _database_url(value: str) -> str:
    scheme, separator, _ = value.partition("://")
    if not separator or scheme not in _DATABASE_SCHEMES:
        raise ValueError("must be a PostgreSQL URL like postgresql://user@localhost:5432/database")
    return value


def _address(value: str) -> str:
    if value.startswith("unix:"):
        if value.removeprefix("unix:").lstrip("/"):
            return value
    elif (port := value.rpartition(":")[2]).isdecimal() and value.rpartition(":")[0] and int(port) <= 65535:
        return value
    raise ValueError("must be host:port like 127.0.0.1:7702, or unix:/path/to/socket")


def _host_and_port(value: str) -> str:
    if value.startswith("unix:"):
        raise ValueError("must be host:port like 127.0.0.1:7722")
    return _address(value)


def _collector_url(value: str) -> str:
    scheme, _, address = value.partition("://")
    if scheme not in ("http", "https") or address.startswith("unix:"):
        raise ValueError("must be http://host:port or https://host:port like http://127.0.0.1:4317")
    return f"{scheme}://{_address(address)}"


# URL of a service's own database; it may hold a password and is masked when settings are printed.
DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
# Where a gRPC server listens or is reached.
Address = Annotated[str, AfterValidator(_address)]
# Where something listens that is reached by TCP only.
HostAndPort = Annotated[str, AfterValidator(_host_and_port)]
# Where traces go; the scheme says whether through TLS.
CollectorUrl = Annotated[str, AfterValidator(_collector_url)]
# Where a service's figures are served.
MetricsListen = Annotated[
    HostAndPort | None, Field(description="host:port where Prometheus finds the metrics in plain HTTP; unset: nowhere")
]


class Settings(BaseSettings):
    """Base of every group of settings: frozen, one prefix, read with `load()`."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take only what `load()` read: no .env file, and nothing from the process environment behind a test's back."""
        return (init_settings,)


class PlatformSettings(Settings):
    """What all services of a platform share."""

    model_config = SettingsConfigDict(env_prefix=PREFIX)

    platform: Annotated[str, Field(pattern=r"^[0-9]{6}$", description="the six-digit division code of this platform")]
    signing_key_file: Annotated[
        Path | None, Field(description="file with the Ed25519 private key (PEM) that signs this platform's journals")
    ] = None
    journal_digest: Annotated[
        Literal["sha256", "sm3"],
        Field(description="digest of journals that begin now; a log keeps the one it began with"),
    ] = "sha256"
    log_format: Annotated[Literal["json", "console"], Field(description="how log lines look")] = "json"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="the least level that is logged")
    ] = "info"
    trust_domain: Annotated[
        str,
        Field(
            # The characters and the length that SPIFFE allows a trust domain.
            pattern=r"^[a-z0-9._-]{1,255}$",
            description="the trust domain of platforms' certificates: the host part of their spiffe:// names",
        ),
    ] = "zhichao"
    tls_certificate_file: Annotated[
        Path | None, Field(description="file with this platform's certificate and its chain (PEM)")
    ] = None
    tls_key_file: Annotated[Path | None, Field(description="file with the private key of the certificate (PEM)")] = None
    tls_ca_file: Annotated[
        Path | None,
        Field(description="file with the certificates (PEM) of the authorities that peers are held against"),
    ] = None
    plaintext_loopback: Annotated[
        bool,
        Field(description="whether gRPC goes without TLS, which only loopback addresses and unix sockets may do"),
    ] = False
    service_token_file: Annotated[
        Path | None,
        Field(
            description="file with the secret that this platform's services know each other by, one a line: the first "
            "is sent, all are accepted"
        ),
    ] = None
    # An hour bridges a restart of the registry's machine; a revoked credential opens nothing for longer than that.
    credentials_stale_seconds: Annotated[
        float,
        Field(
            gt=0,
            le=7 * 24 * 3600,
            description="how long credentials are accepted while the registry cannot be asked about them",
        ),
    ] = 3600.0
    traces_endpoint: Annotated[
        CollectorUrl | None,
        Field(
            description="http://host:port or https://host:port of a collector of traces (OTLP over gRPC); unset: none"
        ),
    ] = None
    # One weighing in a hundred shows how the way up works; a heavy county traces some of them a minute then.
    traces_ratio: Annotated[
        float, Field(ge=0, le=1, description="the share of calls that begin a trace, where their callers do not say")
    ] = 0.01
    auto_migrate: Annotated[
        bool, Field(description="whether a service brings its schema up to date when it starts, or only checks it")
    ] = True
    recovering: Annotated[
        bool,
        Field(
            description="whether the databases were restored from a backup: nothing new is written until they were "
            "compared with what the platform above holds"
        ),
    ] = False
    # Kubernetes kills 30 seconds after SIGTERM; this leaves room to close the database.
    stop_grace_seconds: Annotated[
        float, Field(gt=0, le=3600, description="how long running calls may take to finish at a stop")
    ] = 20.0


class SchemaSettings(Settings):
    """What is needed of a service to bring its schema up to date: no more, so that a job need not be given more."""

    database_url: Annotated[
        DatabaseUrl, Field(repr=False, description="a PostgreSQL URL of this service's own database")
    ]
    runtime_role: Annotated[
        str | None,
        Field(
            # PostgreSQL cuts longer names.
            pattern=r"^[a-z_][a-z0-9_-]{0,62}$",
            description="the database role that the service runs with, when `python -m services migrate` runs with "
            "another one, which owns the tables; it is granted what the service needs",
        ),
    ] = None


class ServiceSettings(SchemaSettings):
    """What each service has for itself. A service derives its own class with `env_prefix="ZHICHAO_<SERVICE>_"`."""

    listen: Annotated[Address, Field(description="host:port or unix:/path where gRPC listens")]
    health_listen: Annotated[
        Address | None, Field(description="host:port of a plain-text port that answers health checks only")
    ] = None
    metrics_listen: MetricsListen = None
    require_client_certificate: Annotated[
        bool, Field(description="whether callers need a certificate of a CA in ZHICHAO_TLS_CA_FILE besides a token")
    ] = False
    # Two cores serve unary calls of half a millisecond; threads above that wait for the database.
    threads: Annotated[int, Field(ge=2, le=512, description="unary calls that are worked on at once")] = 16
    # A county has some hundreds of sites, each with one open stream; a thread that waits costs some 100 kB.
    streams_max: Annotated[int, Field(ge=1, le=10_000, description="streams that may be open at once")] = 512
    database_pool_size: Annotated[int, Field(ge=2, le=200, description="database connections that are kept open")] = 10


AnySettings = TypeVar("AnySettings", bound=BaseSettings)


@cache
def schema_settings(service: type[ServiceSettings]) -> type[SchemaSettings]:
    """Return the group with what is needed for a service's schema, by the same names as in the service's own group."""
    prefix = service.model_config.get("env_prefix", "")
    return type(
        f"{service.__name__}OfSchema", (SchemaSettings,), {"model_config": SettingsConfigDict(env_prefix=prefix)}
    )


def load(cls: type[AnySettings], environment: Mapping[str, str] | None = None) -> AnySettings:
    """Read one group of settings from the environment and the secrets directory.

    A variable beats a file. Raises SettingsError with one line per bad setting. `environment` may be given in tests.
    """
    variables = os.environ if environment is None else environment
    values, problems = _values(cls, variables)
    try:
        # Through `Any`: to the type checker the fields could be options of pydantic-settings.
        result = cls(**cast("dict[str, Any]", values))
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            name = str(detail["loc"][0]) if detail["loc"] else ""
            problems.append(_problem(cls, name, detail["type"], detail["msg"]))
        result = None
    if problems or result is None:
        raise SettingsError("\n".join(problems))
    return result


def variable_name(cls: type[BaseSettings], field: str) -> str:
    """Return the name of the environment variable of a setting."""
    return (cls.model_config.get("env_prefix", "") + field).upper()


def effective(settings: Sequence[BaseSettings]) -> list[tuple[str, str]]:
    """List every setting with the value in force, by variable name; passwords are masked."""
    rows = []
    for group in settings:
        for field in type(group).model_fields:
            name = variable_name(type(group), field)
            rows.append((name, masked(name, getattr(group, field))))
    return rows


def check_config(
    classes: Sequence[type[BaseSettings]], environment: Mapping[str, str] | None = None
) -> tuple[bool, str]:
    """Read the groups of settings and describe them, for `--check-config`: whether all is well, and the text to print.

    Variables with our prefix that no group reads are listed with the name that was probably meant.
    """
    variables = os.environ if environment is None else environment
    groups, problems = [], []
    for cls in classes:
        try:
            groups.append(load(cls, variables))
        except SettingsError as error:
            problems.append(str(error))
    if problems:
        return False, "\n".join(problems)
    lines = [f"{name}={value}" for name, value in effective(groups)]
    known = [variable_name(cls, field) for cls in classes for field in cls.model_fields]
    unused = (name for name in sorted(variables) if name.startswith(PREFIX) and name not in known)
    lines += [f"# {name} {_why_unused(name, known)}" for name in unused if name != SECRETS_DIR_VARIABLE]
    return True, "\n".join(lines)


def _why_unused(name: str, known: Sequence[str]) -> str:
    if name in REMOVED:
        return f"is gone; {REMOVED[name]}"
    names = [one.removeprefix(PREFIX) for one in known]
    meant = get_close_matches(name.removeprefix(PREFIX), names, n=1, cutoff=SIMILARITY_MIN)
    return "is not used here" + (f"; did you mean {PREFIX}{meant[0]}?" if meant else "")


def masked(name: str, value: Any) -> str:
    """Show a value without what is secret in it: the password of a URL, and all of a value named like a secret."""
    text = "" if value is None else str(value)
    lower = name.lower()
    if lower.endswith("_url"):
        text = re.sub(r"(//[^/@:]*):[^@/]*@", rf"\1:{MASK}@", text)
        return re.sub(r"(?i)([?&](?:password|sslpassword)=)[^&]*", rf"\1{MASK}", text)
    # Where a secret is kept is none itself, and a wrong path has to be seen.
    if text and not lower.endswith("_file") and any(part in lower for part in ("password", "secret", "token")):
        return MASK
    return text.lower() if isinstance(value, bool) else text


def _values(cls: type[BaseSettings], variables: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    directory = variables.get(SECRETS_DIR_VARIABLE)
    if directory and not Path(directory).is_dir():
        return {}, [f"{SECRETS_DIR_VARIABLE}: {directory} is not a directory; name one with a file for each secret"]
    values: dict[str, str] = {}
    problems: list[str] = []
    for field in cls.model_fields:
        name = variable_name(cls, field)
        if variables.get(name):
            values[field] = variables[name]
        elif directory and (file := Path(directory) / name.lower()).is_file():
            try:
                values[field] = file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                problems.append(f"{name}: {file} cannot be read: {type(error).__name__}")
    return values, problems


def _problem(cls: type[BaseSettings], field: str, kind: str, message: str) -> str:
    info: FieldInfo | None = cls.model_fields.get(field)
    accepted = f"; it is {info.description}" if info is not None and info.description else ""
    name = variable_name(cls, field)
    if kind == "missing":
        return f"{name} is not set{accepted}"
    return f"{name}: {message.removeprefix('Value error, ')}{accepted}"
