"""Whatever anybody sends to any RPC is answered, or refused for a reason of the catalogue, and the services go on.

`ZHICHAO_FUZZ_SECONDS` says how long each port is fuzzed, `ZHICHAO_FUZZ_SEED` repeats a run.
"""

import json
import os
import random
import re
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from services.common.rpc_health import REQUEST_BYTES_MAX
from tests.fuzzing.calls import Manner, call, open_channel
from tests.fuzzing.campaign import Campaign
from tests.fuzzing.fair_requests import fair_requests
from tests.fuzzing.growth import Size, size_of
from tests.fuzzing.judge import complaint
from tests.fuzzing.messages import changed, fair_message, raw_contents
from tests.fuzzing.methods import HEALTH, UNSERVED, every_service, rpcs_of
from tests.fuzzing.subject import PEERS, TARGETS, Subject, Target
from tests.system.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(120 + 3 * float(os.environ.get("ZHICHAO_FUZZ_SECONDS") or 20))]

GONE_SECONDS = 30.0
PROBES = 5
WATCH_SECONDS = 0.1
OWN_ID = re.compile("[0-9a-f]{16}")

RELAY = "zhichao.relay.v1.RelayService"
HONEST = {
    "registry": "zhichao.registry.v1.RegistryService/GetSourceUnit",
    "weighing": "zhichao.weighing.v1.WeighingService/ListWeighings",
    "video": "zhichao.video.v1.VideoService/GetEvidence",
    "enforcement": "zhichao.enforcement.v1.EnforcementService/GetNotice",
    "relay": f"{RELAY}/GetRelayStatus",
    PEERS: f"{RELAY}/Handshake",
}

MEMORY_BYTES_MAX = 64 * 1024 * 1024
"""What a process may grow by once it is warm: some megabytes of what was really registered, and what the allocator has
not given back of messages of 16 MiB."""

THREADS_MAX = 16
"""Threads more than when it was warm: executors start one when all they have are busy, up to their limits."""

FILES_MAX = 8
"""Sockets more than when it was warm, once the fuzzer has gone: services renew their connections to each other."""

CONNECTIONS_MAX = 8
"""Connections of a database more than when it was warm: pools fill up to their sizes as calls come together."""


def grown(before: Size, after: Size) -> list[str]:
    """Return what is larger than it may be."""
    limits = {
        "memory_bytes": MEMORY_BYTES_MAX,
        "threads": THREADS_MAX,
        "files": FILES_MAX,
        "connections": CONNECTIONS_MAX,
        "left_open": 0,
    }
    return [
        f"{name} from {getattr(before, name)} to {getattr(after, name)}"
        for name, most in limits.items()
        if getattr(after, name) > getattr(before, name) + most
    ]


def test_every_rpc_of_every_proto_is_served_and_fuzzed(subject: Subject) -> None:
    served = {rpc.name for name in TARGETS for rpc in subject.target(name).rpcs}

    assert served == {rpc.name for rpc in rpcs_of(list(every_service()))}


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_that_anybody_sends_is_a_fault(
    subject: Subject, name: str, fuzz_seed: int, fuzz_seconds: float
) -> None:
    target = subject.target(name)
    lines_before = len(subject.log_lines())
    campaign = Campaign(subject, target, fuzz_seed, fuzz_seconds)
    try:
        campaign.warm_up()
        warm = size_of(target.pid, target.database_url)
        campaign.run()
    finally:
        campaign.close()
    report = campaign.report
    print(report.summary())

    assert report.complaints == [], "\n".join(report.complaints[:20])
    assert subject.target(name).pid == target.pid, "the process has died"
    unreached = {rpc.name for rpc in target.rpcs} - report.reached - UNSERVED
    assert {name for name in unreached if not is_served_by_the_other_port(target, name)} == set()
    everybody = {caller.name for caller in subject.callers_at(target)}
    assert {rpc.name: everybody - report.callers[rpc.name] for rpc in target.rpcs} == {
        rpc.name: set() for rpc in target.rpcs
    }
    assert_serves(subject, target)
    wait_until(
        lambda: not grown(warm, size_of(target.pid, target.database_url)),
        GONE_SECONDS,
        lambda: f"grown: {grown(warm, size_of(target.pid, target.database_url))}",
    )
    assert faults(subject.log_lines()[lines_before:]) == []
    assert_told_nothing(subject, target)


