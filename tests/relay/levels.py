"""Three levels over connections that break."""

from collections.abc import Callable, Sequence

from tests.faults.proxy import Fault, FaultProxy
from tests.relay.conftest import CITY, COUNTY, PROVINCE
from tests.relay.platforms import Platform


class TroubledLevels:
    """A county below a city below a province, all started with one service, and a fault proxy above each link."""

    def __init__(
        self,
        platform: Callable[..., Platform],
        proxy: Callable[..., FaultProxy],
        stream: str,
        script: Callable[[], Sequence[Fault]],
    ) -> None:
        self.province = platform(PROVINCE, streams=[stream])
        self.province.start()
        upper = proxy(self.province.address, *script())
        self.city = platform(CITY, streams=[stream], upstream=upper.address)
        self.city.start()
        lower = proxy(self.city.address, *script())
        self.county = platform(COUNTY, streams=[stream], upstream=lower.address)
        self.county.start()
        # What a test may let happen at any time.
        self.happenings: list[Callable[[], None]] = [
            upper.cut,
            lower.cut,
            upper.swallow,
            lower.swallow,
            self.city.restart_relay,
            self.county.restart_relay,
            self.city[stream].restart,
            self.county[stream].restart,
        ]
