"""One `zhichao run` from the first port that is looked at to the last process that ends."""

import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console

from cli import run_check, run_verdict
from cli.access import CallerAccess, open_channel
from cli.pki.authority import PkiError
from cli.platform_process import PlatformProcessError
from cli.run_display import FiguresWatch, RunDisplay
from cli.run_evidence import LevelEvidence, read_ledger, wait_and_read
from cli.run_interrupts import Interrupts
from cli.run_levels import Level, Levels, PortsTakenError, plan
from cli.simulate.credentials import issue_terminals
from cli.simulate.evidence import EvidenceUploads
from cli.simulate.options import TrafficOptions
from cli.simulate.registration import register_below, register_site
from cli.simulate.simulation import Simulation
from cli.simulate.site import Site, make_site
from cli.status_probe import PlatformProbes
from cli.up_options import ExitCode
from cli.verifier.source import CannotLookError
from services.common.clock import SystemClock
from services.common.errors import ServiceError
from zhichao.access.v1.service_pb2_grpc import AccessServiceStub
from zhichao.registry.v1 import service_pb2_grpc

KEPT_DIRECTORY = Path("var/run")
LEDGER = "ledger.jsonl"
EVIDENCE_LEDGER = "evidence.jsonl"

# Terminals answer for everything they weighed: a backlog of an outage is sent within this.
DRAIN_SECONDS = 60.0
WAIT_SECONDS = 0.2

EXIT_DIFFERS = 1


