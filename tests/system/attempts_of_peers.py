"""What platforms try at the port for platforms below that they may not; each attempt with how it has to end."""

from collections.abc import Callable
from typing import Any, Final

from cli.pki.authority import Authority
from cli.simulate.site import CITY, COUNTY, PROVINCE
from services.common.access.tokens import bearer
from services.common.tls import Tls
from tests.certificates import days_ago, new_authority
from tests.journal.paper_log import PaperLog, signer_of
from tests.system.administrations import OTHER_CITY, OTHER_COUNTY, Administrations, Metadata
from tests.system.attempts import Attempt, Trial
from tests.system.joined import CALL_SECONDS
from zhichao.journal.v1 import journal_pb2
from zhichao.relay.v1 import relay_pb2
from zhichao.relay.v1.relay_pb2_grpc import RelayServiceStub

ENTRIES_MAX: Final = 1_024


def greeting(platform: str = COUNTY) -> relay_pb2.HandshakeRequest:
    """Return what a platform says first."""
    return relay_pb2.HandshakeRequest(platform=platform, protocol_versions=[1, 2])


def push(batch: journal_pb2.EntryBatch, stream: str = "weighing") -> relay_pb2.PushEntriesRequest:
    """Return one message of a push."""
    return relay_pb2.PushEntriesRequest(stream=stream, batch=batch)


# Cut off in the handshake of TLS


def another_authority(three: Administrations) -> Tls | None:
    return three.certificate(COUNTY, authority=new_authority(), name="other-authority")


def a_certificate_that_has_ended(three: Administrations) -> Tls | None:
    return three.certificate(COUNTY, validity=days_ago(30, 1), name="ended")


def a_certificate_that_is_not_valid_yet(three: Administrations) -> Tls | None:
    return three.certificate(COUNTY, validity=days_ago(-1, -30), name="not-yet")


CUT_OFF: Final = (another_authority, a_certificate_that_has_ended, a_certificate_that_is_not_valid_yet)


# Refused by name


def _shaking_hands(trial: Trial, tls: Tls, platform: str, status: str, reason: str, **who: Any) -> Attempt:
    stub = RelayServiceStub(trial.keep(trial.three.peer(CITY, tls)))
    return Attempt(
        CITY,
        lambda metadata: stub.Handshake(greeting(platform), metadata=metadata, timeout=CALL_SECONDS),
        status,
        reason,
        **who,
    )


def _claiming(trial: Trial, shown: str, claimed: str, reason: str, **who: Any) -> Attempt:
    """Shake hands in the name of a platform, with a good certificate of one."""
    certificate = f"platform/{shown}"
    return _shaking_hands(
        trial, trial.three.certificate(shown), claimed, "PERMISSION_DENIED", reason, certificate=certificate, **who
    )


def a_platform_that_is_not_registered(trial: Trial) -> Attempt:
    return _claiming(trial, OTHER_CITY, OTHER_CITY, "PLATFORM_NOT_REGISTERED")


def a_platform_in_the_name_of_another(trial: Trial) -> Attempt:
    return _claiming(trial, COUNTY, OTHER_COUNTY, "OUTSIDE_SCOPE", principal=f"platform/{COUNTY}")


def the_platform_itself(trial: Trial) -> Attempt:
    return _claiming(trial, CITY, CITY, "PLATFORM_NOT_REGISTERED")


def the_platform_above(trial: Trial) -> Attempt:
    return _claiming(trial, PROVINCE, PROVINCE, "PLATFORM_NOT_REGISTERED")


def a_certificate_of_another_trust_domain(trial: Trial) -> Attempt:
    elsewhere = Authority(trial.three.authority.pair, "elsewhere.example")
    tls = trial.three.certificate(COUNTY, authority=elsewhere, name="elsewhere")
    return _shaking_hands(trial, tls, COUNTY, "UNAUTHENTICATED", "INVALID_CREDENTIALS", is_failure=True)


