"""Measurement 7: evidence. Clips uploaded through the video service against the same puts by the bare S3 client into
the same store, reading against the client's reading, memory under sixteen uploads at once, manifests carried upwards.

Speed is measured with MinIO, the reference, and with the laptop's SeaweedFS; the rest with SeaweedFS.
"""

import hashlib
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Final, TypeVar

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from minio import Minio

from bench import harness, reference_store
from bench.harness import CITY, COUNTY, Result
from bench.reference_store import Store
from cli.certificates import make_certificates
from cli.evidence_transfer import CHUNK_BYTES
from cli.platform_layout import PlatformFiles
from cli.platform_process import PlatformProcess
from cli.simulate.media import Scene, make_clip, make_photo
from cli.simulate.registration import register_below
from services.video.config import EAGER_NOTHING
from tools import minio
from zhichao.registry.v1 import service_pb2_grpc as registry_grpc
from zhichao.video.v1 import evidence_pb2, service_pb2
from zhichao.video.v1.service_pb2_grpc import VideoServiceStub

UPLOAD_RATIO_MIN: Final = 0.9
READ_RATIO_MIN: Final = 0.9
MEMORY_MEGABYTES_MAX: Final = 150.0

CLIP_BYTES: Final = 8 << 20
LARGEST_CHUNK_BYTES: Final = 1 << 20
UPLOADS_AT_ONCE: Final = 16
WARM_ROUNDS: Final = 3

CALL_SECONDS: Final = 600.0
SAMPLE_SECONDS: Final = 0.05
"""Between two looks at memory."""

Answer = TypeVar("Answer")


class Source:
    """Makes distinct clips of one size: a simulated one and a `free` box of random bytes behind it, which players skip
    (ISO/IEC 14496-12, 8.1.2).
    """

    def __init__(self) -> None:
        unit = harness.site().units[0].source_unit_id
        scene = Scene(harness.SEED, unit, "scale-1", "bench", "晋L00001", 55_000, 6, datetime.now(UTC))
        self._clip, self._photo = make_clip(scene), make_photo(scene)
        self._number = 0
        self._guard = threading.Lock()

    def clip(self, size_bytes: int = CLIP_BYTES) -> bytes:
        """Return a clip of exactly this size that nobody has seen."""
        padding = size_bytes - len(self._clip.content)
        return self._clip.content + padding.to_bytes(4, "big") + b"free" + os.urandom(padding - 8)

    def photo(self) -> bytes:
        """Return a photo that nobody has seen: a comment behind the picture's start differs (JPEG, marker COM)."""
        comment = os.urandom(16)
        marker = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big")
        return self._photo.content[:2] + marker + comment + self._photo.content[2:]

    def draft(self, content: bytes, kind: int) -> service_pb2.EvidenceDraft:
        """Describe the bytes."""
        with self._guard:
            self._number += 1
            number = self._number
        start, end = Timestamp(), Timestamp()
        start.FromDatetime(datetime.now(UTC) - timedelta(seconds=20))
        end.FromDatetime(datetime.now(UTC) - timedelta(seconds=18))
        is_clip = kind == evidence_pb2.EVIDENCE_KIND_CLIP
        return service_pb2.EvidenceDraft(
            source_unit_id=harness.site().units[0].source_unit_id,
            evidence_id=f"bench-{number}",
            kind=kind,  # type: ignore[arg-type]  # a value of the enum
            digest=hashlib.sha256(content).digest(),
            size_bytes=len(content),
            content_type="video/mp4" if is_clip else "image/jpeg",
            capture_start_time=start,
            capture_end_time=end if is_clip else None,
        )


