"""Registry resources as the directory and the rules take them. Pure."""

from typing import Final

from services.weighing import rules as domain_rules
from services.weighing.addressed import AddressedRow
from services.weighing.directory import Certificate, DirectoryObject, Scale, SourceUnit, WeighingPoint
from services.weighing.rule_sets import AddressedRuleSet
from zhichao.registry.v1 import resources_pb2 as registry_pb

RULE_SET_KIND: Final = registry_pb.RuleSet.DESCRIPTOR.full_name

RULE_SET_SCHEMA: Final = 1
"""Newest meaning of a rule set that this release judges by; one of a newer platform above waits for the upgrade."""


def directory_object(kind: str, payload: bytes) -> tuple[str, DirectoryObject] | None:
    """Return a registry resource's key and what a weighing needs of it; None for kinds that weighings do not need."""
    match kind:
        case "zhichao.registry.v1.SourceUnit":
            unit = registry_pb.SourceUnit.FromString(payload)
            return unit.source_unit_id, SourceUnit(unit.source_unit_id, unit.division_code, unit.rule_set_id)
        case "zhichao.registry.v1.WeighingPoint":
            point = registry_pb.WeighingPoint.FromString(payload)
            key = f"{point.source_unit_id}/{point.weighing_point_id}"
            return key, WeighingPoint(point.source_unit_id, point.weighing_point_id)
        case "zhichao.registry.v1.Scale":
            scale = registry_pb.Scale.FromString(payload)
            return f"{scale.source_unit_id}/{scale.scale_id}", Scale(
                scale.source_unit_id, scale.weighing_point_id, scale.scale_id, scale.kind, scale.capacity_kg
            )
        case "zhichao.registry.v1.VerificationCertificate":
            one = registry_pb.VerificationCertificate.FromString(payload)
            return f"{one.source_unit_id}/{one.scale_id}/{one.certificate_number}", Certificate(
                one.source_unit_id, one.scale_id, one.certificate_number, one.valid_from, one.valid_until
            )
        case "zhichao.registry.v1.RuleSet":
            rule_set = registry_pb.RuleSet.FromString(payload)
            return f"{rule_set.rule_set_id}/{rule_set.version}", rule_set_from_message(rule_set)
    return None


def addressed_object(row: AddressedRow) -> AddressedRuleSet | None:
    """Return what a weighing needs of an entry that a platform above has addressed; None for other kinds
    and for a meaning that is newer than this release.

    Raises DecodeError.
    """
    if row.kind != RULE_SET_KIND or row.schema > RULE_SET_SCHEMA:
        return None
    rule_set = rule_set_from_message(registry_pb.RuleSet.FromString(row.payload))
    return AddressedRuleSet(row.origin, row.sequence, row.audience, rule_set)


def rule_set_from_message(message: registry_pb.RuleSet) -> domain_rules.RuleSet:
    """Return a rule set as the rules take it."""
    return domain_rules.RuleSet(
        rule_set_id=message.rule_set_id,
        version=message.version,
        title=message.title,
        title_zh=message.title_zh,
        source_document=message.source_document,
        jurisdiction=message.jurisdiction,
        effective_from=message.effective_from,
        effective_until=message.effective_until,
        gross_limits=tuple(
            domain_rules.GrossLimit(
                code=row.code,
                is_rigid=row.is_rigid,
                axle_count_min=row.axle_count_min,
                axle_count_max=row.axle_count_max,
                combination_kind=row.combination_kind,
                axle_layout=row.axle_layout,
                drive_axle_count=row.drive_axle_count,
                limit_kg=row.limit_kg,
                is_capped_by_registered_mass=row.is_capped_by_registered_mass,
            )
            for row in message.gross_limits
        ),
        modifiers=domain_rules.LimitModifiers(
            single_tires_reduction_kg=message.modifiers.single_tires_reduction_kg,
            air_suspension_limits=tuple(
                domain_rules.AirSuspensionLimit(
                    gross_limit_code=row.gross_limit_code,
                    limit_kg=row.limit_kg,
                    trailer_spacing_min_mm=row.trailer_spacing_min_mm,
                )
                for row in message.modifiers.air_suspension_limits
            ),
            is_capped_by_axle_limits=message.modifiers.is_capped_by_axle_limits,
            is_replaced_by_permit=message.modifiers.is_replaced_by_permit,
            is_low_speed_by_registered_mass=message.modifiers.is_low_speed_by_registered_mass,
        ),
        axle_group_limits=tuple(
            domain_rules.AxleGroupLimit(
                code=row.code,
                axle_count=row.axle_count,
                spacing_min_mm=row.spacing_min_mm,
                spacing_max_mm=row.spacing_max_mm,
                tires=row.tires,
                is_drive=row.is_drive,
                has_air_suspension=row.has_air_suspension,
                limit_kg=row.limit_kg,
            )
            for row in message.axle_group_limits
        ),
        scale_tolerances=tuple(
            domain_rules.ScaleTolerance(scale_kind=row.scale_kind, permille=row.permille)
            for row in message.scale_tolerances
        ),
        severity_bands=domain_rules.SeverityBands(
            warning_excess_max_kg=message.severity_bands.warning_excess_max_kg,
            serious_rate_min_permille=message.severity_bands.serious_rate_min_permille,
            extreme_gross_min_kg=message.severity_bands.extreme_gross_min_kg,
        ),
    )
