"""Made-up source units of a county with their weighing points, scales and certificates, as the registry takes them.

Everything follows from seed and number, so registering twice registers the same. Names and codes belong to nobody.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from random import Random

from cli.simulate.seeding import seeded_random
from zhichao.registry.v1 import resources_pb2

COUNTY = "141025"
CITY = "141000"
PROVINCE = "140000"

# The ids below hold up to four digits of a number and ten of a seed within the 32 characters of the contract.
UNITS_MAX = 9_999
SEED_MAX = 2**32 - 1

_DIVISIONS = (
    (PROVINCE, "山西省", "", resources_pb2.DIVISION_LEVEL_PROVINCE),
    (CITY, "临汾市", PROVINCE, resources_pb2.DIVISION_LEVEL_CITY),
    (COUNTY, "古县", CITY, resources_pb2.DIVISION_LEVEL_COUNTY),
)

# Rectangles (west, east, south, north) that lie inside the outline of 古县 with a kilometre to spare.
_COUNTY_AREAS = ((111.93, 112.08, 36.12, 36.28), (111.92, 111.98, 36.32, 36.46), (111.99, 112.05, 36.40, 36.54))

# Places that exist on no map.
_PLACES = (
    "松鹤坪", "望云沟", "白鹭岭", "青禾滩", "石榴湾", "晨曦岭", "云杉坡", "碧桐峪", "听泉河", "落雁梁",
    "金穗塬", "紫藤沟", "银杏台", "雪松垣", "映山岭", "百合峪", "丹枫梁", "柳莺滩", "牧歌塬", "麦浪坪",
)  # fmt: skip


@dataclass(frozen=True)
class _Trade:
    kind: resources_pb2.SourceUnitKind.ValueType
    suffix: str
    goods: tuple[str, ...]
    # Share of trucks of this kind of unit, relative: mines load more than works.
    volume: float


_TRADES = (
    _Trade(resources_pb2.SOURCE_UNIT_KIND_COAL_MINE, "煤业有限公司", ("原煤", "混煤"), 1.6),
    _Trade(resources_pb2.SOURCE_UNIT_KIND_COAL_PLANT, "洗煤有限公司", ("精煤", "中煤", "煤泥", "煤矸石"), 1.2),
    _Trade(resources_pb2.SOURCE_UNIT_KIND_QUARRY, "石料有限公司", ("石子", "机制砂", "石粉", "毛石"), 1.0),
    _Trade(resources_pb2.SOURCE_UNIT_KIND_WORKS, "焦化有限公司", ("焦炭", "焦粉", "煤焦油"), 0.9),
    _Trade(resources_pb2.SOURCE_UNIT_KIND_FREIGHT_YARD, "物流有限公司", ("焦炭", "钢坯", "精煤", "铝矾土"), 0.8),
    _Trade(resources_pb2.SOURCE_UNIT_KIND_WORKS, "建材有限公司", ("水泥", "熟料", "商品混凝土"), 0.7),
    _Trade(resources_pb2.SOURCE_UNIT_KIND_MINE, "矿业有限公司", ("铝矾土", "铁矿石", "白云石"), 0.8),
)

# Every fourth unit has a dynamic scale, every ninth fills from a hopper; the others have a static weighbridge.
_DYNAMIC_EVERY = 4
_LOADING_EVERY = 9
# Every fifth unit has a second gate with a scale of its own.
_SECOND_GATE_EVERY = 5


@dataclass(frozen=True)
class Station:
    """One scale with a terminal, and what the terminal needs to know of its unit."""

    unit: resources_pb2.SourceUnit
    point: resources_pb2.WeighingPoint
    scale: resources_pb2.Scale
    goods: tuple[str, ...]
    volume: float


@dataclass(frozen=True)
class Site:
    """The source units of one platform."""

    platform_code: str
    divisions: tuple[resources_pb2.Division, ...]
    platforms: tuple[resources_pb2.Platform, ...]
    units: tuple[resources_pb2.SourceUnit, ...]
    stations: tuple[Station, ...]

    def certificates(self, first_year: int, last_year: int) -> Iterator[resources_pb2.VerificationCertificate]:
        """Make one certificate per scale and year; the period of verification is a year (JJG 539)."""
        for station in self.stations:
            scale = station.scale
            for year in range(first_year, last_year + 1):
                yield resources_pb2.VerificationCertificate(
                    source_unit_id=scale.source_unit_id,
                    scale_id=scale.scale_id,
                    certificate_number=f"SIM-{scale.serial_number}-{year}",
                    issuer="古县计量检定所（模拟）",
                    valid_from=date(year, 1, 1).isoformat(),
                    valid_until=date(year, 12, 31).isoformat(),
                )


def make_site(*, seed: int, units: int, platform_code: str = COUNTY) -> Site:
    """Make a site; the same seed makes the same units, however many are asked for. Refuses with ValueError."""
    if not 1 <= units <= UNITS_MAX:
        raise ValueError(f"{units} source units asked for; accepted are 1 to {UNITS_MAX} 源头单位数量超出范围")
    if not 0 <= seed <= SEED_MAX:
        raise ValueError(f"seed {seed} is not within 0 to {SEED_MAX} 种子超出范围")
    divisions = tuple(
        resources_pb2.Division(division_code=code, name=name, parent_code=parent, level=level)
        for code, name, parent, level in _DIVISIONS
    )
    platforms = tuple(
        resources_pb2.Platform(platform_code=code, name=f"{name}治超平台", upstream_code=parent)
        for code, name, parent, _ in _DIVISIONS
    )
    made = [_make_unit(seed, number, platform_code) for number in range(1, units + 1)]
    return Site(
        platform_code=platform_code,
        divisions=divisions,
        platforms=platforms,
        units=tuple(unit for unit, _ in made),
        stations=tuple(station for _, stations in made for station in stations),
    )


def _make_unit(seed: int, number: int, platform_code: str) -> tuple[resources_pb2.SourceUnit, list[Station]]:
    rng = seeded_random("site", seed, number)
    trade = _TRADES[(number - 1) % len(_TRADES)]
    rounds, place = divmod(number - 1, len(_PLACES))
    name = _PLACES[(place + seed) % len(_PLACES)] + (f"第{rounds + 1}" if rounds else "")
    unit = resources_pb2.SourceUnit(
        source_unit_id=f"{platform_code}-S{seed}-{number:03d}",
        name=f"古县{name}{trade.suffix}",
        credit_code=make_credit_code(rng, COUNTY),
        kind=trade.kind,
        division_code=COUNTY,
        data_home_code=platform_code,
        enforcement_code=COUNTY,
        location=_draw_location(rng),
        state=resources_pb2.SOURCE_UNIT_STATE_OPERATING,
    )
    gates = ("东门", "西门") if number % _SECOND_GATE_EVERY == 0 else ("大门",)
    volume = trade.volume * rng.uniform(0.6, 1.4) / len(gates)
    stations = []
    for gate, gate_name in enumerate(gates, start=1):
        point = resources_pb2.WeighingPoint(
            source_unit_id=unit.source_unit_id,
            weighing_point_id=f"P{gate}",
            name=f"{gate_name}出口地磅",
            location=resources_pb2.GeoPoint(
                latitude_degrees=round(unit.location.latitude_degrees + rng.uniform(-0.002, 0.002), 6),
                longitude_degrees=round(unit.location.longitude_degrees + rng.uniform(-0.002, 0.002), 6),
            ),
            is_active=True,
        )
        scale = _make_scale(rng, seed, number, gate, point)
        stations.append(Station(unit, point, scale, trade.goods, volume))
    return unit, stations


def _make_scale(
    rng: Random, seed: int, number: int, gate: int, point: resources_pb2.WeighingPoint
) -> resources_pb2.Scale:
    kind, accuracy, model, division_kg = resources_pb2.SCALE_KIND_STATIC, "III", "SCS-150", 50
    if number % _DYNAMIC_EVERY == 0:
        kind, accuracy, model, division_kg = resources_pb2.SCALE_KIND_DYNAMIC, "5", "ZDG-150", 20
    elif number % _LOADING_EVERY == 0:
        kind, accuracy, model, division_kg = resources_pb2.SCALE_KIND_LOADING, "0.5", "LCS-120", 20
    return resources_pb2.Scale(
        source_unit_id=point.source_unit_id,
        weighing_point_id=point.weighing_point_id,
        scale_id=f"C{gate}",
        kind=kind,
        accuracy_class=accuracy,
        capacity_kg=rng.choice((120_000, 150_000)),
        division_kg=division_kg,
        model=model,
        serial_number=f"{seed}{number:04d}{gate}",
        is_active=True,
    )


def _draw_location(rng: Random) -> resources_pb2.GeoPoint:
    west, east, south, north = rng.choice(_COUNTY_AREAS)
    return resources_pb2.GeoPoint(
        latitude_degrees=round(rng.uniform(south, north), 6), longitude_degrees=round(rng.uniform(west, east), 6)
    )


_CREDIT_SIGNS = "0123456789ABCDEFGHJKLMNPQRTUWXY"
# The organisation code within (GB 11714) has its own signs, weights and check character.
_ORGANISATION_SIGNS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ORGANISATION_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)


def make_credit_code(rng: Random, division_code: str) -> str:
    """Make a unified social credit code (GB 32100) of an enterprise with valid check characters."""
    # "MA" starts the codes given since 2015; eight signs without those that the outer code does not know.
    organisation = "MA" + "".join(rng.choices("0123456789ABCDEFGH", k=6))
    weighted = zip(organisation, _ORGANISATION_WEIGHTS, strict=True)
    total = sum(_ORGANISATION_SIGNS.index(sign) * weight for sign, weight in weighted)
    check = (11 - total % 11) % 11
    body = f"91{division_code}{organisation}{'X' if check == 10 else check}"
    return body + credit_check_character(body)


def credit_check_character(body: str) -> str:
    """Return the 18th character for the first 17 (GB 32100: weights 3^(i-1) mod 31)."""
    total = sum(_CREDIT_SIGNS.index(sign) * pow(3, place, 31) for place, sign in enumerate(body))
    return _CREDIT_SIGNS[(31 - total % 31) % 31]
