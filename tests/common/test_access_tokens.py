"""Tokens as they are written and read, and the file by which the services of a platform know each other."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from services.common.access import tokens
from services.common.access.tokens import (
    ServiceTokens,
    Token,
    TokenFileError,
    format_service_token,
    format_token,
    new_secret,
    presented_token,
)

FIRST, SECOND = "A" * 43, "B" * 43


def test_secrets_are_long_and_differ() -> None:
    made = {new_secret() for _ in range(100)}

    assert len(made) == 100
    assert {len(secret) for secret in made} == {43}


def test_tokens_are_read_as_they_were_written() -> None:
    secret = new_secret()

    assert presented_token(f"Bearer {format_token('141025-t-1', secret)}") == Token("141025-t-1", secret)
    assert presented_token(f"bearer {format_service_token(secret)}") == Token("", secret)


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Basic zhichao.t-1.{FIRST}",
        f"zhichao.t-1.{FIRST}",
        f"Bearer zhichao.t-1.{FIRST}A",
        f"Bearer zhichao.t-1.{FIRST[1:]}",
        f"Bearer zhichao.T-1.{FIRST}",
        f"Bearer zhichao..{FIRST}",
        f"Bearer zhichao.{FIRST}",
        f"Bearer zhichao-service.t-1.{FIRST}",
        f"Bearer zhichao.a.b.{FIRST}",
        f"Bearer zhichao.{'t' * 65}.{FIRST}",
        "Bearer " + "x" * 10_000,
        f"Bearer zhichao.t-1.{'Ａ' * 43}",
    ],
)
def test_what_is_no_token_of_ours(authorization: str) -> None:
    assert presented_token(authorization) is None


@given(st.text(max_size=300))
def test_no_text_makes_reading_fail(text: str) -> None:
    presented_token(text)
    found = presented_token(f"Bearer {text}")
    assert found is None or len(found.secret) == 43


# The file


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tokens, "FILE_CHECK_SECONDS", 0.0)
    return tmp_path / "service.token"


def test_a_rotation_interrupts_nobody(path: Path) -> None:
    path.write_text(FIRST)
    known = ServiceTokens(path)
    states = []
    # As the contract of the file says: the new one below, then on top, then alone.
    for content in (f"{FIRST}\n", f"{FIRST}\n{SECOND}\n", f"{SECOND}\n\n{FIRST}\n", SECOND):
        written = path.with_suffix(".new")
        written.write_text(content)
        written.replace(path)
        states.append((known.sent()[-1], known.accepts(FIRST), known.accepts(SECOND)))

    assert states == [("A", True, False), ("A", True, True), ("B", True, True), ("B", False, True)]


def test_a_whole_token_may_stand_in_the_file(path: Path) -> None:
    path.write_text(format_service_token(FIRST))

    assert ServiceTokens(path).sent() == format_service_token(FIRST)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"short", FIRST.encode() + b"\nshort", b"\xff" * 43, b"A" * 44])
def test_a_file_that_holds_no_secret_is_refused_without_showing_it(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(TokenFileError) as refused:
        ServiceTokens(path)

    assert str(path) in str(refused.value)
    assert "short" not in str(refused.value)


def test_a_file_that_is_not_there(path: Path) -> None:
    with pytest.raises(TokenFileError, match="No such file"):
        ServiceTokens(path)


@pytest.mark.parametrize("content", [None, "", "nonsense"])
def test_a_file_that_becomes_bad_leaves_the_former_in_force(path: Path, content: str | None) -> None:
    path.write_text(FIRST)
    known = ServiceTokens(path)
    path.unlink()
    if content is not None:
        path.write_text(content)
    with capture_logs() as events:
        assert known.accepts(FIRST)
        assert known.sent() == format_service_token(FIRST)

    assert {event["event"] for event in events} == {"service_secrets_not_taken"}
    assert FIRST not in repr(events)
