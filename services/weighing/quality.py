"""What is doubtful about a record though it is possible. Such a record is kept and flagged, never refused."""

from enum import IntEnum
from typing import Final

from services.weighing.limits import VehicleClass
from services.weighing.plates import has_known_form


class QualityFlag(IntEnum):
    """A doubt, numbered as in `zhichao.weighing.v1.QualityFlag`."""

    UNSPECIFIED = 0
    NO_PLATE = 1
    PLATE_FORM = 2
    AXLE_SUM = 3
    NO_CERTIFICATE = 4
    ABOVE_CAPACITY = 5
    CLOCK_AHEAD = 6
    LATE = 7
    NET_SUM = 8
    PLATES_DIFFER = 9


# The proto comments of QualityFlag fix these two: 5 % of the gross weight, and ten minutes.
AXLE_SUM_DIFFERENCE_MAX_PERCENT: Final = 5
LATE_AFTER_SECONDS: Final = 600

# Gross, tare and net may have been rounded to a scale division each, and 20 kg is that of common 60 t to 100 t scales.
NET_SUM_DIFFERENCE_MAX_KG: Final = 20

# Names of this module, because reading a member of an enum costs as much as a comparison.
_NO_PLATE: Final = QualityFlag.NO_PLATE
_RIGID_TRUCK: Final = VehicleClass.RIGID_TRUCK


def find_quality_flags(
    front_plate: str,
    rear_plate: str,
    vehicle_class: int,
    gross_weight_kg: int,
    tare_weight_kg: int | None,
    net_weight_kg: int | None,
    axle_weight_sum_kg: int | None,
    capacity_kg: int | None,
    has_certificate: bool,
    weigh_seconds: float,
    receive_seconds: float,
) -> tuple[QualityFlag, ...]:
    """Find the doubts about one record, in the order of their numbers.

    Plates are normalised and empty when there is none. The axle sum is absent unless every axle was weighed. Times are
    seconds since 1970. A certificate is one of the scale that was valid at the weigh time.
    """
    flags = []
    if not front_plate:
        if not rear_plate:
            flags.append(_NO_PLATE)
        elif not has_known_form(rear_plate):
            flags.append(QualityFlag.PLATE_FORM)
    elif not has_known_form(front_plate) or (rear_plate and not has_known_form(rear_plate)):
        flags.append(QualityFlag.PLATE_FORM)
    if (
        axle_weight_sum_kg is not None
        and abs(axle_weight_sum_kg - gross_weight_kg) * 100 > gross_weight_kg * AXLE_SUM_DIFFERENCE_MAX_PERCENT
    ):
        flags.append(QualityFlag.AXLE_SUM)
    if not has_certificate:
        flags.append(QualityFlag.NO_CERTIFICATE)
    if capacity_kg is not None and gross_weight_kg > capacity_kg:
        flags.append(QualityFlag.ABOVE_CAPACITY)
    delay_seconds = receive_seconds - weigh_seconds
    if delay_seconds < 0:
        flags.append(QualityFlag.CLOCK_AHEAD)
    elif delay_seconds > LATE_AFTER_SECONDS:
        flags.append(QualityFlag.LATE)
    if (
        net_weight_kg is not None
        and tare_weight_kg is not None
        and abs(gross_weight_kg - tare_weight_kg - net_weight_kg) > NET_SUM_DIFFERENCE_MAX_KG
    ):
        flags.append(QualityFlag.NET_SUM)
    if rear_plate and front_plate and vehicle_class == _RIGID_TRUCK and rear_plate != front_plate:
        flags.append(QualityFlag.PLATES_DIFFER)
    return tuple(flags)
