"""One run of a platform, from the lock on its data directory to the last process it stops."""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import structlog

from cli import platform_state, up_credentials, up_secrets, up_signing_key
from cli.platform_layout import (
    LOOPBACK,
    OBJECT_SERVER_OFFSET,
    PEER_OFFSET,
    RESERVATION_OFFSET,
    SERVICES,
    PlatformFiles,
    ServiceAddresses,
    addresses,
    is_free,
    join,
    reserve,
    reserve_any,
)
from cli.platform_state import DataLock, DirectoryHeldError, PlatformState, StateFile
from cli.postgres import EmbeddedPostgres, PostgresError
from cli.up_children import Child, Children, ServiceEndedError, end_left_over
from cli.up_health import HealthChecks
from cli.up_object_server import OwnStore, is_wanted
from cli.up_options import (
    SIGNING_KEY_VARIABLE,
    TLS_VARIABLES,
    ExitCode,
    UpError,
    UpOptions,
    check,
    database_variable,
    describe_address,
    service_environment,
)
from cli.up_secrets import BOOTSTRAP_TOKEN_VARIABLE, SERVICE_TOKEN_VARIABLE, PlatformSecrets
from cli.up_signals import StopRequestedError, StopSignals

log = structlog.get_logger()

# `-P`: a directory called `services` where somebody happens to work is not taken for ours.
SERVICES_COMMAND: Sequence[str] = (sys.executable, "-P", "-m", "services")

# Services start in seconds; a machine that is busy, or a journal that is checked at start, takes longer.
SERVING_SECONDS_MAX = 120.0
# How often services that are still starting are asked: short against a start.
HEALTH_POLL_SECONDS = 0.05
# A database server that was given by URL may be starting at the same time, as after a power cut.
REACHABLE_SECONDS_MAX = 30.0
# How often the state file is brought up to date with the database server, which restarts without telling.
STATE_POLL_SECONDS = 1.0


