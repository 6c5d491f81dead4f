"""The rates of everything that a simulated terminal does, with their defaults, ranges and texts for --help."""

import dataclasses
from dataclasses import dataclass
from typing import Any

# Shares are of records unless the text says otherwise.
_SHARE = (0.0, 1.0)
# One hour: a longer delay would never end within a simulation.
_SECONDS = (0.0, 3_600.0)


def _option(default: float, bounds: tuple[float, float], text: str, text_zh: str) -> Any:
    return dataclasses.field(default=default, metadata={"bounds": bounds, "text": text, "text_zh": text_zh})


@dataclass(frozen=True)
class TrafficOptions:
    """How often what happens. Refuses a value outside its range with ValueError."""

    # Domain: true overload is 0.02-0.2 % of trucks.
    overload_rate: float = _option(0.001, _SHARE, "Loaded trucks that are truly overloaded.", "真实超限比例")
    reweigh_rate: float = _option(0.8, _SHARE, "Overloads that unload and are weighed again.", "卸载复秤比例")
    reweigh_seconds: float = _option(8.0, _SECONDS, "Mean time until the re-weigh.", "复秤平均间隔")
    tare_rate: float = _option(0.15, _SHARE, "Visits that begin with an empty weighing.", "空车先过磅比例")
    loading_seconds: float = _option(20.0, _SECONDS, "Mean time between empty and loaded weighing.", "平均装载时间")
    no_plate_rate: float = _option(0.005, _SHARE, "Trucks without a plate.", "无牌比例")
    garbled_plate_rate: float = _option(0.005, _SHARE, "Plates read wrongly.", "车牌误识比例")
    unknown_class_rate: float = _option(0.03, _SHARE, "Records without the vehicle class.", "车型未知比例")
    no_axle_count_rate: float = _option(0.01, _SHARE, "Records without the number of axles.", "轴数缺失比例")
    axle_detail_rate: float = _option(
        0.9, _SHARE, "Records of dynamic scales with axle weights and spacings.", "动态秤带轴重轴距的比例"
    )
    resend_rate: float = _option(0.01, _SHARE, "Records sent twice, as after a timeout.", "重发比例")
    late_rate: float = _option(0.01, _SHARE, "Records sent late.", "迟报比例")
    late_seconds: float = _option(6.0, _SECONDS, "Mean delay of a late record.", "迟报平均延迟")
    swap_rate: float = _option(0.01, _SHARE, "Records sent after the next one.", "乱序比例")
    offline_share: float = _option(0.1, _SHARE, "Terminals that are cut off once in each period.", "每周期离线终端比例")
    offline_seconds: float = _option(12.0, _SECONDS, "Length of a cut-off.", "离线时长")
    offline_period_seconds: float = _option(60.0, (1.0, 86_400.0), "Length of the period.", "离线周期")
    clock_error_seconds: float = _option(2.0, (0.0, 60.0), "Deviation of the terminals' clocks.", "终端时钟偏差")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            low, high = field.metadata["bounds"]
            value = getattr(self, field.name)
            if not low <= value <= high:
                raise ValueError(f"{field.name} is {value}; accepted are {low:g} to {high:g} 数值超出范围")
        if self.offline_seconds > self.offline_period_seconds / 2:
            raise ValueError(
                "offline_seconds may be at most half of offline_period_seconds 离线时长最多为离线周期的一半"
            )


# Nothing but trucks: for tests and measurements that want one record per truck and no fault.
FAULTLESS = TrafficOptions(resend_rate=0, late_rate=0, swap_rate=0, offline_share=0, clock_error_seconds=0)