def a_revoked_token_beside_a_good_certificate(trial: Trial) -> Attempt:
    # What a token says goes before what a certificate says: it is not passed over.
    token = trial.three.person(CITY, CITY, "VIEWER", "revoked-at-the-city")
    trial.wait_known(CITY, token, "relay")
    trial.three.revoke(CITY, "revoked-at-the-city")
    trial.wait_refused(CITY, token, "relay")
    stub = RelayServiceStub(trial.keep(trial.three.peer(CITY, trial.three.certificate(COUNTY))))
    return Attempt(
        CITY,
        lambda metadata: stub.Handshake(greeting(), metadata=(*metadata, *bearer(token)), timeout=CALL_SECONDS),
        "UNAUTHENTICATED",
        "CREDENTIAL_REVOKED",
        is_failure=True,
    )


def _pushing(trial: Trial, batch: journal_pb2.EntryBatch, status: str, reason: str) -> Attempt:
    stub = RelayServiceStub(trial.keep(trial.three.peer(CITY, trial.three.certificate(COUNTY))))

    def call(metadata: Metadata) -> Any:
        return list(stub.PushEntries(iter([push(batch)]), metadata=metadata, timeout=CALL_SECONDS))

    named = f"platform/{COUNTY}"
    return Attempt(CITY, call, status, reason, principal=named, certificate=named)


def forged(origin: str, *, seed: int = 0) -> journal_pb2.EntryBatch:
    """Return the whole of a log that somebody has made up and signed with a key of their own."""
    paper = PaperLog(origin, signer=signer_of(origin, seed)).add(b"forged")
    batch = paper.batch()
    return journal_pb2.EntryBatch(origin=origin, first_sequence=1, entries=batch.entries, checkpoint=paper.checkpoint())


def a_log_of_the_neighbour(trial: Trial) -> Attempt:
    return _pushing(trial, forged(OTHER_COUNTY), "PERMISSION_DENIED", "ORIGIN_NOT_ALLOWED")


def a_log_of_the_city_itself(trial: Trial) -> Attempt:
    return _pushing(trial, forged(CITY), "PERMISSION_DENIED", "ORIGIN_NOT_ALLOWED")


def a_log_of_the_province(trial: Trial) -> Attempt:
    return _pushing(trial, forged(PROVINCE), "PERMISSION_DENIED", "ORIGIN_NOT_ALLOWED")


def the_own_log_rewritten(trial: Trial) -> Attempt:
    # Its certificate is good, its log is another one: two histories.
    return _pushing(trial, forged(COUNTY, seed=1), "DATA_LOSS", "HISTORY_MISMATCH")


def more_entries_than_a_batch_may_hold(trial: Trial) -> Attempt:
    batch = journal_pb2.EntryBatch(origin=COUNTY, first_sequence=1, entries=[b"x"] * (ENTRIES_MAX + 1))
    return _pushing(trial, batch, "INVALID_ARGUMENT", "BATCH_TOO_LARGE")


def what_people_ask_of_the_relay(trial: Trial) -> Attempt:
    stub = RelayServiceStub(trial.keep(trial.three.peer(CITY, trial.three.certificate(COUNTY))))
    request = relay_pb2.GetRelayStatusRequest()
    named = f"platform/{COUNTY}"
    return Attempt(
        CITY,
        lambda metadata: stub.GetRelayStatus(request, metadata=metadata, timeout=CALL_SECONDS),
        "PERMISSION_DENIED",
        "PERMISSION_MISSING",
        principal=named,
        certificate=named,
    )


BY_CERTIFICATE: Final[tuple[Callable[[Trial], Attempt], ...]] = (
    a_platform_that_is_not_registered,
    a_platform_in_the_name_of_another,
    the_platform_itself,
    the_platform_above,
    a_certificate_of_another_trust_domain,
    a_revoked_token_beside_a_good_certificate,
    a_log_of_the_neighbour,
    a_log_of_the_city_itself,
    a_log_of_the_province,
    the_own_log_rewritten,
    more_entries_than_a_batch_may_hold,
    what_people_ask_of_the_relay,
)
