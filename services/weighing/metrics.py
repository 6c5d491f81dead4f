"""The figures of the weighing service: what was recorded, judged, sent twice or refused. Counted once a transaction."""

import collections
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from services.common.metrics import Counter, Metrics
from services.common.reasons import Reason
from services.common.request import request_context
from services.journal.metrics import OWN, JournalMetrics
from services.weighing.preparing import PreparedBatch
from services.weighing.recording import NewlyRecorded, Outcome, Recorded, RecordPlan
from services.weighing.rows import verdict_numbers
from zhichao.weighing.v1 import weighing_pb2

_PREFIX: Final = "VERDICT_"
_CONFLICTS: Final = frozenset({Reason.RECORD_CONFLICT, Reason.TOO_MANY_CONFLICTS})


class WeighingMetrics:
    """The figures of one weighing service."""

    def __init__(self, metrics: Metrics, journal: JournalMetrics) -> None:
        self._journal = journal
        self._recorded = metrics.counter("zhichao_weighings_recorded_total", "Weighings that became durable here.")
        judged = metrics.counter(
            "zhichao_weighings_judged_total", "Weighings that became durable here, by verdict.", ("verdict",)
        )
        self._duplicates = metrics.counter(
            "zhichao_weighing_duplicates_total", "Records that were held already and got the first answer again."
        )
        self._conflicts = metrics.counter(
            "zhichao_weighing_conflicts_total", "Records refused because another one is held under their id."
        )
        # All from the beginning, at 0: an alarm needs a value before the first one.
        self._judged: dict[int, Counter] = {
            number: judged.labels(name.removeprefix(_PREFIX).lower())
            for name, number in weighing_pb2.Verdict.items()
            if number
        }

    def metered(
        self, commit: Callable[[RecordPlan], list[Sequence[Outcome]]]
    ) -> Callable[[RecordPlan], list[Sequence[Outcome]]]:
        """Return the commit of records with its time and its outcomes counted, once they are durable.

        Nobody waits for his answer until they are counted.
        """

        def commit_and_count(plan: RecordPlan) -> list[Sequence[Outcome]]:
            began = time.monotonic()
            results = commit(plan)
            note = partial(self._note, plan.batches, results, time.monotonic() - began)
            request_context().after_answer(note)
            return results

        return commit_and_count

    def _note(self, batches: Sequence[PreparedBatch], results: Sequence[Sequence[Outcome]], seconds: float) -> None:
        self._journal.committed(OWN, sum(map(len, batches)), seconds)
        self._count(batches, results)

    def _count(self, batches: Sequence[PreparedBatch], results: Sequence[Sequence[Outcome]]) -> None:
        verdicts: collections.Counter[int] = collections.Counter()
        recorded = duplicates = conflicts = 0
        for batch, outcomes in zip(batches, results, strict=True):
            if isinstance(outcomes, NewlyRecorded):
                recorded += len(batch)
                verdicts.update(verdict_numbers(batch.rows))
                continue
            new = []
            for row, outcome in zip(batch.rows, outcomes, strict=True):
                if isinstance(outcome, Recorded):
                    if outcome.is_duplicate:
                        duplicates += 1
                    else:
                        new.append(row)
                elif outcome.reason in _CONFLICTS:
                    conflicts += 1
            recorded += len(new)
            verdicts.update(verdict_numbers(new))
        self._recorded.inc(recorded)
        for number, count in verdicts.items():
            counter = self._judged.get(number)
            if counter is not None:
                counter.inc(count)
        if duplicates:
            self._duplicates.inc(duplicates)
        if conflicts:
            self._conflicts.inc(conflicts)
