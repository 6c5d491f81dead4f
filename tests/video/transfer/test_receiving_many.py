"""Many objects that platforms below send at once, to a store that is slow."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from services.common.settings import ServiceSettings
from services.video.receiving import KEEPS_MAX
from tests.running_service import carry_up
from tests.video.conftest import MakeVideo
from tests.video.harness import CITY, COUNTY, RunningVideo
from tests.video.media_files import photo, unlike
from tests.video.stores.gateway import Gateway
from tests.video.stores.servers import Server
from tests.video.transfer.carrying import give, name_of, pieces, state_of, wait_for_state
from tests.waiting import wait_until
from zhichao.video.v1 import service_pb2 as pb

POOL: int = ServiceSettings.model_fields["database_pool_size"].default


def test_others_are_answered_while_received_objects_are_looked_at_once_more(
    county: RunningVideo, video_of: MakeVideo, evidence_store: Server
) -> None:
    goes_on = threading.Event()
    looks = Counter[str]()
    guard = threading.Lock()

    def answer(method: str, path: str) -> tuple[int, bytes] | None:
        if method == "HEAD" and "/sha256/" in path:
            with guard:
                looks[path] += 1
                is_last = looks[path] == 2
            # Before it is put, and before it is written down that it is here.
            if is_last:
                goes_on.wait(60.0)
        return None

    contents = [unlike(photo()) for _ in range(POOL + 2)]
    held = [county.sealed(content) for content in contents]
    with Gateway(evidence_store.url.removeprefix("http://"), answer) as gateway:
        settings = {
            "ZHICHAO_VIDEO_S3_ENDPOINT": gateway.url,
            "ZHICHAO_VIDEO_S3_READ_TIMEOUT_SECONDS": "60",
            "ZHICHAO_VIDEO_THREADS": str(2 * len(contents)),
        }
        city = video_of(CITY, settings=settings)
        carry_up(county, city)
        for one in held:
            wait_for_state(city, one, "WANTED")
        with ThreadPoolExecutor(len(contents)) as pool:
            given = [
                pool.submit(give, city, pieces(content, COUNTY, one.evidence.digest))
                for content, one in zip(contents, held, strict=True)
            ]
            try:
                wait_until(
                    lambda: (
                        sum(method == "PUT" and "/sha256/" in path for method, path in gateway.requests)
                        == len(contents)
                    ),
                    "all are stored",
                )
                wait_until(lambda: sum(count == 2 for count in looks.values()) >= KEEPS_MAX, "some are looked at")
                # More often than the others take to be where these are.
                request = pb.GetEvidenceRequest(name=name_of(held[0]))
                shown = [city.call("GetEvidence", request).held_evidence for _ in range(100)]
            finally:
                goes_on.set()
            assert all(one.evidence == held[0].evidence for one in shown)
            assert all(one.result().is_complete for one in given)
        assert {state_of(city, one) for one in held} == {"HELD"}
        city.stop()
