"""What is fuzzed: a city's platform as real processes, one for each service, with callers of every kind, and things in
it that some of them must never see.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import grpc
from google.protobuf.message import Message
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from cli.certificates import make_certificates
from cli.platform_layout import PlatformFiles
from cli.platform_process import PlatformProcess
from cli.simulate.registration import register_below
from cli.token_file import SECRETS_DIRECTORY, read_token
from services.common.access.permissions import Permission, PrincipalKind, Role, permissions_of
from services.common.access.tokens import ServiceTokens, bearer, format_token, new_secret
from services.common.tls import Tls
from tests.certificates import files_in
from tests.enforcement import examples as enforcement_examples
from tests.fuzzing.calls import UNARY_SECONDS, Metadata, open_channel
from tests.fuzzing.fair_requests import CITY, COUNTY, OTHER_COUNTY, OTHER_UNIT, OWN_UNIT, VICTIM, registry_requests
from tests.fuzzing.judge import Secrets
from tests.fuzzing.methods import Rpc, rpcs_of
from tests.fuzzing.values import Pool
from tests.registry import access_examples, examples
from tests.system.waiting import wait_until
from tests.video.harness import draft_of, messages
from tests.video.media_files import photo
from tests.weighing import records
from zhichao.access.v1 import service_pb2 as access_pb2
from zhichao.access.v1.service_pb2_grpc import AccessServiceStub
from zhichao.enforcement.v1 import service_pb2 as enforcement_pb2
from zhichao.enforcement.v1.service_pb2_grpc import EnforcementServiceStub
from zhichao.registry.v1 import service_pb2 as registry_pb2
from zhichao.registry.v1.service_pb2_grpc import RegistryServiceStub
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1.service_pb2_grpc import VideoServiceStub
from zhichao.weighing.v1 import record_pb2
from zhichao.weighing.v1 import service_pb2 as weighing_pb2
from zhichao.weighing.v1.service_pb2_grpc import WeighingServiceStub

PEERS: Final = "relay-peers"
TARGETS: Final = ("registry", "weighing", "video", "enforcement", "relay", PEERS)
"""Ports of a platform, by name; each has the health check and reflection too."""

# Made up, and nothing that a fuzzer comes upon by itself.
OTHER_UNIT_MARK: Final = "外单位标记七三九"
OTHER_RECORD_MARK: Final = "mark-739-of-another-unit"
DRIVER_MARK: Final = "示例标记驾驶员"
PHONE_MARK: Final = "+8635100007399"
LICENSE_MARK: Final = "140000190001010739"

# As much as a credential may be allowed: the fuzzer is about what calls do, not about how many there are.
_LIMITS: Final = {"calls_per_second": 10_000, "burst_calls": 100_000, "bytes_per_second": 1 << 30}

STRANGER_PLATFORM: Final = "140100"

KNOWN_SECONDS_MAX: Final = 60.0


@dataclass(frozen=True)
class CallerOf:
    """Somebody who calls: what of it is shown, and what it may do. `tls` is for the port of platforms."""

    name: str
    permissions: frozenset[Permission]
    metadata: Metadata = ()
    is_bound: bool = False
    certificate_of: str = COUNTY


@dataclass(frozen=True)
class Target:
    """One port: what it serves. `health_address` is the plain one beside it; empty without."""

    name: str
    address: str
    rpcs: tuple[Rpc, ...]
    pid: int
    database_url: str
    health_address: str


class Subject:
    """The platform and everybody who calls it; a context manager that starts and stops it."""

    def __init__(self, directory: Path) -> None:
        self._stack = ExitStack()
        certificates = make_certificates(directory / "pki", (CITY, COUNTY, STRANGER_PLATFORM))
        self._certificates = certificates
        self.process = PlatformProcess(
            CITY,
            directory / CITY,
            is_split=True,
            tls_directory=certificates[CITY],
            log_format="json",
            environment={"ZHICHAO_LOG_LEVEL": "info"},
        )
        self.callers: list[CallerOf] = []
        self.tokens: list[str] = []

    def __enter__(self) -> Self:
        """Start it, register, and issue credentials."""
        with ExitStack() as starting:
            starting.enter_context(self.process)
            self._register()
            self._issue()
            self._record()
            self._seal()
            self._direct()
            self._stack = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        if error is not None:
            print(self.process.log_tail())
        self._stack.close()

    # What the fuzzer works with

    def target(self, name: str) -> Target:
        """Return one of its ports as it is now: what it serves is asked of itself."""
        service = "relay" if name == PEERS else name
        address = self.process.peer_address if name == PEERS else self.process.address(service)
        has_database = service != "relay"
        return Target(
            name,
            address,
            tuple(rpcs_of(self._served_services(name, address))),
            self.process.service_pid(service),
            self.process.database_url(service) if has_database else "",
            "" if name == PEERS else self.process.health_addresses[service],
        )

    def open(self, target: Target, caller: CallerOf) -> grpc.Channel:
        """Open a connection for a caller, who closes it."""
        return open_channel(target.address, self._tls(caller.certificate_of) if target.name == PEERS else None)

    def callers_at(self, target: Target) -> list[CallerOf]:
        """Return everybody who calls a port: to that for platforms, platforms come as well."""
        if target.name != PEERS:
            return self.callers
        below = CallerOf("platform below", permissions_of(PrincipalKind.PLATFORM), is_bound=True)
        stranger = CallerOf("platform elsewhere", frozenset(), certificate_of=STRANGER_PLATFORM, is_bound=True)
        # On this port a certificate says who calls, and a token besides says it better.
        return [below, stranger, *(one for one in self.callers if one.metadata)]

    @property
    def secrets(self) -> Secrets:
        """What must not get out."""
        return Secrets(
            (OTHER_UNIT_MARK.encode(), OTHER_RECORD_MARK.encode()),
            (DRIVER_MARK.encode(), PHONE_MARK.encode(), LICENSE_MARK.encode()),
            tuple(token.rpartition(".")[2].encode() for token in self.tokens),
        )

    def pool(self) -> Pool:
        """Return the values that a fuzzer begins with."""
        secrets = self.secrets
        pool = Pool((*secrets.other_units, *secrets.persons, *secrets.tokens))
        for name in ("division_code", "origin", "platform", "platform_code", "issuer", "audiences", "upstream_code"):
            pool.add(name, CITY, COUNTY, OTHER_COUNTY, "140000", "", "141030")
        pool.add("source_unit_id", OWN_UNIT, VICTIM, OTHER_UNIT, "141025-009")
        pool.add("source_unit_ids", OWN_UNIT, VICTIM, OTHER_UNIT)
        pool.add("record_id", "r-1", "fuzzed-1", "fuzzed-2")
        pool.add("credential_id", "victim-1", "victim-2", "victim-3")
        pool.add("stream", "registry", "weighing", "video", "enforcement", "relay", "")
        pool.add("day", "2025-03-01", "2025-03-02")
        pool.add("evidence_id", "p-1", "fuzzed-1")
        pool.add("camera_id", "camera-1")
        for name in ("hold_id", "bundle_id", "purpose", "acceptance_id"):
            pool.add(name, "fuzzed-1", "示例")
        for name in ("notice_id", "duty_check_id"):
            pool.add(name, "n-1", "dc-1", "n-2")
        return pool

    def protected(self, permission: Permission) -> tuple[bytes, ...]:
        """Return what a caller who may change things leaves alone: what callers are bound to, and their credentials."""
        names: tuple[str, ...] = (OWN_UNIT, OTHER_UNIT)
        if permission is Permission.PLATFORM_WRITE:
            names = (COUNTY, OTHER_COUNTY)
        elif permission is Permission.CREDENTIAL_WRITE:
            names = ("operator", "security", "auditor", *(caller.name for caller in self.callers))
        return tuple(name.encode() for name in names)

    def log_lines(self) -> list[str]:
        """Return what the platform has logged."""
        return self.process.log_text().splitlines()

    # Making it

    def _tls(self, platform: str) -> Tls:
        return Tls(files_in(self._certificates[platform]))

    def _served_services(self, name: str, address: str) -> Sequence[str]:
        operator = self._token("operator")
        tls = self._tls(COUNTY) if name == PEERS else None
        with open_channel(address, tls) as channel:
            stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            (answer,) = stub.ServerReflectionInfo(iter([request]), metadata=bearer(operator), timeout=UNARY_SECONDS)
        return [one.name for one in answer.list_services_response.service]

    def _token(self, person: str) -> str:
        return read_token(self.process.data_directory / SECRETS_DIRECTORY / f"{person}.token")

    def _register(self) -> None:
        """Register three units in two counties, one of which is marked."""
        with self.process.connect("registry") as channel:
            stub = RegistryServiceStub(channel)
            register_below(stub, COUNTY, CITY)
            resources: list[Any] = [
                examples.division(division_code=OTHER_COUNTY, name="示例邻县"),
                examples.source_unit(source_unit_id=OWN_UNIT),
                examples.source_unit(source_unit_id=OTHER_UNIT, name=OTHER_UNIT_MARK, division_code=OTHER_COUNTY),
            ]
            for unit in (OWN_UNIT, OTHER_UNIT):
                resources += [
                    examples.weighing_point(source_unit_id=unit),
                    examples.scale(source_unit_id=unit, serial_number="1"),
                    examples.verification_certificate(source_unit_id=unit),
                ]
            for resource in resources:
                noun = resource.DESCRIPTOR.name
                request_type: Any = getattr(registry_pb2, f"Create{noun}Request")
                request = request_type(**{_field_of(request_type): resource})
                getattr(stub, f"Create{noun}")(request, timeout=UNARY_SECONDS)
            for name, wanted in registry_requests().items():
                method = name.rpartition("/")[2]
                if method.startswith("Create"):
                    getattr(stub, method)(wanted, timeout=UNARY_SECONDS)

    def _issue(self) -> None:
        """Issue credentials for principals of every kind, and some to do things to."""
        terminal = access_examples.terminal(OWN_UNIT, credential_id="fuzz-terminal", limits=_LIMITS)
        integrator = access_examples.integrator(OWN_UNIT, VICTIM, credential_id="fuzz-integrator", limits=_LIMITS)
        county = access_examples.person(
            COUNTY,
            *(role.value for role in (Role.VIEWER, Role.REGISTRAR, Role.OFFICER, Role.DATA_STEWARD)),
            credential_id="fuzz-county",
            limits=_LIMITS,
        )
        self.callers = [
            CallerOf("nobody", frozenset()),
            self._holder(terminal, PrincipalKind.TERMINAL, is_bound=True),
            self._holder(integrator, PrincipalKind.INTEGRATOR, is_bound=True),
            self._holder(
                county,
                PrincipalKind.PERSON,
                (Role.VIEWER, Role.REGISTRAR, Role.OFFICER, Role.DATA_STEWARD),
                is_bound=True,
            ),
        ]
        for role in Role:
            credential_id = f"fuzz-{role.value.lower().replace('_', '-')}"
            person = access_examples.person(CITY, role.value, credential_id=credential_id, limits=_LIMITS)
            self.callers.append(self._holder(person, PrincipalKind.PERSON, (role,)))
        for number in range(1, 4):
            self._create(access_examples.person(COUNTY, "VIEWER", credential_id=f"victim-{number}"))
        # Of one that nobody needs: whoever fails from the same address delays whoever holds it.
        made_up = format_token("victim-3", new_secret())
        self.callers.append(CallerOf("impostor", frozenset(), bearer(made_up)))
        secrets = ServiceTokens(PlatformFiles(self.process.data_directory).service_token)
        self.tokens.append(secrets.sent())
        self.callers.append(
            CallerOf("service", permissions_of(PrincipalKind.SERVICE), tuple(secrets.metadata("fuzzer")()))
        )

    def _holder(
        self, credential: Any, kind: PrincipalKind, roles: Sequence[Role] = (), *, is_bound: bool = False
    ) -> CallerOf:
        token = self._create(credential)
        return CallerOf(credential.credential_id, permissions_of(kind, roles), bearer(token), is_bound)

    def _create(self, credential: Any) -> str:
        with self.process.connect("registry", "security") as channel:
            request = access_pb2.CreateCredentialRequest(credential=credential)
            token = str(AccessServiceStub(channel).CreateCredential(request, timeout=UNARY_SECONDS).token)
        self.tokens.append(token)
        return token

    def _record(self) -> None:
        """Record a truck at each unit; that of the other unit and its driver are marked."""
        now = datetime.now(UTC)
        driver = record_pb2.Driver(name=DRIVER_MARK, phone_number=PHONE_MARK, license_number=LICENSE_MARK)
        trucks = [
            records.record("r-1", source_unit_id=OWN_UNIT, weigh_time=records.moment(now)),
            records.record(OTHER_RECORD_MARK, source_unit_id=OTHER_UNIT, weigh_time=records.moment(now), driver=driver),
        ]
        with self.process.connect("weighing") as channel:
            stub = WeighingServiceStub(channel)

            def is_taken() -> bool:
                request = weighing_pb2.RecordWeighingsRequest(records=trucks)
                results = stub.RecordWeighings(request, timeout=UNARY_SECONDS).results
                return all(result.HasField("recorded") for result in results)

            wait_until(is_taken, KNOWN_SECONDS_MAX, "the weighing service does not take the records")

    def _seal(self) -> None:
        """Seal a photo of each unit; that of the other unit is marked."""
        with self.process.connect("video") as channel:
            stub = VideoServiceStub(channel)
            for unit, evidence_id, camera_id in (
                (OWN_UNIT, "p-1", "camera-1"),
                (OTHER_UNIT, OTHER_RECORD_MARK, OTHER_UNIT_MARK),
            ):
                content = photo()
                draft = draft_of(
                    content,
                    datetime.now(UTC),
                    source_unit_id=unit,
                    evidence_id=evidence_id,
                    camera_id=camera_id,
                    subjects=[evidence_pb2.Subject(record_id="r-1" if unit == OWN_UNIT else OTHER_RECORD_MARK)],
                )
                stub.UploadEvidence(messages(content, draft), timeout=UNARY_SECONDS)

    def _direct(self) -> None:
        """Issue what officers answer."""
        made: list[tuple[str, Message]] = [
            ("IssueNotice", enforcement_pb2.IssueNoticeRequest(notice=enforcement_examples.notice(one, CITY)))
            for one in ("n-1", "n-2")
        ]
        check = enforcement_examples.duty_check("dc-1", COUNTY, minutes=60)
        made.append(("IssueDutyCheck", enforcement_pb2.IssueDutyCheckRequest(duty_check=check)))
        with self.process.connect("enforcement") as channel:
            stub = EnforcementServiceStub(channel)
            for method, request in made:
                getattr(stub, method)(request, timeout=UNARY_SECONDS)


def _field_of(request_type: Any) -> str:
    """Return the field of a request to create something that holds it."""
    return str(next(field.name for field in request_type.DESCRIPTOR.fields if field.message_type is not None))
