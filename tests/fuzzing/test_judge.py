"""The judge itself: what has to be wrong is wrong, what may be is not."""

import pytest

from services.common.access.permissions import Permission
from tests.fuzzing.calls import Manner, Outcome
from tests.fuzzing.growth import Size
from tests.fuzzing.judge import Secrets, complaint
from tests.fuzzing.methods import rpcs_of
from tests.fuzzing.test_every_rpc import grown

(LIST,) = [rpc for rpc in rpcs_of(["zhichao.weighing.v1.WeighingService"]) if rpc.method.name == "ListWeighings"]
SECRETS = Secrets((b"of another unit",), (b"a driver",), (b"a token",))
READER = frozenset({Permission.WEIGHING_READ})
SEES_ALL = READER | {Permission.PERSONAL_DATA_READ}


def refused(status: str, reason: str = "", message: str = "", domain: str = "zhichao") -> Outcome:
    return Outcome(status, message, reason, domain if reason else "")


@pytest.mark.parametrize(
    ("outcome", "wrong"),
    [
        (Outcome(), ""),
        (refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"), ""),
        (Outcome("DEADLINE_EXCEEDED", was_left=True), ""),
        (refused("INTERNAL", "INTERNAL"), "a fault"),
        (refused("UNKNOWN"), "a fault"),
        (refused("INVALID_ARGUMENT"), "a refusal without a reason"),
        (refused("UNIMPLEMENTED"), "a refusal without a reason"),
        (refused("DEADLINE_EXCEEDED"), "a refusal without a reason"),
        (refused("RESOURCE_EXHAUSTED"), "a refusal without a reason"),
        (refused("INVALID_ARGUMENT", "MADE_UP"), "a reason that is not in the catalogue"),
        (refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", domain="elsewhere"), "a reason of another domain"),
        (refused("NOT_FOUND", "INVALID_ARGUMENT"), "a status other than the catalogue's INVALID_ARGUMENT"),
        (refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "psycopg.Error"), "tells how it is made"),
        (Outcome(answers=[b"of another unit"]), "shows what is of another unit"),
        (Outcome(answers=[b"a driver"]), "shows personal data"),
        (Outcome(answers=[b"a token"]), "shows a secret"),
    ],
)
def test_what_is_wrong_with_a_call(outcome: Outcome, wrong: str) -> None:
    said = complaint(LIST, READER, True, [b""], Manner(()), outcome, SECRETS, is_served_elsewhere=False)

    assert said == wrong


def test_who_may_see_it_sees_it() -> None:
    for outcome in (Outcome(answers=[b"of another unit"]), Outcome(answers=[b"a driver"])):
        assert not complaint(LIST, SEES_ALL, False, [b""], Manner(()), outcome, SECRETS, is_served_elsewhere=False)


@pytest.mark.parametrize(
    ("outcome", "manner", "content", "is_served_elsewhere"),
    [
        (refused("UNIMPLEMENTED"), Manner(()), b"", True),
        (refused("UNIMPLEMENTED"), Manner((), messages=2), b"", False),
        (refused("RESOURCE_EXHAUSTED"), Manner(()), bytes(17 << 20), False),
        (refused("RESOURCE_EXHAUSTED"), Manner((("x", "y" * 9_000),)), b"", False),
    ],
)
def test_what_grpc_itself_refuses_has_no_reason(
    outcome: Outcome, manner: Manner, content: bytes, is_served_elsewhere: bool
) -> None:
    said = complaint(LIST, READER, True, [content], manner, outcome, SECRETS, is_served_elsewhere=is_served_elsewhere)

    assert said == ""


def test_growth_is_told() -> None:
    before = Size(100 << 20, 40, 50, 5)

    assert grown(before, before) == []
    assert grown(before, Size(200 << 20, 80, 100, 20, 1)) == [
        "memory_bytes from 104857600 to 209715200",
        "threads from 40 to 80",
        "files from 50 to 100",
        "connections from 5 to 20",
        "left_open from 0 to 1",
    ]