@pytest.mark.parametrize("name", [name for name in TARGETS if name != PEERS])
def test_the_port_for_probes_takes_anything(subject: Subject, name: str, fuzz_seed: int) -> None:
    """It is plain text and open to everybody, and serves health only."""
    target = subject.target(name)
    chance = random.Random(fuzz_seed)
    wrong: list[str] = []
    with open_channel(target.health_address) as channel:
        for rpc in rpcs_of([HEALTH.full_name]):
            fair = [fair_message(rpc.request, subject.pool(), chance) for _ in range(PROBES)]
            contents = [*fair, *(changed(one, rpc.request, subject.pool(), chance) for one in fair)]
            contents += [content for _, content in raw_contents(rpc.request, rpc.access.message_bytes_max, chance)]
            for content in contents:
                manner = Manner((), timeout_seconds=WATCH_SECONDS if rpc.answers_stream else None)
                outcome = call(channel, rpc, [content], manner)
                if len(content) > REQUEST_BYTES_MAX and outcome.status in ("RESOURCE_EXHAUSTED", "UNIMPLEMENTED"):
                    # gRPC does not take it in at all.
                    continue
                is_served = rpc.name not in UNSERVED
                said = complaint(
                    rpc,
                    frozenset(),
                    False,
                    [content],
                    manner,
                    outcome,
                    subject.secrets,
                    is_served_elsewhere=not is_served,
                )
                wrong += [f"{said}: {rpc.name} {content[:60].hex()}: {outcome}"] * bool(said)
        check: Any = channel.unary_unary(f"/{HEALTH.full_name}/Check")
        answer = health_pb2.HealthCheckResponse.FromString(check(b"", timeout=GONE_SECONDS))
    assert wrong == []
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def is_served_by_the_other_port(target: Target, name: str) -> bool:
    """Tell whether a method of the relay is for platforms on this port, or for people on that of platforms."""
    service, _, method = name.rpartition("/")
    return service == RELAY and (method == "GetRelayStatus") == (target.name == PEERS)


def assert_serves(subject: Subject, target: Target) -> None:
    """Fail unless an honest request is answered."""
    (rpc,) = [one for one in target.rpcs if one.name == HONEST[target.name]]
    may = [one for one in subject.callers_at(target) if rpc.access.permission in one.permissions]
    caller = next((one for one in may if not one.is_bound), may[0])
    request = fair_requests().get(rpc.name, b"")
    with subject.open(target, caller) as channel:
        outcome = call(channel, rpc, [request], Manner(caller.metadata))
    assert (outcome.status, len(outcome.answers)) == ("OK", 1), outcome


def faults(lines: list[str]) -> list[str]:
    """Return the lines that tell of a fault of ours."""
    return [line[:1_000] for line in lines if '"exception":' in line or '"INTERNAL"' in line or "Traceback" in line]


def assert_told_nothing(subject: Subject, target: Target) -> None:
    """Fail if the log holds a secret or personal data, or two lines of one request."""
    text = subject.process.log_text().encode()
    told = [one for one in (*subject.secrets.tokens, *subject.secrets.persons) if one in text]
    assert told == []
    requests: list[Any] = [json.loads(line) for line in subject.log_lines() if '"event":"request_finished"' in line]
    # What a call leads to between services has its id, too; and some callers give ids of their own.
    ids = [
        one["request_id"]
        for one in requests
        if not one.get("principal", "service/").startswith("service/") and OWN_ID.fullmatch(one["request_id"])
    ]
    assert len(ids) == len(set(ids))