class Client:
    """A terminal that uploads, and an officer who reads."""

    def __init__(self, county: PlatformProcess, source: Source) -> None:
        self._source = source
        self._uploading = (("authorization", f"Bearer {harness.register(county)}"),)
        self._reading = (("authorization", f"Bearer {harness.issue_officer(county)}"),)
        self.channel = grpc.insecure_channel(
            county.address("video"), options=[("grpc.max_receive_message_length", 4 << 20)]
        )
        self._stub = VideoServiceStub(self.channel)

    def upload(self, draft: service_pb2.EvidenceDraft, content: bytes, chunk_bytes: int = CHUNK_BYTES) -> str:
        """Upload, and return the id once it is sealed."""
        messages = _messages(draft, content, chunk_bytes)
        self._stub.UploadEvidence(messages, metadata=self._uploading, timeout=CALL_SECONDS)
        return draft.evidence_id

    def has_preview(self, evidence_id: str) -> bool:
        """Tell whether the pictures of what was uploaded are drawn: until then the service has something to do."""
        request = service_pb2.GetEvidenceRequest(name=_name(evidence_id))
        answer = self._stub.GetEvidence(request, metadata=self._reading, timeout=CALL_SECONDS)
        return answer.held_evidence.has_preview

    def read(self, evidence_id: str) -> int:
        """Read all bytes, and return how many they are."""
        request = service_pb2.ReadEvidenceRequest(name=_name(evidence_id), purpose="bench")
        answers = self._stub.ReadEvidence(request, metadata=self._reading, timeout=CALL_SECONDS)
        return sum(len(answer.chunk) for answer in answers)


def _name(evidence_id: str) -> evidence_pb2.EvidenceName:
    return evidence_pb2.EvidenceName(source_unit_id=harness.site().units[0].source_unit_id, evidence_id=evidence_id)


def _messages(
    draft: service_pb2.EvidenceDraft, content: bytes, chunk_bytes: int
) -> Iterator[service_pb2.UploadEvidenceRequest]:
    yield service_pb2.UploadEvidenceRequest(draft=draft)
    for offset in range(0, len(content), chunk_bytes):
        yield service_pb2.UploadEvidenceRequest(chunk=content[offset : offset + chunk_bytes])


def run(rounds: int = 30, big_bytes: int = 2 << 30, many_bytes: int = 64 << 20, manifests: int = 2_000) -> Result:
    """Measure all four on a county whose video service has a process of its own."""
    result = Result(
        "evidence",
        f"upload of 8 MB clips at least {UPLOAD_RATIO_MIN} of the bare client's put, reading at least "
        f"{READ_RATIO_MIN} of its get, the service at most {MEMORY_MEGABYTES_MAX:.0f} MB",
    )
    source = Source()
    if reference_store.is_installed():
        _reference_speed(result, source, rounds)
        judged = "minio"
    else:
        result.remarks.append(minio.NOT_INSTALLED)
        judged = "seaweedfs"
    with harness.scratch() as directory:
        with PlatformProcess(COUNTY, directory / "county", log_format="json", is_split=True) as county:
            client = Client(county, source)
            with client.channel:
                _speed(result, "seaweedfs", client, _Bare(_own_store(county)), source, rounds)
                _memory(result, county, client, source, big_bytes, many_bytes)
                _fill(client, source, manifests)
        _carry(result, directory, manifests)
    figures = result.figures
    result.is_reached = (
        figures[f"{judged}_upload_ratio"] >= UPLOAD_RATIO_MIN
        and figures[f"{judged}_read_ratio"] >= READ_RATIO_MIN
        and figures["peak_service_megabytes"] <= MEMORY_MEGABYTES_MAX
    )
    return result


