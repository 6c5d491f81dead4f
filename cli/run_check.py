"""Waits until every level holds everything, and then proves that it is what the terminals had acknowledged."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import grpc

from cli.run_evidence import LevelEvidence
from cli.run_ledger import Acknowledged, LedgerCheck, evidence_key
from cli.run_levels import Level
from cli.run_photos import PhotoCheck, Photos
from cli.status_figures import PlatformFigures
from cli.status_targets import LOOK_SECONDS_MAX, Target
from cli.verifier.check import Observe
from cli.verifier.notes import Note, UnreadableNoteError
from cli.verifier.source import Head
from cli.verify_journals import Examined, PlatformJournals
from zhichao.journal.v1 import journal_pb2, journal_pb2_grpc

WEIGHING = "weighing"
VIDEO = "video"

# A link comes back within 5 s of its upstream; a minute in which nothing at all arrives is a fault.
STALL_SECONDS_MAX = 60.0
# Cosignatures follow their entries by a second.
COSIGN_SECONDS_MAX = 15.0
POLL_SECONDS = 0.2


@dataclass
class LevelVerdict:
    """What one level holds."""

    level: Level
    examined: Examined
    ledger: LedgerCheck
    # What the cameras were told is sealed.
    manifests: LedgerCheck
    # Weighings whose photo is among these.
    photos: PhotoCheck
    # Own logs whose newest checkpoint the upstream has not cosigned.
    uncosigned: list[str] = field(default_factory=list)
    equal_count: int = 0
    # Logs that differ from what the level below holds.
    unequal: list[str] = field(default_factory=list)


@dataclass
class Verdict:
    """The outcome of the run."""

    acknowledged: Acknowledged
    # Photos and clips that the cameras were told are sealed.
    sealed: Acknowledged
    # Which weighings these photos show.
    photos: Photos
    levels: list[LevelVerdict]
    # Their bytes, by level from the county up.
    evidence: list[LevelEvidence] = field(default_factory=list)
    # What the check of the levels does not see; each is a difference.
    more: list[str] = field(default_factory=list)

    @property
    def differences(self) -> list[str]:
        """Everything that is not as it should be, a line each."""
        lines = list(self.more)
        if self.acknowledged.moved_count:
            lines.append(f"{self.acknowledged.moved_count:,} records were acknowledged at two places")
        if self.acknowledged.shared_count:
            lines.append(f"{self.acknowledged.shared_count:,} places were acknowledged for two records")
        for one in self.levels:
            code, ledger = one.level.code, one.ledger
            if ledger.missing_count:
                lines.append(f"{code} lacks {ledger.missing_count:,} acknowledged records")
            if one.manifests.missing_count:
                lines.append(f"{code} lacks {one.manifests.missing_count:,} manifests of sealed evidence")
            if one.manifests.twice_count:
                lines.append(f"{code} holds {one.manifests.twice_count:,} manifests twice")
            if lacking := self.photos.count - one.photos.held_count:
                lines.append(f"{code} lacks the photos of {lacking:,} weighings")
            if ledger.twice_count:
                lines.append(f"{code} holds {ledger.twice_count:,} records twice")
            lines += [f"{code}: {example}" for example in [*ledger.examples, *one.manifests.examples]]
            lines += [f"{code}: {log}" for log in one.unequal]
            lines += [f"{code}: the {log} log is not cosigned at its end" for log in one.uncosigned]
            for result in one.examined.results:
                if (first := result.first_bad) is not None:
                    fault = first.fault.value.replace("_", " ")
                    lines.append(f"{code} {result.stream} {result.origin} {first.place}: {fault}: {first.detail}")
        for found in self.evidence:
            lines += found.differences
        return lines

    @property
    def is_right(self) -> bool:
        """Whether nothing differs."""
        return not self.differences


def behind(figures: Sequence[PlatformFigures]) -> int | None:
    """Return how many entries upper levels lack, from the lowest level up; None while a level does not answer."""
    lacking = 0
    for lower, upper in pairwise(figures):
        if not (lower.is_well and upper.is_well):
            return None
        above = {(log.stream, log.origin): log for log in upper.logs}
        for log in lower.logs:
            copy = above.get((log.stream, log.origin))
            lacking += max(log.size - (copy.size if copy else 0), 0)
    return lacking


def wait_until_held(
    look: Callable[[], Sequence[PlatformFigures]], report: Callable[[int | None], None] = lambda lacking: None
) -> bool:
    """Wait until no level lacks anything; False when nothing has arrived for a minute."""
    least: int | None = None
    progressed_at = time.monotonic()
    while (lacking := behind(look())) != 0:
        report(lacking)
        now = time.monotonic()
        if lacking is not None and (least is None or lacking < least):
            least, progressed_at = lacking, now
        if now - progressed_at > STALL_SECONDS_MAX:
            return False
        time.sleep(POLL_SECONDS)
    return True


def wait_until_cosigned(targets: Sequence[Target]) -> None:
    """Wait until the newest checkpoints of the targets' own logs carry a cosignature, or the time is over."""
    deadline = time.monotonic() + COSIGN_SECONDS_MAX
    with ExitStack() as stack:
        waiting = [
            (journal_pb2_grpc.JournalServiceStub(stack.enter_context(target.connect(name, "auditor"))), target.platform)
            for target in targets
            for name in target.addresses
            if name != "relay"
        ]
        while waiting and time.monotonic() < deadline:
            waiting = [(journal, origin) for journal, origin in waiting if not _is_cosigned(journal, origin)]
            if waiting:
                time.sleep(POLL_SECONDS)