class PlatformRun:
    """Runs a platform until a signal; `on_serving` is called once, when every service says it serves."""

    def __init__(self, options: UpOptions, on_serving: Callable[[PlatformState], None]) -> None:
        self._options = options
        self._on_serving = on_serving
        self._files = PlatformFiles(options.data_directory.absolute())
        self._postgres: EmbeddedPostgres | None = None
        self._own_store = OwnStore(options, self._files)
        self._is_drained = True

    def run(self) -> ExitCode:
        """Start, supervise, stop. Raises UpError when the start is refused or fails; nothing keeps running then."""
        check(self._options)
        with StopSignals(watches_input=self._options.watches_input) as signals, ExitStack() as stack:
            try:
                self._start_and_supervise(signals, stack)
            except StopRequestedError:
                log.info("start_interrupted", reason=signals.reason)
            except ServiceEndedError as error:
                raise UpError(ExitCode.SERVICE, str(error)) from error
            except PostgresError as error:
                raise UpError(ExitCode.DATABASE, str(error)) from error
        return ExitCode.STOPPED if self._is_drained else ExitCode.DRAIN_OVERRUN

    def _start_and_supervise(self, signals: StopSignals, stack: ExitStack) -> None:
        state_file = self._hold_directory(stack)
        found = self._reserve_ports(stack)
        key_file = self._signing_key_file()
        secrets = self._secrets()
        tls_files = self._options.tls_files()
        has_peers = bool(tls_files) and "relay" in self._options.services
        state_file.update(
            listen=self._options.listen,
            base_port=self._base_port,
            addresses={name: place.local for name, place in found.items()},
            health_addresses={name: place.health for name, place in found.items()},
            signing_key_file=str(key_file),
            peer_address=self._peer_address() if has_peers else "",
            **self._caller_files(tls_files),
        )
        with signals.interrupting():
            database_urls = self._start_databases(stack, state_file)
            self._upgrade(database_urls)
            self._ensure_signing_key(key_file, database_urls)
            self._start_object_server(stack, state_file)
        children = self._make_children(found, database_urls, key_file, secrets, state_file)
        stack.callback(self._stop_children, children, signals, state_file)
        children.start()
        if self._wait_until_serving(children, signals, state_file):
            self._issue_credentials(state_file.state, secrets)
            self._announce(state_file, stack)
        while not signals.is_requested:
            due_seconds = children.tend()
            self._note_servers(state_file)
            signals.wait(STATE_POLL_SECONDS if due_seconds is None else min(due_seconds, STATE_POLL_SECONDS))
        log.info("stop_requested", reason=signals.reason)

    # Stages of the start, each undone by the stack

    def _hold_directory(self, stack: ExitStack) -> StateFile:
        directory = self._files.directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
            lock = DataLock(self._files)
            lock.acquire()
        except DirectoryHeldError as error:
            raise UpError(ExitCode.DATA_DIRECTORY, str(error)) from error
        except OSError as error:
            raise UpError(
                ExitCode.DATA_DIRECTORY, f"{directory} cannot be used: {error.strerror} 无法使用该目录"
            ) from error
        stack.callback(lock.release)
        try:
            before = platform_state.read(directory)
        except (ValueError, OSError) as error:
            raise UpError(
                ExitCode.DATA_DIRECTORY, f"{self._files.state} cannot be read: {error} 无法读取平台状态文件"
            ) from error
        if before is not None and before.platform != self._options.platform:
            raise UpError(
                ExitCode.DATA_DIRECTORY,
                f"{directory} holds platform {before.platform}, not {self._options.platform}: "
                "name another directory with --data"
                " 该目录属于其他平台, 请用 --data 指定其他目录",
            )
        if before is not None:
            end_left_over(before.processes)
        if self._options.ready_file is not None:
            self._options.ready_file.unlink(missing_ok=True)
        state = PlatformState(
            platform=self._options.platform,
            phase="starting",
            pid=os.getpid(),
            data_directory=str(directory),
            upstream=self._options.upstream,
        )
        try:
            state_file = StateFile(self._files.state, state)
        except OSError as error:
            raise UpError(
                ExitCode.DATA_DIRECTORY, f"{directory} cannot be written: {error.strerror} 无法写入该目录"
            ) from error
        stack.callback(state_file.update, phase="stopped", processes={}, postgres_pid=None, object_server_pid=None)
        return state_file

    def _reserve_ports(self, stack: ExitStack) -> dict[str, ServiceAddresses]:
        host = self._options.listen
        try:
            if self._options.base_port == 0:
                self._base_port, reservation = reserve_any(host)
            else:
                self._base_port = self._options.base_port
                reservation = reserve(self._base_port)
        except OSError as error:
            if self._options.base_port == 0:
                raise UpError(ExitCode.PORT_TAKEN, f"--port 0 on {host}: {error} 找不到空闲端口") from None
            port = self._options.base_port + RESERVATION_OFFSET
            place = describe_address(LOOPBACK, port, "reserved for the platform", "--port")
            raise UpError(
                ExitCode.PORT_TAKEN,
                f"{place} is taken, probably by another platform: choose another --port"
                " 端口被占用, 可能已有其他平台, 请换 --port",
            ) from None
        stack.callback(reservation.close)
        found = addresses(self._options.services, host, self._base_port)
        wanted = [
            (where, port, name)
            for name, place in found.items()
            for where, port, name in ((host, place.port, name), (LOOPBACK, place.health_port, f"{name} health"))
        ]
        if self._options.tls_files():
            wanted.append((host, self._base_port + PEER_OFFSET, "lower platforms"))
        if is_wanted(self._options):
            wanted.append((LOOPBACK, self._base_port + OBJECT_SERVER_OFFSET, "evidence store"))
        taken = [
            describe_address(where, port, name, f"--port {self._base_port}")
            for where, port, name in wanted
            if not is_free(where, port)
        ]
        if taken:
            raise UpError(
                ExitCode.PORT_TAKEN,
                f"taken by another program, or not an address of this machine: {'; '.join(taken)}. "
                "Choose another --port, or stop what listens there"
                " 端口被占用或地址不属于本机, 请换 --port 或停止占用者",
            )
        return found

    def _signing_key_file(self) -> Path:
        given = self._options.given(SIGNING_KEY_VARIABLE)
        path = Path(given).absolute() if given else self._files.signing_key
        if given and not path.exists():
            # Somebody keeps their keys elsewhere and that place is not there now: a new key would be a wrong one.
            raise UpError(ExitCode.USAGE, f"{SIGNING_KEY_VARIABLE}: there is no file {path} 签名密钥文件不存在")
        return path

    def _ensure_signing_key(self, path: Path, database_urls: Mapping[str, str]) -> None:
        # Here, because a command that only shows its help should not wait for psycopg.
        from cli.own_logs_database import OwnLogsError, any_begun

        try:
            is_lost = not path.exists() and any_begun(database_urls.values())
        except OwnLogsError as error:
            raise UpError(ExitCode.DATABASE, str(error)) from error
        if is_lost:
            # As after a restore: the logs began with a key, and a new one is not it.
            raise UpError(
                ExitCode.DATA_DIRECTORY,
                f"{path} is not there, and the platform's logs began with that key: put keys/ and secrets/ back from "
                "where they are kept 签名密钥缺失, 请先放回原密钥与令牌 (keys/、secrets/)",
            )
        try:
            up_signing_key.ensure(path)
        except up_signing_key.SigningKeyError as error:
            raise UpError(ExitCode.DATA_DIRECTORY, str(error)) from error

    def _secrets(self) -> PlatformSecrets:
        given = {
            variable: self._options.given(variable) for variable in (SERVICE_TOKEN_VARIABLE, BOOTSTRAP_TOKEN_VARIABLE)
        }
        try:
            return up_secrets.ensure(self._files, given)
        except up_secrets.SecretsError as error:
            raise UpError(ExitCode.DATA_DIRECTORY, str(error)) from error

    def _caller_files(self, tls_files: Mapping[str, str]) -> Mapping[str, str]:
        """Return what somebody on this machine reaches the services by; nothing where they speak plain text."""
        if self._options.is_plaintext:
            return {}
        certificate, key, ca = (str(Path(tls_files[variable]).absolute()) for variable in TLS_VARIABLES)
        return {"ca_file": ca, "certificate_file": certificate, "key_file": key}

    def _peer_address(self) -> str:
        return join(self._options.listen, self._base_port + PEER_OFFSET)

    def _issue_credentials(self, state: PlatformState, secrets: PlatformSecrets) -> None:
        from cli.caller_tls import CallerTlsError
        from cli.status_targets import tls_of
        from services.common.access.tokens import bearer
        from services.common.rpc_client import connect

        address = state.addresses.get("registry")
        if not self._options.issues_credentials or address is None:
            return
        try:
            tls = tls_of(state).load()
            up_credentials.ensure(
                self._options.platform,
                self._files.secrets,
                secrets.bootstrap_token,
                lambda token: connect(address, tls=tls, credentials=lambda: bearer(token)),
            )
        except (CallerTlsError, up_credentials.LocalCredentialsError) as error:
            raise UpError(ExitCode.SERVICE, str(error)) from error

    def _start_databases(self, stack: ExitStack, state_file: StateFile) -> dict[str, str]:
        with_database = [name for name in self._options.services if SERVICES[name].has_database]
        urls = {name: url for name in with_database if (url := self._options.given(database_variable(name)))}
        embedded = [name for name in with_database if name not in urls]
        if embedded:
            self._postgres = postgres = EmbeddedPostgres(
                self._files.postgres,
                databases=embedded,
                binaries=self._options.postgres_binaries,
                account=self._options.postgres_account,
            )
            # Before the start: a start that is interrupted leaves something to stop.
            stack.callback(postgres.stop)
            postgres.start()
            own_urls = {name: postgres.url(name) for name in embedded}
            state_file.update(database_urls=own_urls, postgres_pid=postgres.pid)
            urls |= own_urls
        return urls

    def _start_object_server(self, stack: ExitStack, state_file: StateFile) -> None:
        # Before the start: a start that is interrupted leaves something to stop.
        stack.callback(self._own_store.stop)
        self._own_store.start(self._base_port)
        state_file.update(object_endpoint=self._own_store.endpoint, object_server_pid=self._own_store.pid)

    def _upgrade(self, database_urls: Mapping[str, str]) -> None:
        # Here, because a command that only shows its help should not wait for SQLAlchemy.
        from services.common import database
        from services.common.errors import ServiceError

        for name, url in database_urls.items():
            began = time.monotonic()
            log.info("database_awaited", service=name, seconds_max=REACHABLE_SECONDS_MAX)
            try:
                if not database.wait_until_reachable(url, timeout_seconds=REACHABLE_SECONDS_MAX):
                    raise UpError(ExitCode.DATABASE, f"the database of {name} cannot be reached 无法连接数据库")
                with database.translate_errors():
                    database.upgrade(url, SERVICES[name].migrations_package)
            except (ServiceError, database.SchemaError, ValueError) as error:
                raise UpError(
                    ExitCode.DATABASE, f"the database of {name} cannot be brought up to date: {error} 无法升级数据库"
                ) from error
            log.info("database_upgraded", service=name, seconds=round(time.monotonic() - began, 3))

    def _make_children(
        self,
        found: Mapping[str, ServiceAddresses],
        database_urls: Mapping[str, str],
        key_file: Path,
        secrets: PlatformSecrets,
        state_file: StateFile,
    ) -> Children:
        environment = service_environment(
            self._options,
            listens={name: (place.listen, place.health) for name, place in found.items()},
            locals_={name: place.local for name, place in found.items()},
            database_urls=database_urls,
            signing_key_file=key_file,
            secrets={**secrets.environment(), **self._own_store.environment()},
            peer_listen=state_file.state.peer_address,
        )
        services = self._options.services
        groups = [(name,) for name in services] if self._options.is_split else [services]
        return Children(
            [Child(group, [*SERVICES_COMMAND, *group], environment) for group in groups],
            lambda processes: state_file.update(processes=processes),
        )

    def _wait_until_serving(self, children: Children, signals: StopSignals, state_file: StateFile) -> bool:
        """Wait for the health checks; False when a stop was asked for meanwhile."""
        deadline = time.monotonic() + SERVING_SECONDS_MAX
        with HealthChecks(state_file.state.health_addresses) as checks:
            while missing := checks.not_serving():
                children.check_started()
                if time.monotonic() > deadline:
                    raise UpError(
                        ExitCode.SERVICE,
                        f"{', '.join(missing)} did not serve within {SERVING_SECONDS_MAX:.0f} s 服务未能在时限内就绪",
                    )
                signals.wait(HEALTH_POLL_SECONDS)
                if signals.is_requested:
                    return False
        return True

    def _announce(self, state_file: StateFile, stack: ExitStack) -> None:
        self._note_servers(state_file)
        state_file.update(phase="serving")
        ready_file = self._options.ready_file
        if ready_file is not None:
            try:
                platform_state.write(ready_file, state_file.state)
            except OSError as error:
                raise UpError(
                    ExitCode.USAGE, f"--ready-file {ready_file}: {error.strerror} 无法写入就绪文件"
                ) from error
            stack.callback(ready_file.unlink, missing_ok=True)
        self._on_serving(state_file.state)

    # Running and stopping

    def _note_servers(self, state_file: StateFile) -> None:
        if self._postgres is not None:
            state_file.update(postgres_pid=self._postgres.pid)
        state_file.update(object_server_pid=self._own_store.pid)

    def _stop_children(self, children: Children, signals: StopSignals, state_file: StateFile) -> None:
        state_file.update(phase="stopping")
        self._is_drained = children.stop(signals, drain_seconds=self._options.drain_seconds)
