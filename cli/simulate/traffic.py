"""The traffic of a site: which terminal weighs when, which truck is an overload, and when each record is sent.

Pure and endless; the caller takes as many emissions as it needs. The times follow from the rate alone, not from how
fast the caller is, so a run repeats exactly when it starts at the same time.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from cli.simulate.options import TrafficOptions
from cli.simulate.seeding import seeded_random
from cli.simulate.site import Site
from cli.simulate.terminal import Terminal
from cli.simulate.trucks import TruckModel, default_model
from zhichao.weighing.v1 import record_pb2


@dataclass(frozen=True)
class Emission:
    """One record and what happens to it on its way."""

    # When the truck was weighed, seconds after the start.
    offset_seconds: float
    # When the terminal may send it: later for late and swapped records.
    release_seconds: float
    # Index of the terminal within the site's stations.
    terminal: int
    record: record_pb2.WeighingRecord
    # Whether it is sent twice, as after a timeout.
    is_resent: bool
    # Whether the truck is truly overloaded, so that a right verdict is `suspected`.
    is_overload: bool


class Traffic:
    """Makes the emissions of a site in the order weighed."""

    def __init__(
        self,
        site: Site,
        *,
        seed: int,
        start_time: datetime,
        records_per_second: float,
        options: TrafficOptions | None = None,
        model: TruckModel | None = None,
    ) -> None:
        if not 0 < records_per_second < math.inf:
            raise ValueError(f"a rate of {records_per_second} records a second makes no traffic 速率须大于 0")
        self.options = options if options is not None else TrafficOptions()
        self.start_time = start_time
        self.records_per_second = records_per_second
        trucks = model if model is not None else default_model()
        self._seed = seed
        self._volumes = list(itertools.accumulate(station.volume for station in site.stations))
        self.terminals = [Terminal(station, self.options, trucks, seed) for station in site.stations]

    def emissions(self) -> Iterator[Emission]:
        """Make emissions at the asked rate, without end. May be called once."""
        rng, options = seeded_random("traffic", self._seed), self.options
        # Counted, not drawn: a rate of one in a thousand gives one in every thousand new trucks.
        overloads = rng.random()
        indexes = range(len(self.terminals))
        gap_seconds = len(self.terminals) / self.records_per_second
        for count in itertools.count(1):
            offset_seconds = count / self.records_per_second
            index = rng.choices(indexes, cum_weights=self._volumes)[0]
            terminal = self.terminals[index]
            is_overload = False
            if terminal.wants_new_truck(offset_seconds):
                overloads += options.overload_rate
                is_overload = overloads >= 1
                overloads -= is_overload
            measured = terminal.weigh(self.start_time, offset_seconds, is_overload=is_overload)
            release_seconds = offset_seconds
            if rng.random() < options.late_rate:
                release_seconds += rng.expovariate(1 / options.late_seconds) if options.late_seconds else 0.0
            elif rng.random() < options.swap_rate:
                release_seconds += gap_seconds * 1.5
            yield Emission(
                offset_seconds=offset_seconds,
                release_seconds=release_seconds,
                terminal=index,
                record=measured.record,
                is_resent=rng.random() < options.resend_rate,
                is_overload=measured.is_overload,
            )


class OfflineSchedule:
    """Says which terminals are cut off when; the same seed gives the same outages."""

    def __init__(self, seed: int, terminals: int, options: TrafficOptions) -> None:
        self._seed = seed
        self._terminals = terminals
        self._options = options
        # A share that is not zero cuts off at least one terminal, so that a small site shows it too.
        self._cut_off = math.ceil(terminals * options.offline_share)
        self._period: int | None = None
        self._starts: dict[int, float] = {}

    def offline_until(self, terminal: int, offset_seconds: float) -> float | None:
        """Return when the terminal is back, in seconds after the start; None when it is not cut off."""
        options = self._options
        if not self._cut_off or not options.offline_seconds:
            return None
        period = int(offset_seconds // options.offline_period_seconds)
        begin = self._starts_of(period).get(terminal)
        if begin is None or not begin <= offset_seconds < begin + options.offline_seconds:
            return None
        return begin + options.offline_seconds

    def _starts_of(self, period: int) -> dict[int, float]:
        if period != self._period:
            rng = seeded_random("offline", self._seed, period)
            length, outage = self._options.offline_period_seconds, self._options.offline_seconds
            chosen = rng.sample(range(self._terminals), self._cut_off)
            # An outage ends within the first three quarters of its period, so that its backlog is seen going out.
            latest = max(0.0, length * 0.75 - outage)
            self._starts = {index: period * length + rng.uniform(0.0, latest) for index in chosen}
            self._period = period
        return self._starts
