"""EnforcementService over gRPC: message in, one call, message out."""

from collections.abc import Iterator

import grpc

from services.common.clock import Clock
from services.enforcement import answers, convert, kinds
from services.enforcement.handlers_issuing import IssuingHandlers
from services.enforcement.handlers_reading import ReadingHandlers
from services.enforcement.handlers_responding import RespondingHandlers
from zhichao.enforcement.v1 import service_pb2 as pb
from zhichao.enforcement.v1 import service_pb2_grpc

_Context = grpc.ServicerContext


class EnforcementServicer(service_pb2_grpc.EnforcementServiceServicer):
    """Serves notices and duty checks."""

    def __init__(
        self, issuing: IssuingHandlers, responding: RespondingHandlers, reading: ReadingHandlers, clock: Clock
    ) -> None:
        self._issuing = issuing
        self._responding = responding
        self._reading = reading
        self._clock = clock

    # Notice

    def IssueNotice(self, request: pb.IssueNoticeRequest, context: _Context) -> pb.IssueNoticeResponse:
        held = self._issuing.issue_notice(request.notice, allow_missing_platforms=request.allow_missing_platforms)
        return pb.IssueNoticeResponse(held_notice=answers.held_notice(held, self._clock.now()))

    def WithdrawNotice(self, request: pb.WithdrawNoticeRequest, context: _Context) -> pb.WithdrawNoticeResponse:
        held = self._issuing.withdraw_notice(request.notice_id, request.reason)
        return pb.WithdrawNoticeResponse(held_notice=answers.held_notice(held, self._clock.now()))

    def AcknowledgeNotice(
        self, request: pb.AcknowledgeNoticeRequest, context: _Context
    ) -> pb.AcknowledgeNoticeResponse:
        responded = self._responding.acknowledge_notice(
            request.issuer, request.notice_id, request.text, convert.officer(request)
        )
        return pb.AcknowledgeNoticeResponse(
            recipient=answers.notice_recipient(responded.recipient, self._clock.now()),
            is_acknowledged_before=responded.is_earlier,
        )

    def GetNotice(self, request: pb.GetNoticeRequest, context: _Context) -> pb.GetNoticeResponse:
        held = self._reading.get(kinds.NOTICE, request.issuer, request.notice_id, request.division_code)
        return pb.GetNoticeResponse(held_notice=answers.held_notice(held, self._clock.now()))

    def ListNotices(self, request: pb.ListNoticesRequest, context: _Context) -> pb.ListNoticesResponse:
        wanted = answers.wanted(request.filter, request.division_code, request.kind)
        page = self._reading.list_directives(kinds.NOTICE, wanted, request.page_size, request.page_token)
        now = self._clock.now()
        return pb.ListNoticesResponse(
            held_notices=[answers.held_notice(held, now) for held in page.items], next_page_token=page.next_page_token
        )

    def ListNoticeRecipients(
        self, request: pb.ListNoticeRecipientsRequest, context: _Context
    ) -> pb.ListNoticeRecipientsResponse:
        page = self._reading.list_recipients(
            kinds.NOTICE,
            request.issuer,
            request.notice_id,
            request.division_code,
            request.page_size,
            request.page_token,
        )
        now = self._clock.now()
        return pb.ListNoticeRecipientsResponse(
            recipients=[answers.notice_recipient(one, now) for one in page.items], next_page_token=page.next_page_token
        )

    # Duty check

    def IssueDutyCheck(self, request: pb.IssueDutyCheckRequest, context: _Context) -> pb.IssueDutyCheckResponse:
        held = self._issuing.issue_duty_check(
            request.duty_check, allow_missing_platforms=request.allow_missing_platforms
        )
        return pb.IssueDutyCheckResponse(held_duty_check=answers.held_duty_check(held, self._clock.now()))

    def AnswerDutyCheck(self, request: pb.AnswerDutyCheckRequest, context: _Context) -> pb.AnswerDutyCheckResponse:
        responded = self._responding.answer_duty_check(
            request.issuer, request.duty_check_id, request.answer, convert.officer(request)
        )
        return pb.AnswerDutyCheckResponse(
            recipient=answers.duty_check_recipient(responded.recipient, self._clock.now()),
            is_answered_before=responded.is_earlier,
        )

    def GetDutyCheck(self, request: pb.GetDutyCheckRequest, context: _Context) -> pb.GetDutyCheckResponse:
        held = self._reading.get(kinds.DUTY_CHECK, request.issuer, request.duty_check_id, request.division_code)
        return pb.GetDutyCheckResponse(held_duty_check=answers.held_duty_check(held, self._clock.now()))

    def ListDutyChecks(self, request: pb.ListDutyChecksRequest, context: _Context) -> pb.ListDutyChecksResponse:
        wanted = answers.wanted(request.filter, request.division_code)
        page = self._reading.list_directives(kinds.DUTY_CHECK, wanted, request.page_size, request.page_token)
        now = self._clock.now()
        return pb.ListDutyChecksResponse(
            held_duty_checks=[answers.held_duty_check(held, now) for held in page.items],
            next_page_token=page.next_page_token,
        )

    def ListDutyCheckRecipients(
        self, request: pb.ListDutyCheckRecipientsRequest, context: _Context
    ) -> pb.ListDutyCheckRecipientsResponse:
        page = self._reading.list_recipients(
            kinds.DUTY_CHECK,
            request.issuer,
            request.duty_check_id,
            request.division_code,
            request.page_size,
            request.page_token,
        )
        now = self._clock.now()
        return pb.ListDutyCheckRecipientsResponse(
            recipients=[answers.duty_check_recipient(one, now) for one in page.items],
            next_page_token=page.next_page_token,
        )

    # Both

    def WatchInbox(self, request: pb.WatchInboxRequest, context: _Context) -> Iterator[pb.WatchInboxResponse]:
        after_position = request.after_position if request.HasField("after_position") else None
        for changes, position in self._reading.watch_inbox(after_position, request.direction, request.division_code):
            now = self._clock.now()
            yield pb.WatchInboxResponse(
                changes=[answers.inbox_change(change, now) for change in changes], position=position
            )
