"""What callers send, and every rule that needs nothing else: notices, duty checks, withdrawals and responses."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Self

from services.enforcement import forms
from services.enforcement.forms import Violation
from services.enforcement.limits import (
    ANSWER_MINUTES_MAX,
    ANSWER_MINUTES_MIN,
    AUDIENCES_MAX,
    BODY_CHARACTERS_MAX,
    DEADLINE_DAYS_MAX,
    QUESTION_CHARACTERS_MAX,
    REASON_CHARACTERS_MAX,
    RESPONSE_CHARACTERS_MAX,
    TITLE_CHARACTERS_MAX,
)


class DirectiveKind(IntEnum):
    """What a directive is; the number stands in the tables."""

    NOTICE = 1
    DUTY_CHECK = 2


class NoticeKind(IntEnum):
    """Kind of a notice, numbered as in the contract."""

    BULLETIN = 1
    INSTRUCTION = 2
    INFORMATION = 3


class AnswerKind(IntEnum):
    """Form of an answer, numbered as in the contract."""

    TEXT = 1
    NUMBER = 2
    YES_NO = 3


class RecipientScope(IntEnum):
    """Who in an audience is asked, numbered as in the contract."""

    SUBTREE = 1
    DIVISION = 2


@dataclass(frozen=True, slots=True)
class Officer:
    """Who speaks for a platform."""

    name: str
    phone_number: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """What the caller says of a notice."""

    notice_id: str
    kind: int
    title: str
    body: str
    deadline_time: datetime | None
    audiences: tuple[str, ...]
    recipient_scope: int
    officer: Officer | None

    def violations(self) -> Iterator[Violation]:
        """Yield every bad field."""
        yield from _described(
            ("notice_id", forms.directive_id(self.notice_id)),
            ("kind", _number(self.kind, NoticeKind)),
            ("title", forms.text(self.title, TITLE_CHARACTERS_MAX)),
            ("body", forms.text(self.body, BODY_CHARACTERS_MAX, has_lines=True)),
        )
        yield from _addressing(self.audiences, self.recipient_scope, self.officer)

    def canonical(self) -> Self:
        """Return it as it is stored and compared: audiences in ascending order."""
        return replace(self, audiences=tuple(sorted(self.audiences)))


@dataclass(frozen=True, slots=True)
class DutyCheck:
    """What the caller says of a duty check."""

    duty_check_id: str
    question: str
    answer_kind: int
    answer_minutes: int
    audiences: tuple[str, ...]
    recipient_scope: int
    officer: Officer | None

    def violations(self) -> Iterator[Violation]:
        """Yield every bad field."""
        yield from _described(
            ("duty_check_id", forms.directive_id(self.duty_check_id)),
            ("question", forms.text(self.question, QUESTION_CHARACTERS_MAX)),
            ("answer_kind", _number(self.answer_kind, AnswerKind)),
        )
        if not ANSWER_MINUTES_MIN <= self.answer_minutes <= ANSWER_MINUTES_MAX:
            described = f"is {self.answer_minutes}, but must be {ANSWER_MINUTES_MIN} to {ANSWER_MINUTES_MAX} minutes"
            yield Violation("answer_minutes", described)
        yield from _addressing(self.audiences, self.recipient_scope, self.officer)

    def canonical(self) -> Self:
        """Return it as it is stored and compared: audiences in ascending order."""
        return replace(self, audiences=tuple(sorted(self.audiences)))

    def deadline_time(self, issue_time: datetime) -> datetime:
        """Return until when it has to be answered when it is issued at a moment."""
        return issue_time + timedelta(minutes=self.answer_minutes)


def deadline_violations(deadline_time: datetime | None, now: datetime) -> Iterator[Violation]:
    """Yield what is wrong with the deadline of a notice that is issued now."""
    if deadline_time is None:
        return
    if deadline_time <= now:
        yield Violation("deadline_time", f"is {_moment(deadline_time)}, but must lie ahead; it is {_moment(now)}")
    elif deadline_time > now + timedelta(days=DEADLINE_DAYS_MAX):
        yield Violation(
            "deadline_time", f"is {_moment(deadline_time)}, but lies at most {DEADLINE_DAYS_MAX} days ahead"
        )


def withdrawal_violations(notice_id: str, reason: str) -> list[Violation]:
    """Return what is wrong with a withdrawal."""
    return list(
        _described(
            ("notice_id", forms.directive_id(notice_id)),
            ("reason", forms.text(reason, REASON_CHARACTERS_MAX)),
        )
    )


def acknowledgement_violations(text: str, officer: Officer | None) -> list[Violation]:
    """Return what is wrong with an acknowledgement; the officer must be named."""
    return [
        *_described(("text", forms.text(text, RESPONSE_CHARACTERS_MAX, is_required=False, has_lines=True))),
        *_officer(officer or Officer("")),
    ]


def answer_violations(answer: str, officer: Officer | None) -> list[Violation]:
    """Return what is wrong with an answer, whatever the question asks for; the officer must be named."""
    return [
        *_described(("answer", forms.text(answer, RESPONSE_CHARACTERS_MAX, has_lines=True))),
        *_officer(officer or Officer("")),
    ]


def answer_form(answer: str, answer_kind: int) -> str:
    """Return what is wrong with the form of an answer, empty when it is what the question asks for.

    A form that this release does not know takes any text: whoever issued it judges the answer.
    """
    match answer_kind:
        case AnswerKind.NUMBER:
            return forms.number(answer)
        case AnswerKind.YES_NO:
            return forms.yes_no(answer)
        case _:
            return ""


def _addressing(audiences: Sequence[str], recipient_scope: int, officer: Officer | None) -> Iterator[Violation]:
    if not 1 <= len(audiences) <= AUDIENCES_MAX:
        yield Violation("audiences", f"has {len(audiences)} divisions, but takes 1 to {AUDIENCES_MAX}")
    else:
        for place, code in enumerate(audiences):
            if description := forms.division_code(code):
                yield Violation(f"audiences[{place}]", description)
            elif code in audiences[:place]:
                yield Violation(f"audiences[{place}]", f"is {code}, which is named before")
    yield from _described(("recipient_scope", _number(recipient_scope, RecipientScope)))
    if officer is not None:
        yield from _officer(officer)


def _officer(officer: Officer) -> Iterator[Violation]:
    return _described(
        ("officer.name", forms.person_name(officer.name)),
        ("officer.phone_number", forms.phone_number(officer.phone_number)),
    )


def _described(*checked: tuple[str, str]) -> Iterator[Violation]:
    for field, description in checked:
        if description:
            yield Violation(field, description)


def _number(value: int, kinds: type[IntEnum]) -> str:
    if value in set(kinds):
        return ""
    return f"is {value}, but must be one of {', '.join(f'{one.value} ({one.name})' for one in kinds)}"


def _moment(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
