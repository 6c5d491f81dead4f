"""The two kinds of directives: which messages they are, which fields differ, and the kinds of their journal entries."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from services.enforcement.domain import DirectiveKind
from zhichao.enforcement.v1 import duty_check_pb2, notice_pb2

AnyDirective = notice_pb2.Notice | duty_check_pb2.DutyCheck
AnyResponse = notice_pb2.NoticeAcknowledgement | duty_check_pb2.DutyCheckAnswer
Directive = TypeVar("Directive", bound=AnyDirective)
Response = TypeVar("Response", bound=AnyResponse)

SCHEMA: Final = 1
"""Version of the meaning of all payloads here."""


@dataclass(frozen=True, slots=True)
class Kind(Generic[Directive, Response]):
    """One kind of directive."""

    number: DirectiveKind
    directive_type: str
    """Name in requests and refusals, for example `duty_check`."""
    title_zh: str
    """Name for people."""
    message: type[Directive]
    response: type[Response]
    subkind_field: str
    """What lists filter by."""
    response_time_field: str

    @property
    def id_field(self) -> str:
        """Field of both messages that holds the id."""
        return f"{self.directive_type}_id"

    @property
    def directive_kind(self) -> str:
        """Kind of its journal entries."""
        return str(self.message.DESCRIPTOR.full_name)

    @property
    def response_kind(self) -> str:
        """Kind of the journal entries of responses."""
        return str(self.response.DESCRIPTOR.full_name)

    def parse(self, content: bytes) -> Directive:
        """Read a directive. Raises DecodeError."""
        message = self.message()
        message.ParseFromString(content)
        return message

    def parse_response(self, content: bytes) -> Response:
        """Read a response. Raises DecodeError."""
        message = self.response()
        message.ParseFromString(content)
        return message

    def id_of(self, message: Directive | Response) -> str:
        """Return the id of a directive, or of the one that a response is to."""
        return str(getattr(message, self.id_field))


NOTICE: Final = Kind(
    DirectiveKind.NOTICE,
    "notice",
    "通报",
    notice_pb2.Notice,
    notice_pb2.NoticeAcknowledgement,
    "kind",
    "acknowledge_time",
)
DUTY_CHECK: Final = Kind(
    DirectiveKind.DUTY_CHECK,
    "duty_check",
    "查岗",
    duty_check_pb2.DutyCheck,
    duty_check_pb2.DutyCheckAnswer,
    "answer_kind",
    "answer_time",
)
KINDS: Final[tuple[Kind[Any, Any], ...]] = (NOTICE, DUTY_CHECK)

BY_NUMBER: Final[Mapping[int, Kind[Any, Any]]] = {kind.number: kind for kind in KINDS}

WITHDRAWAL_KIND: Final = str(notice_pb2.NoticeWithdrawal.DESCRIPTOR.full_name)
"""Kind of the journal entries that take a notice back."""

AnyKind = Kind[Any, Any]