class _Bare:
    """The S3 client alone, in a bucket of its own of the same store."""

    def __init__(self, store: Store) -> None:
        endpoint = store.endpoint.removeprefix("http://")
        access_key, secret_key = (
            path.read_text("utf-8").strip() for path in (store.access_key_file, store.secret_key_file)
        )
        self._client = client = Minio(endpoint, access_key, secret_key, secure=False)
        self._bucket = "bench-bare"
        client.make_bucket(self._bucket, object_lock=True)

    def put(self, content: bytes) -> str:
        """Put bytes as the client does by default."""
        name = hashlib.sha256(content).hexdigest()
        self._client.put_object(self._bucket, name, BytesIO(content), len(content))
        return name

    def put_whole(self, content: bytes) -> str:
        """Put bytes in one request, which is faster for this size."""
        name = hashlib.sha256(content).hexdigest()
        self._client.put_object(self._bucket, name, BytesIO(content), len(content), part_size=2 * CLIP_BYTES)
        return name

    def get(self, name: str) -> int:
        """Read all bytes, in pieces like the service's."""
        answer = self._client.get_object(self._bucket, name)
        try:
            return sum(len(piece) for piece in answer.stream(LARGEST_CHUNK_BYTES))
        finally:
            answer.close()
            answer.release_conn()


def _own_store(county: PlatformProcess) -> Store:
    files = PlatformFiles(county.data_directory)
    return Store(county.state.object_endpoint, files.object_access_key, files.object_secret_key)


def _reference_speed(result: Result, source: Source, rounds: int) -> None:
    """Measure speed on a county that keeps its evidence in MinIO."""
    with harness.scratch() as directory, reference_store.running(directory / "minio") as store:
        county = PlatformProcess(
            COUNTY, directory / "county", environment=store.environment, log_format="json", is_split=True
        )
        with county:
            client = Client(county, source)
            with client.channel:
                _speed(result, "minio", client, _Bare(store), source, rounds)


def _speed(result: Result, store: str, client: Client, bare: _Bare, source: Source, rounds: int) -> None:
    """Take turns: ours, the client's default, the client in one request, and the same for reading."""
    seconds: dict[str, list[float]] = {name: [] for name in ("upload", "put", "put_whole", "read", "get")}

    def timed(name: str, do: Callable[[], Answer]) -> Answer:
        started = time.perf_counter()
        answer = do()
        seconds[name].append(time.perf_counter() - started)
        return answer

    for number in range(WARM_ROUNDS + rounds):
        if number == WARM_ROUNDS:
            for values in seconds.values():
                values.clear()
        contents = [source.clip() for _ in range(3)]
        draft = source.draft(contents[0], evidence_pb2.EVIDENCE_KIND_CLIP)
        steps: list[tuple[str, Callable[[], str]]] = [
            ("upload", partial(client.upload, draft, contents[0])),
            ("put", partial(bare.put, contents[1])),
            ("put_whole", partial(bare.put_whole, contents[2])),
        ]
        names = {}
        for turn in range(len(steps)):
            name, do = steps[(number + turn) % len(steps)]
            names[name] = timed(name, do)
            if name == "upload":
                # Drawing takes half a core for a moment; whoever comes next has both, as the upload had.
                harness.wait_until(partial(client.has_preview, names[name]), "the pictures of a clip", SAMPLE_SECONDS)
        reads: list[tuple[str, Callable[[], int]]] = [
            ("read", partial(client.read, names["upload"])),
            ("get", partial(bare.get, names["put_whole"])),
        ]
        for turn in range(len(reads)):
            if timed(*reads[(number + turn) % len(reads)]) != CLIP_BYTES:
                raise RuntimeError("not all bytes came back")
    for what, values in seconds.items():
        result.figures[f"{store}_{what}_milliseconds"] = statistics.median(values) * 1000
    result.figures |= {
        f"{store}_upload_ratio": _ratio(seconds["put"], seconds["upload"]),
        f"{store}_upload_ratio_to_one_request": _ratio(seconds["put_whole"], seconds["upload"]),
        f"{store}_read_ratio": _ratio(seconds["get"], seconds["read"]),
    }


def _ratio(theirs: list[float], ours: list[float]) -> float:
    return statistics.median(their / our for their, our in zip(theirs, ours, strict=True))