def _is_cosigned(journal: journal_pb2_grpc.JournalServiceStub, origin: str) -> bool:
    try:
        request = journal_pb2.GetCheckpointRequest(origin=origin)
        answer = journal.GetCheckpoint(request, timeout=LOOK_SECONDS_MAX)
        return len(Note.read(answer.checkpoint).signatures) > 1
    except (grpc.RpcError, UnreadableNoteError):
        return False


def count_entries(targets: Sequence[Target]) -> int:
    """Return how many entries `verify_levels` will check. Raises CannotLookError."""
    with ExitStack() as stack:
        journals = [stack.enter_context(PlatformJournals(target)) for target in targets]
        for one in journals:
            one.look()
        return sum(one.entry_count for one in journals)


def verify_levels(
    levels: Sequence[Level],
    targets: Sequence[Target],
    ledger_path: Path,
    evidence_path: Path,
    *,
    sample: int,
    seed: int,
    advance: Callable[[int], None] = lambda count: None,
) -> Verdict:
    """Check everything that every level holds, from the county up. Raises CannotLookError."""
    acknowledged = Acknowledged.read(ledger_path)
    sealed = Acknowledged.read(evidence_path, "evidence_id")
    own = levels[0].code
    photos = Photos.read(evidence_path, acknowledged)
    verdict = Verdict(acknowledged, sealed, photos, [])
    foreign = (acknowledged.origins | sealed.origins) - {own}
    if foreign:
        verdict.more.append(f"acknowledgements name other platforms: {', '.join(sorted(foreign))}")
    with ExitStack() as stack:
        journals = [stack.enter_context(PlatformJournals(target)) for target in targets]
        for one in journals:
            one.look()
        keys = [key for one in journals for key in one.verifier_keys()]
        for level, one in zip(levels, journals, strict=True):
            photographed = PhotoCheck(photos)
            ledger = LedgerCheck(acknowledged)
            manifests = LedgerCheck(sealed, evidence_key, on_held=photographed.note)
            checks = {(WEIGHING, own): ledger, (VIDEO, own): manifests}

            def observe(head: Head, checks: Mapping[tuple[str, str], LedgerCheck] = checks) -> Observe | None:
                check = checks.get((head.stream, head.origin))
                return check.observe if check is not None else None

            examined = one.examine(keys, sample=sample, seed=seed, observe=observe, advance=advance)
            verdict.levels.append(LevelVerdict(level, examined, ledger, manifests, photographed))
    _compare(verdict)
    return verdict


def _compare(verdict: Verdict) -> None:
    """Compare sizes and roots of every log from level to level, and look for the cosignatures of the upstream."""
    for place, one in enumerate(verdict.levels):
        below = verdict.levels[place - 1].examined.results if place else []
        for result in below:
            copy = one.examined.find(result.stream, result.origin)
            name = f"the {result.stream} log of {result.origin}"
            if copy is None:
                one.unequal.append(f"{name} is not held")
            elif (copy.size, copy.root) != (result.size, result.root):
                one.unequal.append(f"{name} has {copy.size:,} entries and another root than the {result.size:,} below")
            else:
                one.equal_count += 1
        if one.level.upstream:
            one.uncosigned = [
                result.stream
                for result in one.examined.results
                if result.is_own and result.cosigned_size != result.size
            ]
