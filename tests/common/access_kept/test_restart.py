"""What a service has kept of the registry's word on access is known again after a start."""

from datetime import timedelta

import psycopg

from services.common.access.statement import StatementBook
from services.common.access.tokens import bearer, digest, format_token
from services.common.reasons import Reason
from tests.common.access_kept.keeping import SECRET, TOKEN, Start, credential, everything, keep, revoked, said
from tests.common.clocks import NOON, SetClock


def test_what_was_heard_is_known_after_a_start_without_the_registry(start: Start, clock: SetClock) -> None:
    keep(start, everything(NOON, credential(), revoked("t-2")))
    clock.go_on(90)
    again = start()

    assert again.reason(TOKEN) is None
    assert again.reason(format_token("t-2", SECRET)) is Reason.CREDENTIAL_REVOKED
    assert again.knowledge.age_seconds() == 90.0
    assert again.knowledge.known_divisions().is_within("140671", "141026")
    found = again.knowledge.platform("141026")
    assert found is not None
    assert found.upstream_code == "141025"
    caller = again.control.caller_of_metadata(bearer(TOKEN))
    assert caller is not None
    assert caller.principal.source_unit_ids == frozenset({"141025-001"})


def test_every_change_is_kept(start: Start) -> None:
    keep(
        start,
        everything(NOON),
        said(NOON + timedelta(seconds=1), credential("t-2")),
        said(NOON + timedelta(seconds=2), revoked()),
    )
    again = start()
    assert again.reason(TOKEN) is Reason.CREDENTIAL_REVOKED
    assert again.reason(format_token("t-2", SECRET)) is None


def test_a_restart_of_the_registry_forgets_what_it_does_not_say_again(start: Start) -> None:
    keep(start, everything(NOON), everything(NOON + timedelta(seconds=1), credential("t-2")))
    assert start().knowledge.credential("t-1") is None


def test_nothing_is_kept_of_a_statement_that_broke_off(start: Start) -> None:
    keep(start, said(NOON, credential(), is_restart=True, is_complete=False))
    assert not start().knowledge.is_known
    keep(
        start,
        everything(NOON),
        said(NOON + timedelta(seconds=1), credential("t-2"), is_restart=True, is_complete=False),
    )
    again = start()
    assert again.reason(TOKEN) is None
    assert again.knowledge.credential("t-2") is None


def test_what_comes_in_several_messages_is_kept_whole(start: Start) -> None:
    keep(
        start,
        said(NOON, credential(), is_restart=True, is_complete=False),
        said(NOON, credential("t-2"), is_complete=False),
        said(NOON, credential("t-3")),
    )
    again = start()
    assert [again.knowledge.credential(name) is not None for name in ("t-1", "t-2", "t-3")] == [True] * 3


def test_no_secret_and_no_name_is_kept(start: Start, database_url: str) -> None:
    keep(start, everything(NOON))
    with psycopg.connect(database_url) as connection:
        (content,) = connection.execute("SELECT statement FROM access_statements").fetchone() or (b"",)
    assert digest(SECRET) in content
    for text in (SECRET, "示例甲", "甲说遗失"):
        assert text.encode() not in content


def test_the_same_content_is_the_same_statement(clock: SetClock) -> None:
    """Two replicas hear the same in another order; neither may take the other's statement for a change."""
    one, other = StatementBook(), StatementBook()
    one.take(everything(NOON, credential("t-1"), credential("t-2")))
    other.take(everything(clock.now(), credential("t-2")))
    other.take(said(NOON + timedelta(seconds=5), credential("t-1")))
    assert one.content() == other.content()
