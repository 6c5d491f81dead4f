"""The audit log is kept: no program of this project takes anything out of it, and every record names the last one."""

import re

from tests.contract.documents import ROOT

KEPT = ("journal_entries", "journal_nodes", "journal_access_records")
"""Tables that hold the audit log and what proves it (six months at least: Cybersecurity Law, article 21)."""

TAKES_OUT = re.compile(rf"(?is)\b(DELETE\s+FROM|UPDATE|TRUNCATE(\s+TABLE)?|DROP\s+TABLE)\s+({'|'.join(KEPT)})\b")


def programs() -> list[tuple[str, str]]:
    """Return name and text of every module of services and commands."""
    return [
        (str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
        for folder in ("services", "cli", "deploy")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in {".py", ".sql", ".sh", ".yaml"}
    ]


def test_nothing_deletes_or_changes_what_is_kept() -> None:
    assert [name for name, text in programs() if TAKES_OUT.search(text)] == []


def test_the_check_finds_what_it_looks_for() -> None:
    assert TAKES_OUT.search("delete\n from journal_access_records where true")
    assert TAKES_OUT.search("UPDATE journal_entries SET entry = ''")
    assert not TAKES_OUT.search("DELETE FROM journal_parked")


def test_access_records_are_written_in_one_place() -> None:
    """A record that is not linked to the one before it would look like one that was taken out."""
    writers = [
        name for name, text in programs() if "EntryBuilder(KIND, SCHEMA" in text or "access_records.KIND" in text
    ]
    projectors = [name for name, text in programs() if "AccessRecordKind()" in text]
    assert writers == ["services/journal/access_records.py"]
    assert projectors == ["services/journal/access_records.py", "services/journal/mounting.py"]
