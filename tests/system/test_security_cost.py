"""The yardstick of what security costs is one: counties of both releases take the same weighings and answer alike."""

from pathlib import Path

import pytest

from bench import harness, previous_release
from bench.security_cost import BEFORE, TLS, TOKEN, counties
from zhichao.weighing.v1 import service_pb2, service_pb2_grpc

pytestmark = pytest.mark.system

CALL_SECONDS = 20.0


def test_counties_of_both_releases_take_the_same_weighings(directory: Path) -> None:
    try:
        previous_release.unpack(directory / "looked-at")
    except previous_release.NoPreviousReleaseError as error:
        pytest.skip(str(error))
    message, *streamed = harness.make_requests(30, 10)
    request = service_pb2.StreamWeighingsRequest.FromString(message)
    directory.chmod(0o755)
    with counties(directory) as sites:
        verdicts = {}
        for name, site in sites.items():
            with site.connect() as channel:
                stub = service_pb2_grpc.WeighingServiceStub(channel)
                records = service_pb2.RecordWeighingsRequest(records=request.records)
                answer = stub.RecordWeighings(records, metadata=site.metadata, timeout=CALL_SECONDS)
            verdicts[name] = [result.recorded.judgement.verdict for result in answer.results]
            site.stream(streamed, directory)
    assert list(verdicts) == [BEFORE, TOKEN, TLS]
    assert verdicts[BEFORE] == verdicts[TOKEN] == verdicts[TLS]
    assert all(verdicts[BEFORE])
