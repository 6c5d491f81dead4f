"""Every SQL statement of the enforcement service, by noun: directives and what happens to them, lists, the inbox. Runs
in the caller's transaction.
"""

from services.enforcement.store.directives import (
    ArrivedDirective,
    ArrivedResponse,
    ArrivedWithdrawal,
    Name,
    ResponseRow,
    Row,
    put_directive,
    put_response,
    put_withdrawal,
    read_courses,
    read_directive,
    read_issuers,
    read_recipients,
    read_responses,
    read_withdrawals,
)
from services.enforcement.store.inbox import Change, ChangeRow, lock_inbox, newest_position, read_changes
from services.enforcement.store.lists import DirectiveFilter, list_directives, recipient_platforms

__all__ = [
    "ArrivedDirective",
    "ArrivedResponse",
    "ArrivedWithdrawal",
    "Change",
    "ChangeRow",
    "DirectiveFilter",
    "Name",
    "ResponseRow",
    "Row",
    "list_directives",
    "lock_inbox",
    "newest_position",
    "put_directive",
    "put_response",
    "put_withdrawal",
    "read_changes",
    "read_courses",
    "read_directive",
    "read_issuers",
    "read_recipients",
    "read_responses",
    "read_withdrawals",
    "recipient_platforms",
]
