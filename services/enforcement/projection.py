"""Makes rows of journal entries: of received ones, from above and from below, and of the own as they are written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from services.common.database import RawConnection
from services.common.instants import moment
from services.enforcement import forms, kinds, store
from services.enforcement.domain import DirectiveKind
from services.enforcement.kinds import AnyDirective, AnyResponse, Kind
from services.enforcement.limits import AUDIENCES_MAX, RECIPIENTS_MAX
from services.enforcement.store import ArrivedDirective, ArrivedResponse, ArrivedWithdrawal
from services.journal.projection import Unprojectable
from zhichao.enforcement.v1 import notice_pb2


@dataclass(frozen=True, slots=True)
class PreparedDirective:
    """A directive read from an entry, before its place is known."""

    kind: DirectiveKind
    directive_id: str
    issue_time: datetime
    deadline_time: datetime | None
    subkind: int
    audiences: tuple[str, ...]
    recipients: tuple[str, ...]
    content: bytes


@dataclass(frozen=True, slots=True)
class PreparedWithdrawal:
    """A withdrawal read from an entry."""

    kind: DirectiveKind
    directive_id: str
    content: bytes


@dataclass(frozen=True, slots=True)
class PreparedResponse:
    """A response read from an entry. Who responds is the owner of the log that it stands in."""

    kind: DirectiveKind
    issuer: str
    directive_id: str
    response_time: datetime
    content: bytes


Prepared = PreparedDirective | PreparedWithdrawal | PreparedResponse


class EnforcementProjection:
    """The tables as a function of the journal, in whatever order logs and replayed entries come.

    Only what has a column is checked: the origin has applied its own rules. The issuer of a directive, and who
    responds, are the owners of the logs; no payload says otherwise. A response to a directive that is not held is kept:
    the directive may come later, from another direction.
    """

    kinds: Mapping[str, int] = MappingProxyType(
        {
            **{kind.directive_kind: kinds.SCHEMA for kind in kinds.KINDS},
            **{kind.response_kind: kinds.SCHEMA for kind in kinds.KINDS},
            kinds.WITHDRAWAL_KIND: kinds.SCHEMA,
        }
    )

    def prepare(self, origin: str, kind: str, payload: bytes, leaf: bytes) -> Prepared:
        """Parse one payload. Raises Unprojectable when it is no such message, or lacks what has a column."""
        del origin, leaf
        if kind == kinds.WITHDRAWAL_KIND:
            return prepare_withdrawal(payload)
        if kind in _DIRECTIVES:
            return prepare_directive(_DIRECTIVES[kind], payload)
        return prepare_response(_RESPONSES[kind], payload)

    def project(self, connection: RawConnection, origin: str, prepared: Sequence[tuple[int, Prepared]]) -> None:
        """Write the rows of entries of one log, and tell screens of what is new."""
        store.lock_inbox(connection)
        for sequence, one in prepared:
            match one:
                case PreparedDirective():
                    store.put_directive(
                        connection,
                        ArrivedDirective(
                            origin,
                            one.kind,
                            one.directive_id,
                            sequence,
                            one.issue_time,
                            one.deadline_time,
                            one.subkind,
                            one.audiences,
                            one.recipients,
                            one.content,
                        ),
                    )
                case PreparedWithdrawal():
                    store.put_withdrawal(
                        connection, ArrivedWithdrawal(origin, one.kind, one.directive_id, sequence, one.content)
                    )
                case PreparedResponse():
                    store.put_response(
                        connection,
                        ArrivedResponse(
                            one.issuer, one.kind, one.directive_id, origin, sequence, one.response_time, one.content
                        ),
                    )


_DIRECTIVES: Final[Mapping[str, Kind[Any, Any]]] = {kind.directive_kind: kind for kind in kinds.KINDS}
_RESPONSES: Final[Mapping[str, Kind[Any, Any]]] = {kind.response_kind: kind for kind in kinds.KINDS}


def prepare_directive(kind: Kind[Any, Any], payload: bytes) -> PreparedDirective:
    """Read the payload of a directive. Raises Unprojectable."""
    message: AnyDirective = _parse(kind.message, payload)
    directive_id = kind.id_of(message)
    if not message.audiences:
        raise Unprojectable("audiences is empty")
    for field, codes, codes_max in (
        ("audiences", message.audiences, AUDIENCES_MAX),
        ("recipients", message.recipients, RECIPIENTS_MAX),
    ):
        if len(codes) > codes_max:
            raise Unprojectable(f"{field} has {len(codes)} values, more than {codes_max}")
        for code in codes:
            _refuse(field, forms.division_code(code))
    _refuse(kind.id_field, forms.directive_id(directive_id))
    has_deadline = kind.number is DirectiveKind.DUTY_CHECK or message.HasField("deadline_time")
    return PreparedDirective(
        kind.number,
        directive_id,
        _moment(message, "issue_time"),
        _moment(message, "deadline_time") if has_deadline else None,
        getattr(message, kind.subkind_field),
        tuple(message.audiences),
        tuple(sorted(set(message.recipients))),
        payload,
    )


def prepare_withdrawal(payload: bytes) -> PreparedWithdrawal:
    """Read the payload of a withdrawal. Raises Unprojectable."""
    message = _parse(notice_pb2.NoticeWithdrawal, payload)
    _refuse("notice_id", forms.directive_id(message.notice_id))
    _moment(message, "withdraw_time")
    return PreparedWithdrawal(DirectiveKind.NOTICE, message.notice_id, payload)


def prepare_response(kind: Kind[Any, Any], payload: bytes) -> PreparedResponse:
    """Read the payload of a response. Raises Unprojectable."""
    message: AnyResponse = _parse(kind.response, payload)
    directive_id = kind.id_of(message)
    _refuse("issuer", forms.division_code(message.issuer))
    _refuse(kind.id_field, forms.directive_id(directive_id))
    response_time = _moment(message, kind.response_time_field)
    return PreparedResponse(kind.number, message.issuer, directive_id, response_time, payload)


def _parse(message: Any, payload: bytes) -> Any:
    try:
        return message.FromString(payload)
    except DecodeError as error:
        raise Unprojectable(f"the payload is not a {message.DESCRIPTOR.full_name}") from error


def _moment(message: Message, field: str) -> datetime:
    if not message.HasField(field):
        raise Unprojectable(f"{field} is missing")
    try:
        return moment(getattr(message, field))
    except ValueError as error:
        raise Unprojectable(f"{field} {error}") from error


def _refuse(field: str, description: str) -> None:
    if description:
        raise Unprojectable(f"{field} {description}")
