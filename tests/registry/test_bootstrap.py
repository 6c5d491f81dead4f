"""The first security administrator: let in by a file as long as there is nobody else, and no longer."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from services.common.access import tokens
from services.common.reasons import Reason
from services.common.settings import SettingsError
from services.registry.app import build
from services.registry.config import RegistryConfig
from tests.conftest import Databases
from tests.registry import access_examples
from tests.registry.access_calls import Access
from tests.registry.harness import TIMEOUT_SECONDS, RunningRegistry, eventually
from zhichao.access.v1 import credential_pb2 as pb
from zhichao.journal.v1 import entry_pb2

VARIABLE = "ZHICHAO_REGISTRY_BOOTSTRAP_TOKEN_FILE"


class NewRegistry(RunningRegistry):
    """A registry to which nobody has been appointed."""

    def _issue_first(self) -> None:
        return

    def first(self) -> Access:
        """Return the first security administrator."""
        return Access.of(self, self.bootstrap_token)


@pytest.fixture
def new(databases: Databases, socket_directory: Path) -> Iterator[NewRegistry]:
    registry = NewRegistry(databases, socket_directory, "141025")
    yield registry
    registry.close()


def administrator(credential_id: str) -> pb.Credential:
    return access_examples.person("141025", "SECURITY_ADMINISTRATOR", credential_id=credential_id)


def test_the_bootstrap_token_appoints_the_first_and_is_over_then(new: NewRegistry) -> None:
    assert new.first().identity().principal == "person/bootstrap"

    issued = new.first().create(administrator("admin"))

    refused = new.first().refused_identity()
    assert (refused.status, refused.reason) == ("UNAUTHENTICATED", Reason.CREDENTIAL_REVOKED)
    assert "only while the platform has no valid credential of a security administrator" in refused.message
    assert Access.of(new, issued.token).identity().principal == "person/admin"
    entry = entry_pb2.Entry.FromString(new.entries()[-1])
    assert entry.actor == "person/bootstrap"


def test_it_opens_nothing_but_credentials(new: NewRegistry) -> None:
    names = set(new.first().identity().permissions)
    assert names == {1, 2, 6, 7}


def test_a_wrong_secret_is_refused_like_any_other(new: NewRegistry) -> None:
    wrong = tokens.format_token("bootstrap", tokens.new_secret())
    assert Access.of(new, wrong).refused_identity().reason is Reason.INVALID_CREDENTIALS


def test_others_that_are_issued_leave_it_open(new: NewRegistry) -> None:
    new.first().create(access_examples.person("141025", "SYSTEM_ADMINISTRATOR"))
    new.first().create(access_examples.person("141025", "AUDITOR"))
    assert new.first().identity().principal == "person/bootstrap"


def test_of_two_who_use_it_at_once_one_is_the_first(new: NewRegistry) -> None:
    callers = [new.first() for _ in range(6)]

    def appoint(number: int) -> str:
        try:
            callers[number].create(administrator(f"admin-{number}"))
        except grpc.RpcError:
            return "refused"
        return "appointed"

    with ThreadPoolExecutor(len(callers)) as executor:
        outcomes = list(executor.map(appoint, range(len(callers)), timeout=TIMEOUT_SECONDS))

    assert sorted(outcomes) == ["appointed"] + ["refused"] * 5


def test_a_restart_does_not_open_it_again(new: NewRegistry) -> None:
    new.first().create(administrator("admin"))
    new.stop()
    new.start()
    assert new.first().refused_identity().reason is Reason.CREDENTIAL_REVOKED


def test_it_opens_again_when_the_last_administrator_has_ended(new: NewRegistry) -> None:
    issued = new.first().create(administrator("admin"))
    new.clock.moment += timedelta(days=400)
    assert Access.of(new, issued.token).refused_identity().reason is Reason.CREDENTIAL_EXPIRED

    def is_open() -> bool:
        try:
            new.first().identity()
        except grpc.RpcError:
            return False
        return True

    eventually(is_open, "the bootstrap token is accepted")
    assert new.first().create(administrator("admin-2")).token


def test_without_a_file_nobody_is_let_in(new: NewRegistry) -> None:
    new.stop()
    del new.environment[VARIABLE]
    new.start()
    assert new.first().refused_identity().reason is Reason.INVALID_CREDENTIALS


@pytest.mark.parametrize("content", ["", "short", "a" * 42 + "!", f"{'a' * 43}\n{'b' * 43}\n"])
def test_a_bad_file_stops_the_start_and_is_not_repeated(new: NewRegistry, tmp_path: Path, content: str) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    with pytest.raises(SettingsError, match=VARIABLE) as caught:
        build(RegistryConfig.load(new.environment | {VARIABLE: str(path)}))
    assert not content or content.strip() not in str(caught.value)


def test_the_file_may_hold_the_whole_token(new: NewRegistry) -> None:
    new.stop()
    Path(new.environment[VARIABLE]).write_text(f"{new.bootstrap_token}\n")
    new.start()
    assert new.first().identity().principal == "person/bootstrap"


def test_the_secret_is_in_no_entry_and_no_table(new: NewRegistry) -> None:
    new.first().create(administrator("admin"))
    secret = new.bootstrap_token.rpartition(".")[2].encode()
    assert all(secret not in entry for entry in new.entries())
