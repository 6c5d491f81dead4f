"""Notices, duty checks and answers that are fine, and what tests ask of them."""

from datetime import datetime
from typing import Any

from tests.enforcement.harness import CITY, COUNTY, RunningEnforcement
from zhichao.enforcement.v1 import directive_pb2, duty_check_pb2, notice_pb2
from zhichao.enforcement.v1 import service_pb2 as pb
from zhichao.enforcement.v1.service_pb2_grpc import EnforcementServiceStub

OFFICER = directive_pb2.Officer(name="示例警官", phone_number="+8635100000000")


def notice(
    notice_id: str = "n-1", *audiences: str, deadline: datetime | None = None, **fields: Any
) -> notice_pb2.Notice:
    """Return a notice to the city's subtree, unless told otherwise."""
    made = notice_pb2.Notice(
        notice_id=notice_id,
        kind=fields.pop("kind", notice_pb2.NOTICE_KIND_BULLETIN),
        title=fields.pop("title", "关于加强源头称重的通报"),
        body=fields.pop("body", "各县：\n请立即核查。"),
        audiences=audiences or (CITY,),
        **fields,
    )
    if deadline is not None:
        made.deadline_time.FromDatetime(deadline)
    return made


def duty_check(
    duty_check_id: str = "dc-1", *audiences: str, minutes: int = 10, **fields: Any
) -> duty_check_pb2.DutyCheck:
    """Return a duty check of the county, unless told otherwise."""
    return duty_check_pb2.DutyCheck(
        duty_check_id=duty_check_id,
        question=fields.pop("question", "当前值班人员是谁？"),
        answer_minutes=minutes,
        audiences=audiences or (COUNTY,),
        **fields,
    )


def issue_notice(service: RunningEnforcement, made: notice_pb2.Notice, **fields: Any) -> pb.HeldNotice:
    found: pb.HeldNotice = service.call("IssueNotice", pb.IssueNoticeRequest(notice=made, **fields)).held_notice
    return found


def issue_duty_check(service: RunningEnforcement, made: duty_check_pb2.DutyCheck, **fields: Any) -> pb.HeldDutyCheck:
    found: pb.HeldDutyCheck = service.call(
        "IssueDutyCheck", pb.IssueDutyCheckRequest(duty_check=made, **fields)
    ).held_duty_check
    return found


def acknowledge(
    service: RunningEnforcement,
    issuer: str,
    notice_id: str = "n-1",
    stub: EnforcementServiceStub | None = None,
    **fields: Any,
) -> pb.AcknowledgeNoticeResponse:
    request = pb.AcknowledgeNoticeRequest(
        issuer=issuer, notice_id=notice_id, officer=fields.pop("officer", OFFICER), **fields
    )
    found: pb.AcknowledgeNoticeResponse = service.call("AcknowledgeNotice", request, stub)
    return found


def answer(
    service: RunningEnforcement,
    issuer: str,
    duty_check_id: str = "dc-1",
    said: str = "在岗",
    stub: EnforcementServiceStub | None = None,
) -> pb.AnswerDutyCheckResponse:
    request = pb.AnswerDutyCheckRequest(issuer=issuer, duty_check_id=duty_check_id, answer=said, officer=OFFICER)
    found: pb.AnswerDutyCheckResponse = service.call("AnswerDutyCheck", request, stub)
    return found


def get_notice(service: RunningEnforcement, issuer: str = "", notice_id: str = "n-1", **fields: Any) -> pb.HeldNotice:
    found: pb.HeldNotice = service.call(
        "GetNotice", pb.GetNoticeRequest(issuer=issuer, notice_id=notice_id, **fields)
    ).held_notice
    return found


def get_duty_check(
    service: RunningEnforcement, issuer: str = "", duty_check_id: str = "dc-1", **fields: Any
) -> pb.HeldDutyCheck:
    request = pb.GetDutyCheckRequest(issuer=issuer, duty_check_id=duty_check_id, **fields)
    found: pb.HeldDutyCheck = service.call("GetDutyCheck", request).held_duty_check
    return found


def notice_recipients(
    service: RunningEnforcement, issuer: str = "", notice_id: str = "n-1", **fields: Any
) -> dict[str, pb.NoticeRecipient]:
    request = pb.ListNoticeRecipientsRequest(issuer=issuer, notice_id=notice_id, **fields)
    return {one.platform_code: one for one in service.call("ListNoticeRecipients", request).recipients}


def duty_check_recipients(
    service: RunningEnforcement, issuer: str = "", duty_check_id: str = "dc-1", **fields: Any
) -> dict[str, pb.DutyCheckRecipient]:
    request = pb.ListDutyCheckRecipientsRequest(issuer=issuer, duty_check_id=duty_check_id, **fields)
    return {one.platform_code: one for one in service.call("ListDutyCheckRecipients", request).recipients}
