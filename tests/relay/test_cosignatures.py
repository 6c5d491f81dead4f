"""Handing over cosignatures: the newest of a log, also to a service that is away for a while."""

import threading
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from services.relay import cosignatures
from services.relay.cosignature_feed import CosignatureFeed
from services.relay.cosignatures import Cosignatures
from services.relay.standing import LogKey

WAIT_SECONDS = 10.0
KEY = LogKey("weighing", "141025")


class Refusal(grpc.RpcError):
    """How a call fails."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "away"

    def trailing_metadata(self) -> tuple[Any, ...]:
        return ()


class Owner:
    """A local service that fails some calls before it takes the rest."""

    def __init__(self, *failures: grpc.StatusCode) -> None:
        self.failures = list(failures)
        self.notes: list[str] = []
        self.has_failed = threading.Event()
        self.has_taken = threading.Event()
        self.journal = SimpleNamespace(AddCosignatures=self._add)

    def _add(self, request: Any, timeout: float) -> None:
        if self.failures:
            self.has_failed.set()
            raise Refusal(self.failures.pop(0))
        self.notes.append(request.checkpoint)
        self.has_taken.set()


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cosignatures, "COSIGNATURE_INTERVAL_SECONDS", 0.01)


def hand_over(owner: Owner) -> Cosignatures:
    handing = Cosignatures(lambda _stream: owner, CosignatureFeed())  # type: ignore[arg-type,return-value]  # wrong or untyped on purpose
    handing.start()
    return handing


def test_a_note_waits_for_a_service_that_is_away() -> None:
    owner = Owner(grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE)
    handing = hand_over(owner)
    handing.add(KEY, "note")
    assert owner.has_taken.wait(WAIT_SECONDS)
    handing.stop(WAIT_SECONDS)
    assert owner.notes == ["note"]


def test_a_note_that_is_refused_is_given_up() -> None:
    owner = Owner(grpc.StatusCode.INVALID_ARGUMENT)
    handing = hand_over(owner)
    handing.add(KEY, "refused")
    assert owner.has_failed.wait(WAIT_SECONDS)
    handing.add(KEY, "newer")
    assert owner.has_taken.wait(WAIT_SECONDS)
    handing.stop(WAIT_SECONDS)
    assert owner.notes == ["newer"]
