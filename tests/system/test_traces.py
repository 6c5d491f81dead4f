"""One weighing is followed through three levels: a collector gets spans of all of them, in one trace."""

from pathlib import Path

import pytest

from cli.simulate.site import CITY, COUNTY, PROVINCE
from tests.collector import Collector, Seen
from tests.system.joined import CALL_SECONDS, Joined
from zhichao.weighing.v1 import service_pb2, service_pb2_grpc

pytestmark = pytest.mark.system

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
CALL = "zhichao.weighing.v1.WeighingService/RecordWeighing"

# In the order of time, as a viewer shows them.
WAY = (
    (f"{COUNTY}/weighing", CALL),
    (f"{COUNTY}/weighing", "commit"),
    (f"{COUNTY}/relay", "push"),
    (f"{CITY}/weighing", "receive"),
    (f"{CITY}/relay", "push"),
    (f"{PROVINCE}/weighing", "receive"),
)


def test_one_weighing_is_followed_through_three_levels(directory: Path) -> None:
    with Collector() as collector:
        settings = {"ZHICHAO_TRACES_ENDPOINT": collector.endpoint, "ZHICHAO_TRACES_RATIO": "0"}
        with Joined(directory, environments=dict.fromkeys((COUNTY, CITY, PROVINCE), settings)) as platforms:
            # What is not traced leaves nothing.
            (untraced, traced) = platforms.take(2)
            platforms.record([untraced])
            with platforms.county.connect("weighing") as channel:
                stub = service_pb2_grpc.WeighingServiceStub(channel)
                answer = stub.RecordWeighing(
                    service_pb2.RecordWeighingRequest(record=traced),
                    timeout=CALL_SECONDS,
                    metadata=(("traceparent", f"00-{TRACE}-{PARENT}-01"),),
                )
            seen = collector.wait_for(*WAY)

    spans = [span for span in seen if span.trace_id == TRACE]
    assert len(spans) == len(seen)
    by_place: dict[tuple[str, str], Seen] = {(span.service, span.name): span for span in spans}
    call, commit, push, receive, push_on, receive_on = (by_place[place] for place in WAY)
    assert call.parent_id == PARENT
    assert commit.parent_id == call.span_id
    assert {span.parent_id for span in (push, receive, push_on, receive_on)} == {commit.span_id}
    # One machine, one clock: each step ends after the one before.
    ends = [span.end_ns for span in (commit, receive, receive_on)]
    assert ends == sorted(ends)
    assert push.start_ns <= receive.end_ns <= push.end_ns
    assert {span.attributes["zhichao.sequence"] for span in (commit, push, receive_on)} == {
        answer.recorded.receipt.sequence
    }
    assert {span.resource["zhichao.level"] for span in spans} == {"county", "city", "province"}
    text = str([(span.attributes, span.resource) for span in spans])
    for hidden in (traced.front_plate.number, traced.record_id, traced.source_unit_id):
        assert hidden not in text
