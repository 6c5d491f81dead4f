"""What `zhichao run` shows while it runs: a live table for a person, plain lines for a pipe."""

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from cli.simulate.evidence import EvidenceCounters
from cli.simulate.simulation import Simulation
from cli.status_display import plain_line, platform_table
from cli.status_figures import PlatformFigures
from cli.status_probe import PlatformProbes

LOOK_SECONDS = 1.0
REFRESHES_PER_SECOND = 4
# Lines for a pipe come as often as a person would look.
PLAIN_SECONDS = 5.0

_ERROR_CHARACTERS_MAX = 160


class FiguresWatch:
    """Looks at all levels once a second in a thread of its own, so that a slow answer holds nothing up."""

    def __init__(self, probes: PlatformProbes) -> None:
        self._probes = probes
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self.latest: Sequence[PlatformFigures] = ()
        self._thread = threading.Thread(target=self._run, name="figures", daemon=True)

    def look(self) -> Sequence[PlatformFigures]:
        """Look now; also keeps the figures."""
        with self._lock:
            self.latest = self._probes.look()
        return self.latest

    def __enter__(self) -> Self:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End; the last figures stay."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            self.look()


class RunDisplay:
    """Shows the levels and the terminals until it is closed."""

    def __init__(
        self, console: Console, watch: FiguresWatch, simulation: Simulation, *, title: str, is_quiet: bool
    ) -> None:
        self._console = console
        self._watch = watch
        self._simulation = simulation
        self._title = title
        self._phase = ""
        self._is_plain = not console.is_terminal
        self._is_quiet = is_quiet
        self._closing = threading.Event()
        self._live: Live | None = None
        self._thread: threading.Thread | None = None

    def phase(self, text: str) -> None:
        """Say what goes on now."""
        is_new = text.split(":", maxsplit=1)[0] != self._phase.split(":")[0]
        self._phase = text
        if self._is_plain and not self._is_quiet and is_new:
            self._console.print(text, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._is_plain:
            if not self._is_quiet:
                self._thread = threading.Thread(target=self._print_lines, name="lines", daemon=True)
                self._thread.start()
        else:
            self._live = Live(
                console=self._console,
                get_renderable=self._render,
                refresh_per_second=REFRESHES_PER_SECOND,
                # What the terminal cannot hold is cut while it is live, never the last picture.
                vertical_overflow="crop",
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Show the last figures and end."""
        self._closing.set()
        if self._live is not None:
            self._live.stop()
        if self._thread is not None:
            self._thread.join()
            self._print_figures()

    def _render(self) -> RenderableType:
        head = Text(self._title, "bold")
        head.append(f"  {_elapsed(self._simulation.elapsed_seconds)}  {self._phase}", "cyan")
        table = platform_table(self._watch.latest, width=self._console.width)
        return Group(head, table, terminals_text(self._simulation))

    def _print_lines(self) -> None:
        due = time.monotonic() + PLAIN_SECONDS
        while not self._closing.wait(max(due - time.monotonic(), 0)):
            self._print_figures()
            due += PLAIN_SECONDS

    def _print_figures(self) -> None:
        for figures in self._watch.latest:
            self._console.print(plain_line(figures), highlight=False, soft_wrap=True)
        self._console.print(terminals_line(self._simulation), highlight=False, soft_wrap=True)


def terminals_text(simulation: Simulation) -> Text:
    """Write what the terminals do, for a person."""
    counters = simulation.counters
    text = Text("Terminals 终端  ", "bold")

    def add(name: str, count: str, style: str = "", end: str = "  ") -> None:
        text.append(f"{name} ", "dim")
        text.append(f"{count}{end}", style)

    # Two lines: together they are wider than a narrow screen.
    add("generated 生成", f"{counters.generated:,}")
    add("acknowledged 已确认", f"{counters.acknowledged:,}", "green", end="\n")
    add("resent 重发", f"{counters.duplicates:,}")
    add("refused 被拒", f"{counters.refused:,}", "red" if counters.refused else "")
    add("waiting 待确认", f"{simulation.waiting_count:,}")
    add("cut off 离线", f"{simulation.offline_count}/{simulation.terminal_count}", end="")
    if (evidence := simulation.evidence) is not None:
        text.append("  ")
        add("evidence 证据", f"{evidence.counters.sealed:,}", "green", end="")
        if left_out := evidence.counters.skipped:
            text.append("  ")
            add("photos left out 未拍照", f"{left_out:,}", "yellow", end="")
    if simulation.last_error:
        text.append(f"\n{simulation.last_error[:_ERROR_CHARACTERS_MAX]}", "yellow")
    return text


def terminals_line(simulation: Simulation) -> str:
    """Write what the terminals do as one line for a pipe."""
    counters = simulation.counters
    evidence = simulation.evidence.counters if simulation.evidence is not None else EvidenceCounters()
    return (
        f"terminals generated={counters.generated} acknowledged={counters.acknowledged} "
        f"resent={counters.duplicates} refused={counters.refused} waiting={simulation.waiting_count} "
        f"cut_off={simulation.offline_count} evidence={evidence.sealed} photos_left_out={evidence.skipped} "
        f"seconds={simulation.elapsed_seconds:.0f}"
    )


def _elapsed(seconds: float) -> str:
    minutes, rest = divmod(int(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
