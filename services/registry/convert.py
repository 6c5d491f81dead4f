"""Messages of the contract to the domain, and to and from the bytes that the journal keeps. Pure.

What is stored is the message itself and not the domain's copy of it: fields that this release does not know survive.
"""

from datetime import UTC, datetime
from typing import TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from services.registry import domain
from services.registry.forms import Violation
from services.registry.persons import ResponsiblePerson
from zhichao.registry.v1 import resources_pb2 as pb

AnyResource = (
    pb.Division | pb.Platform | pb.SourceUnit | pb.WeighingPoint | pb.Scale | pb.VerificationCertificate | pb.RuleSet
)
Resource = TypeVar("Resource", bound=AnyResource)

# To the domain


def division(message: pb.Division) -> domain.Division:
    """Read a division."""
    return domain.Division(
        division_code=message.division_code,
        name=message.name,
        parent_code=message.parent_code,
        level=message.level,
        valid_from=message.valid_from,
        valid_until=message.valid_until,
        successor_code=message.successor_code,
        is_extra_zone=message.is_extra_zone,
    )


def platform(message: pb.Platform) -> domain.Platform:
    """Read a platform."""
    return domain.Platform(
        platform_code=message.platform_code,
        name=message.name,
        upstream_code=message.upstream_code,
        valid_from=message.valid_from,
        valid_until=message.valid_until,
    )


def source_unit(message: pb.SourceUnit) -> domain.SourceUnit:
    """Read a source unit."""
    return domain.SourceUnit(
        source_unit_id=message.source_unit_id,
        name=message.name,
        credit_code=message.credit_code,
        kind=message.kind,
        division_code=message.division_code,
        data_home_code=message.data_home_code,
        enforcement_code=message.enforcement_code,
        location=_location(message),
        state=message.state,
        rule_set_id=message.rule_set_id,
        responsible_persons=tuple(
            ResponsiblePerson(person.duty, person.name, person.phone_number) for person in message.responsible_persons
        ),
    )


def weighing_point(message: pb.WeighingPoint) -> domain.WeighingPoint:
    """Read a weighing point; whether it is in use needs no check."""
    return domain.WeighingPoint(
        source_unit_id=message.source_unit_id,
        weighing_point_id=message.weighing_point_id,
        name=message.name,
        location=_location(message),
    )


def scale(message: pb.Scale) -> domain.Scale:
    """Read a scale; whether it is in use needs no check."""
    return domain.Scale(
        source_unit_id=message.source_unit_id,
        weighing_point_id=message.weighing_point_id,
        scale_id=message.scale_id,
        kind=message.kind,
        accuracy_class=message.accuracy_class,
        capacity_kg=message.capacity_kg,
        division_kg=message.division_kg if message.HasField("division_kg") else None,
        model=message.model,
        serial_number=message.serial_number,
    )


def verification_certificate(message: pb.VerificationCertificate) -> domain.VerificationCertificate:
    """Read a verification certificate."""
    return domain.VerificationCertificate(
        source_unit_id=message.source_unit_id,
        scale_id=message.scale_id,
        certificate_number=message.certificate_number,
        issuer=message.issuer,
        valid_from=message.valid_from,
        valid_until=message.valid_until,
    )


def _location(message: pb.SourceUnit | pb.WeighingPoint) -> domain.GeoPoint | None:
    if not message.HasField("location"):
        return None
    return domain.GeoPoint(message.location.latitude_degrees, message.location.longitude_degrees)


# To and from what is kept


def copy_of(message: Resource) -> Resource:
    """Return a copy that may be changed."""
    made = type(message)()
    # Copies unknown fields too.
    made.CopyFrom(message)  # type: ignore[arg-type]  # both are of the one type
    return made


def is_same_content(left: AnyResource, right: AnyResource) -> bool:
    """Compare two resources of one kind without what the registry itself keeps about them."""
    left, right = copy_of(left), copy_of(right)
    left.ClearField("info")
    right.ClearField("info")
    return left == right


def to_payload(message: AnyResource, create_time: datetime, update_time: datetime) -> bytes:
    """Return the payload of a journal entry: the resource after the change, with its two times as all of its `info`.

    Owner and etag follow from the entry's place, warnings from the content: they are made when the resource is read.
    The times inside make the row a function of the newest entry alone, also when older entries were pruned.
    """
    kept = copy_of(message)
    kept.info.Clear()
    kept.info.create_time.CopyFrom(_timestamp(create_time))
    kept.info.update_time.CopyFrom(_timestamp(update_time))
    return kept.SerializeToString(deterministic=True)


def times(message: AnyResource) -> tuple[datetime, datetime]:
    """Return when a resource read from a payload was created and changed. Raises ValueError when that is not in it."""
    info = message.info
    if not info.HasField("create_time") or not info.HasField("update_time"):
        raise ValueError("info.create_time and info.update_time must be in the payload")
    return info.create_time.ToDatetime(tzinfo=UTC), info.update_time.ToDatetime(tzinfo=UTC)


def complete(message: AnyResource, origin: str, sequence: int, etag: str, warnings: list[Violation]) -> None:
    """Add to a resource read from a payload what follows from its place and content."""
    message.info.origin = origin
    message.info.sequence = sequence
    message.info.etag = etag
    del message.info.warnings[:]
    for field, description in warnings:
        message.info.warnings.add(field=field, description=description)


def set_fields(target: Message, source: Message, fields: list[str]) -> None:
    """Copy whole fields; one that is absent in the source becomes absent."""
    for name in fields:
        target.ClearField(name)
        descriptor = source.DESCRIPTOR.fields_by_name[name]
        value = getattr(source, name)
        if descriptor.is_repeated:
            getattr(target, name).extend(value)
        elif descriptor.message_type is None:
            if not descriptor.has_presence or source.HasField(name):
                setattr(target, name, value)
        elif source.HasField(name):
            getattr(target, name).CopyFrom(value)


def _timestamp(moment: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(moment)
    return message