def _memory(
    result: Result, county: PlatformProcess, client: Client, source: Source, big_bytes: int, many_bytes: int
) -> None:
    """Look at the service and its children while a big clip comes, then sixteen at once: in messages as our own clients
    send them, and in the largest ones that there may be.
    """
    pid = county.service_pid("video")
    result.figures["start_service_megabytes"] = harness.resident_bytes(pid)[0] / 1e6
    with _peaks(pid) as peaks:
        big = source.clip(big_bytes)
        client.upload(source.draft(big, evidence_pb2.EVIDENCE_KIND_CLIP), big)
        del big
    result.figures["peak_big_file_megabytes"] = peaks[0]
    for name, chunk_bytes in (("sixteen", CHUNK_BYTES), ("sixteen_in_largest_messages", LARGEST_CHUNK_BYTES)):
        with _peaks(pid) as peaks:
            _upload_sixteen(client, source, many_bytes, chunk_bytes)
        result.figures[f"peak_{name}_megabytes"] = peaks[0]
        result.figures["peak_inspecting_megabytes"] = peaks[1]
    figures = result.figures
    figures["peak_service_megabytes"] = max(figures["peak_sixteen_megabytes"], figures["peak_big_file_megabytes"])


def _upload_sixteen(client: Client, source: Source, many_bytes: int, chunk_bytes: int) -> None:
    contents = [source.clip(many_bytes) for _ in range(4)]
    drafts = [
        (source.draft(contents[number % 4], evidence_pb2.EVIDENCE_KIND_CLIP), contents[number % 4])
        for number in range(UPLOADS_AT_ONCE)
    ]
    with ThreadPoolExecutor(UPLOADS_AT_ONCE) as threads:
        list(threads.map(lambda one: client.upload(one[0], one[1], chunk_bytes), drafts))


@contextmanager
def _peaks(pid: int) -> Iterator[list[float]]:
    """Give the highest resident memory, in MB, of a process and of its children together, once it is over."""
    peaks = [0.0, 0.0]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE_SECONDS):
            peaks[0] = max(peaks[0], harness.resident_bytes(pid)[0] / 1e6)
            children = 0.0
            for child in harness.children(pid):
                # One that has just ended is none.
                with suppress(OSError, KeyError):
                    children += harness.resident_bytes(child)[0] / 1e6
            peaks[1] = max(peaks[1], children)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


def _fill(client: Client, source: Source, manifests: int) -> None:
    """Seal photos, a few at a time."""

    def seal(_: int) -> None:
        content = source.photo()
        client.upload(source.draft(content, evidence_pb2.EVIDENCE_KIND_PHOTO), content)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(seal, range(manifests)))


def _carry(result: Result, directory: Path, manifests: int) -> None:
    """Give the county an upstream, and measure how fast its manifests arrive there; the bytes are not wanted."""
    certificates = make_certificates(directory / "pki", [COUNTY, CITY])
    nothing = {"ZHICHAO_VIDEO_EAGER": EAGER_NOTHING}
    with PlatformProcess(
        CITY, directory / "city", tls_directory=certificates[CITY], environment=nothing, log_format="json"
    ) as city:
        with city.connect("registry") as channel:
            register_below(registry_grpc.RegistryServiceStub(channel), COUNTY, CITY)
        county = PlatformProcess(
            COUNTY,
            directory / "county",
            upstream=city.peer_address,
            tls_directory=certificates[COUNTY],
            log_format="json",
        )
        with city.connect("video") as top:
            county.launch()
            try:
                harness.wait_until(lambda: harness.size_at(top, COUNTY) > 0, "the first batch", SAMPLE_SECONDS)
                first, started = harness.size_at(top, COUNTY), time.perf_counter()
                harness.wait_until(lambda: harness.size_at(top, COUNTY) >= manifests, "the manifests", SAMPLE_SECONDS)
                last, seconds = harness.size_at(top, COUNTY), time.perf_counter() - started
                county.wait_until_serving()
            finally:
                county.stop()
    result.figures["manifests_per_second"] = (last - first) / seconds if last > first else float(manifests)
