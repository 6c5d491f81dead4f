"""What callers send, field by field: what is taken, and that every bad field is named at once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import IntEnum

import pytest

from services.enforcement import domain
from services.enforcement.domain import AnswerKind, DutyCheck, Notice, NoticeKind, Officer, RecipientScope
from services.enforcement.rules import Direction, DutyCheckState, NoticeState, Standing
from services.enforcement.store import Change
from zhichao.enforcement.v1 import directive_pb2, duty_check_pb2, notice_pb2, service_pb2

NOW = datetime(2025, 3, 1, 4, 0, tzinfo=UTC)

NOTICE = Notice(
    notice_id="2025-007",
    kind=NoticeKind.BULLETIN,
    title="关于加强源头称重的通报",
    body="第一段\n第二段",
    deadline_time=None,
    audiences=("141000", "141100"),
    recipient_scope=RecipientScope.SUBTREE,
    officer=Officer("示例", "+8635100000000"),
)
CHECK = DutyCheck(
    duty_check_id="dc-1",
    question="1 加 1 等于几？",
    answer_kind=AnswerKind.NUMBER,
    answer_minutes=10,
    audiences=("141000",),
    recipient_scope=RecipientScope.DIVISION,
    officer=None,
)


def _fields(said: Notice | DutyCheck) -> list[str]:
    return [violation.field for violation in said.violations()]


def test_good_ones_are_taken() -> None:
    assert (_fields(NOTICE), _fields(CHECK)) == ([], [])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"notice_id": ""}, "notice_id"),
        ({"notice_id": "编号"}, "notice_id"),
        ({"notice_id": "x" * 65}, "notice_id"),
        ({"kind": 0}, "kind"),
        ({"kind": 4}, "kind"),
        ({"title": ""}, "title"),
        ({"title": "长" * 129}, "title"),
        ({"title": "两\n行"}, "title"),
        ({"body": "长" * 8_001}, "body"),
        ({"body": "a\rb"}, "body"),
        ({"body": " leading"}, "body"),
        ({"body": "right\u202eleft"}, "body"),
        ({"audiences": ()}, "audiences"),
        ({"audiences": tuple(f"{number:06}" for number in range(201))}, "audiences"),
        ({"audiences": ("141000", "14100")}, "audiences[1]"),
        ({"audiences": ("141000", "１４１０００")}, "audiences[1]"),
        ({"audiences": ("141000", "141000")}, "audiences[1]"),
        ({"recipient_scope": 3}, "recipient_scope"),
        ({"officer": Officer("")}, "officer.name"),
        ({"officer": Officer("张*")}, "officer.name"),
        ({"officer": Officer("示例", "12-34")}, "officer.phone_number"),
    ],
)
def test_a_bad_field_of_a_notice_is_named(changes: dict[str, object], field: str) -> None:
    assert _fields(replace(NOTICE, **changes)) == [field]  # type: ignore[arg-type]  # any field


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"duty_check_id": "a b"}, "duty_check_id"),
        ({"question": ""}, "question"),
        ({"question": "问" * 501}, "question"),
        ({"answer_kind": 9}, "answer_kind"),
        ({"answer_minutes": 0}, "answer_minutes"),
        ({"answer_minutes": 1_441}, "answer_minutes"),
    ],
)
def test_a_bad_field_of_a_duty_check_is_named(changes: dict[str, object], field: str) -> None:
    assert _fields(replace(CHECK, **changes)) == [field]  # type: ignore[arg-type]  # any field


@pytest.mark.parametrize("minutes", [1, 1_440])
def test_the_bounds_of_the_time_to_answer_are_taken(minutes: int) -> None:
    assert _fields(replace(CHECK, answer_minutes=minutes)) == []


def test_all_bad_fields_are_named_at_once() -> None:
    bad = replace(NOTICE, notice_id="", kind=0, title="", body="", audiences=(), recipient_scope=0, officer=Officer(""))

    assert _fields(bad) == [
        "notice_id",
        "kind",
        "title",
        "body",
        "audiences",
        "recipient_scope",
        "officer.name",
    ]


def test_the_officer_is_never_shown() -> None:
    told = "".join(
        violation.description
        for violation in replace(NOTICE, officer=Officer("Secret*Name", "secret-phone")).violations()
    )

    assert "Secret" not in told
    assert "secret" not in told


@pytest.mark.parametrize(
    ("ahead", "is_taken"),
    [
        (timedelta(seconds=1), True),
        (timedelta(0), False),
        (timedelta(seconds=-1), False),
        (timedelta(days=366), True),
        (timedelta(days=366, seconds=1), False),
    ],
)
def test_a_deadline_lies_ahead_and_not_too_far(ahead: timedelta, is_taken: bool) -> None:
    assert [v.field for v in domain.deadline_violations(NOW + ahead, NOW)] == ([] if is_taken else ["deadline_time"])


def test_no_deadline_is_no_violation() -> None:
    assert list(domain.deadline_violations(None, NOW)) == []


def test_a_withdrawal_names_a_notice_and_a_reason() -> None:
    assert [v.field for v in domain.withdrawal_violations("", "")] == ["notice_id", "reason"]
    assert [v.field for v in domain.withdrawal_violations("n", "长" * 257)] == ["reason"]
    assert domain.withdrawal_violations("n", "有误") == []


def test_who_responds_is_named() -> None:
    assert [v.field for v in domain.acknowledgement_violations("", None)] == ["officer.name"]
    assert [v.field for v in domain.acknowledgement_violations("长" * 1_001, Officer("示例"))] == ["text"]
    assert domain.acknowledgement_violations("", Officer("示例")) == []


def test_an_answer_is_not_empty() -> None:
    assert [v.field for v in domain.answer_violations("", None)] == ["answer", "officer.name"]
    assert domain.answer_violations("在岗", Officer("示例")) == []


@pytest.mark.parametrize(
    ("answer", "kind", "is_taken"),
    [
        ("2", AnswerKind.NUMBER, True),
        ("-2.5", AnswerKind.NUMBER, True),
        ("123456789012345.123456", AnswerKind.NUMBER, True),
        ("1234567890123456", AnswerKind.NUMBER, False),
        ("1.", AnswerKind.NUMBER, False),
        ("1e3", AnswerKind.NUMBER, False),
        ("２", AnswerKind.NUMBER, False),
        ("两", AnswerKind.NUMBER, False),
        ("yes", AnswerKind.YES_NO, True),
        ("no", AnswerKind.YES_NO, True),
        ("Yes", AnswerKind.YES_NO, False),
        ("是", AnswerKind.YES_NO, False),
        ("anything", AnswerKind.TEXT, True),
        # Of a newer issuer: whoever asked judges the answer.
        ("anything", 9, True),
    ],
)
def test_an_answer_has_the_form_that_was_asked_for(answer: str, kind: int, is_taken: bool) -> None:
    assert (domain.answer_form(answer, kind) == "") == is_taken


def test_the_same_audiences_in_another_order_are_the_same_notice() -> None:
    other = replace(NOTICE, audiences=tuple(reversed(NOTICE.audiences)))

    assert other != NOTICE
    assert other.canonical() == NOTICE.canonical()


def test_the_time_to_answer_runs_from_the_issue() -> None:
    assert CHECK.deadline_time(NOW) == NOW + timedelta(minutes=10)


@pytest.mark.parametrize(
    ("numbers", "prefix", "enum"),
    [
        (NoticeKind, "NOTICE_KIND_", notice_pb2.NoticeKind),
        (AnswerKind, "ANSWER_KIND_", duty_check_pb2.AnswerKind),
        (RecipientScope, "RECIPIENT_SCOPE_", directive_pb2.RecipientScope),
        (Direction, "DIRECTION_", directive_pb2.Direction),
        (Standing, "STANDING_", directive_pb2.Standing),
        (NoticeState, "RECIPIENT_STATE_", service_pb2.RecipientState),
        (DutyCheckState, "DUTY_CHECK_STATE_", service_pb2.DutyCheckState),
        (Change, "INBOX_CHANGE_KIND_", service_pb2.InboxChangeKind),
    ],
)
def test_numbers_are_those_of_the_contract(numbers: type[IntEnum], prefix: str, enum: object) -> None:
    assert {prefix + one.name: one.value for one in numbers} == {
        name: number
        for name, number in enum.items()  # type: ignore[attr-defined]  # a wrapped enum
        if number
    }