class RunError(Exception):
    """The run cannot begin or go on; the exit code tells a script why."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class RunOptions:
    """What was asked for."""

    records_per_second: float
    # None: until Ctrl-C.
    seconds: float | None
    seed: int
    unit_count: int
    # None: a temporary one, or KEPT_DIRECTORY with `is_kept`.
    data_directory: Path | None
    base_port: int
    is_kept: bool
    sample: int
    traffic: TrafficOptions
    # Of how many weighings one is photographed; 0 for none, and no clips either.
    photo_every: int


@dataclass
class Outcome:
    """How the run went, as far as it came."""

    data_directory: Path
    simulation: Simulation
    seconds: float
    verdict: run_check.Verdict | None = None
    unanswered: int = 0

    @property
    def is_right(self) -> bool:
        """Whether everything was verified."""
        return self.verdict is not None and self.verdict.is_right


class RunSession:
    """Starts, weighs, waits, verifies and stops. Can be run once."""

    def __init__(self, options: RunOptions, console: Console, interrupts: Interrupts, *, is_quiet: bool) -> None:
        self._options = options
        self._console = console
        self._interrupts = interrupts
        self._is_quiet = is_quiet
        # Then the data is kept for whoever looks for the reason.
        self._has_failed = False
        self._tokens: Mapping[str, str] = {}

    def run(self) -> Outcome:
        """Do everything. Raises RunError, KeyboardInterrupt and SystemExit; nothing keeps running then."""
        with ExitStack() as stack:
            try:
                levels_planned = plan(self._options.base_port)
            except PortsTakenError as error:
                raise RunError(ExitCode.PORT_TAKEN, f"{error}; choose another --port 端口被占用") from error
            directory = self._directory(stack)
            site = make_site(seed=self._options.seed, units=self._options.unit_count)
            try:
                levels = Levels(levels_planned, directory)
            except PkiError as error:
                raise RunError(ExitCode.DATA_DIRECTORY, f"{directory}: {error} 无法使用该目录") from error
            stack.callback(self._stop, levels)
            try:
                self._start(levels)
                self._register(levels, site)
                outcome = self._weigh_and_verify(levels, site, directory)
            except RunError:
                self._has_failed = True
                raise
            self._has_failed = not outcome.is_right
        return outcome

    # Stages

    def _directory(self, stack: ExitStack) -> Path:
        options = self._options
        directory = options.data_directory or (KEPT_DIRECTORY if options.is_kept else None)
        if directory is None:
            directory = Path(tempfile.mkdtemp(prefix="zhichao-run-"))
            stack.callback(self._remove, directory)
            return directory
        directory = directory.absolute()
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                ExitCode.DATA_DIRECTORY, f"{directory} cannot be used: {error.strerror} 无法使用该目录"
            ) from error
        if not options.is_kept and any(directory.iterdir()):
            raise RunError(
                ExitCode.DATA_DIRECTORY,
                f"{directory} is not empty: add --keep to go on with what is there 目录非空, 续用请加 --keep",
            )
        return directory

    def _remove(self, directory: Path) -> None:
        if self._has_failed:
            click.echo(f"kept for a closer look 数据保留于: {directory}", err=True)
        else:
            shutil.rmtree(directory, ignore_errors=True)

    def _start(self, levels: Levels) -> None:
        began = time.monotonic()
        self._say(" → ".join(f"{level.code} {level.name}" for level in levels.levels))

        def report(level: Level) -> None:
            self._say(
                f"{level.code} {level.name} serves on 已启动 127.0.0.1:{level.base_port} "
                f"({time.monotonic() - began:.1f} s)"
            )

        try:
            levels.start(report)
        except PlatformProcessError as error:
            raise RunError(ExitCode.SERVICE, str(error)) from error

    def _register(self, levels: Levels, site: Site) -> None:
        county = levels.target(site.platform_code)
        try:
            for level in levels.levels:
                if level.upstream:
                    with levels.target(level.upstream).connect("registry", "operator") as channel:
                        register_below(service_pb2_grpc.RegistryServiceStub(channel), level.code, level.upstream)
            with county.connect("registry", "operator") as channel:
                stub = service_pb2_grpc.RegistryServiceStub(channel)
                register_site(stub, site, today=SystemClock().now().date())
            with county.connect("registry", "security") as channel:
                self._tokens = issue_terminals(AccessServiceStub(channel), site, self._options.records_per_second)
        except ServiceError as error:
            raise RunError(
                ExitCode.SERVICE, f"registration 登记: {error.message} ({error.reason}) {error.message_zh}".rstrip()
            ) from error
        self._say(
            f"registered {len(site.units)} source units with {len(site.stations)} scales "
            f"已登记源头单位 {len(site.units)} 家、衡器 {len(site.stations)} 台"
        )
        self._say(
            "issued a token to the terminals of each unit; platforms joined by mutual TLS "
            "已为各单位终端签发令牌, 平台之间双向 TLS"
        )

    def _weigh_and_verify(self, levels: Levels, site: Site, directory: Path) -> Outcome:
        options = self._options
        county = levels.target(site.platform_code)
        simulation = Simulation(
            lambda: open_channel(county.addresses[run_check.WEIGHING], CallerAccess()),
            site,
            self._tokens,
            seed=options.seed,
            records_per_second=options.records_per_second,
            seconds=options.seconds,
            options=options.traffic,
            ledger_path=directory / LEDGER,
            keeps_receipts=False,
            evidence=EvidenceUploads(
                lambda: open_channel(county.addresses[run_check.VIDEO], CallerAccess()),
                self._tokens,
                seed=options.seed,
                every=options.photo_every,
                ledger_path=directory / EVIDENCE_LEDGER,
            )
            if options.photo_every
            else None,
        )
        outcome = Outcome(directory, simulation, 0.0)
        title = f"zhichao run 治超  {options.records_per_second:g}/s  seed {options.seed}"
        began = time.monotonic()
        with ExitStack() as stack:
            probes = stack.enter_context(PlatformProbes(levels.targets()))
            watch = stack.enter_context(FiguresWatch(probes))
            watch.look()
            display = stack.enter_context(
                RunDisplay(self._console, watch, simulation, title=title, is_quiet=self._is_quiet)
            )
            stack.callback(simulation.stop, drain=False)
            simulation.start()
            self._weigh(simulation, levels, display)
            more = self._finish(simulation, watch, display)
            outcome.unanswered = simulation.waiting_count
            evidence = self._look_at_evidence(levels, directory, watch, display)
            outcome.verdict = self._verify(levels, directory, display, more)
            outcome.verdict.evidence = evidence
            watch.look()
            outcome.seconds = time.monotonic() - began
            display.phase("verified 已核验" if outcome.is_right else "differs 不一致")
        return outcome

    def _weigh(self, simulation: Simulation, levels: Levels, display: RunDisplay) -> None:
        asked = f"for {self._options.seconds:g} s" if self._options.seconds else "until Ctrl-C"
        display.phase(f"weighing {asked} 称重中")
        self._interrupts.begin_weighing()
        try:
            while not simulation.wait(WAIT_SECONDS) and not self._interrupts.ending.is_set():
                for level in levels.dead():
                    raise RunError(
                        ExitCode.SERVICE,
                        f"platform {level.code} ended; its log 平台已退出, 日志如下:\n{levels.log_tail(level.code)}",
                    )
        finally:
            self._interrupts.end_weighing()

    def _finish(self, simulation: Simulation, watch: FiguresWatch, display: RunDisplay) -> list[str]:
        """Let terminals, cameras and relays finish; return what they did not."""
        more = []
        display.phase("waiting for the last answers 等待终端应答")

        def report_evidence(waiting: int) -> None:
            if waiting:
                display.phase(f"sealing photos and clips 封存照片和视频: {waiting:,} to go 件待封存")

        if not simulation.stop(drain=True, timeout_seconds=DRAIN_SECONDS, report_evidence=report_evidence):
            more.append(f"{simulation.waiting_count:,} records were not answered within {DRAIN_SECONDS:.0f} s")
        if simulation.evidence is not None and simulation.evidence.waiting_count:
            more.append(f"{simulation.evidence.waiting_count:,} photos and clips were not sealed in time")
        if simulation.evidence is not None and simulation.evidence.counters.refused:
            more.append(f"{simulation.evidence.counters.refused:,} photos and clips were refused")
        if simulation.evidence is not None and simulation.evidence.counters.skipped_clips:
            more.append(f"{simulation.evidence.counters.skipped_clips:,} clips of suspected overloads were left out")
        if simulation.counters.mismatches:
            more.append(f"{simulation.counters.mismatches:,} repeats were answered with another receipt")

        def report(lacking: int | None) -> None:
            what = "a level does not answer 有平台未应答" if lacking is None else f"{lacking:,} to go 条待上报"
            display.phase(f"carrying up 逐级上报: {what}")

        report(0)
        if not run_check.wait_until_held(watch.look, report):
            more.append(f"nothing more arrived at the upper levels for {run_check.STALL_SECONDS_MAX:.0f} s")
        return more

    def _look_at_evidence(
        self, levels: Levels, directory: Path, watch: FiguresWatch, display: RunDisplay
    ) -> list[LevelEvidence]:
        """Wait for the bytes of clips, and read some at each level; that is written into the journals, checked next."""

        def report(waiting: int) -> None:
            display.phase(f"evidence on its way 证据上传: {waiting:,} clips to go 件待达")

        ledger = read_ledger(directory / EVIDENCE_LEDGER)
        if not ledger:
            return []
        found = wait_and_read(levels.targets(), ledger, report)
        run_check.wait_until_held(watch.look)
        return found

    def _verify(self, levels: Levels, directory: Path, display: RunDisplay, more: list[str]) -> run_check.Verdict:
        targets = levels.targets()
        display.phase("cosigning 联署")
        run_check.wait_until_cosigned(
            [target for level, target in zip(levels.levels, targets, strict=True) if level.upstream]
        )
        checked = 0

        def advance(count: int) -> None:
            nonlocal checked
            checked += count
            display.phase(f"verifying 核验: {checked:,} / {total:,}")

        try:
            total = run_check.count_entries(targets)
            verdict = run_check.verify_levels(
                levels.levels,
                targets,
                directory / LEDGER,
                directory / EVIDENCE_LEDGER,
                sample=self._options.sample,
                seed=self._options.seed,
                advance=advance,
            )
        except CannotLookError as error:
            raise RunError(EXIT_DIFFERS, f"cannot verify 无法核验: {error}") from error
        verdict.more[:0] = more
        return verdict

    def _stop(self, levels: Levels) -> None:
        self._interrupts.begin_stopping()
        self._say("stopping the platforms 正在停止各平台")
        for problem in levels.stop(self._interrupts.hurrying):
            click.echo(problem, err=True)

    def _say(self, text: str) -> None:
        if not self._is_quiet:
            self._console.print(text, highlight=False, soft_wrap=True)


def report(outcome: Outcome, console: Console, *, photo_every: int) -> None:
    """Print the verdict for a person."""
    if outcome.verdict is not None:
        evidence = outcome.simulation.evidence
        run_verdict.show(
            console,
            outcome.verdict,
            photo_every=photo_every,
            photos_left_out=evidence.counters.skipped if evidence is not None else 0,
        )
