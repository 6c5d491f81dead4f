"""Runs all checks side by side, each within its time, whatever becomes of the others."""

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

from cli.doctor import database, evidence_kept, evidence_store, link, services, settings
from cli.doctor.finding import Finding, Text, fail
from cli.doctor.settings import Check
from cli.doctor.subject import Subject

CHECK_SECONDS_MAX: Final = 10.0
"""Longest time that the doctor takes: every wait of a check is 3 s, and none has more than three of them."""


def examine(subject: Subject, seconds_max: float = CHECK_SECONDS_MAX) -> list[Finding]:
    """Return a finding for each check, in a fixed order."""
    return run([*_checks(subject)], seconds_max)


def run(checks: Sequence[tuple[str, Check]], seconds_max: float) -> list[Finding]:
    """Run checks side by side; what is not done in time is told as a failure, and left to itself."""
    found: dict[int, Finding] = {}

    def do(place: int, check: Check) -> None:
        try:
            found[place] = check()
        except Exception as error:  # noqa: BLE001 - a check that breaks is a finding, and must not cost the others
            found[place] = fail(
                Text(f"cannot be looked at: {type(error).__name__}: {error}".splitlines()[0], "检查出错"),
                Text("report this, it is a fault of the doctor", "请反馈此问题"),
            )

    threads = [
        # Daemons: one that hangs must not keep the command from ending.
        threading.Thread(target=do, args=(place, check), name=f"doctor-{name}", daemon=True)
        for place, (name, check) in enumerate(checks)
    ]
    for thread in threads:
        thread.start()
    ends_at = time.monotonic() + seconds_max
    for thread in threads:
        thread.join(max(ends_at - time.monotonic(), 0.0))
    late = fail(
        Text(f"no answer within {seconds_max:.0f} s", f"{seconds_max:.0f} 秒内无结果"),
        Text("see what hangs: network, disk or database", "检查网络、磁盘或数据库"),
    )
    return [found.get(place, late).named(name) for place, (name, _) in enumerate(checks)]


def _checks(subject: Subject) -> Iterator[tuple[str, Check]]:
    yield from settings.checks(subject)
    yield from evidence_store.checks(subject)
    yield from evidence_kept.checks(subject)
    yield from database.checks(subject)
    yield from services.checks(subject)
    yield from link.checks(subject)
