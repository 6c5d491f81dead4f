"""The cameras of a simulated site: photos of weighings and clips of suspected overloads, uploaded by the terminals
while it weighs. What was sealed is written down, for a checker that trusts nobody else.

Weighings never wait for their pictures. Photos wait in a short queue, and give way to terminals that fall behind; what
does not fit into the queue is left out and counted.
"""

import hashlib
import json
import os
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import Final, TextIO

import grpc

from cli.evidence_transfer import AGAIN_REASONS, CHUNK_BYTES, BrokenOffError, Retries, upload, upload_messages
from cli.simulate.cameras import CameraReports
from services.common.access.tokens import bearer
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.rpc_client import service_error, with_credentials
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import service_pb2 as pb
from zhichao.video.v1.service_pb2_grpc import VideoServiceStub
from zhichao.weighing.v1 import record_pb2, service_pb2, weighing_pb2

UPLOADERS_MIN: Final = 2
UPLOADERS_MAX: Final = 8
"""Threads that draw and upload, one for each core: a photo is drawn in 5 ms, a clip in a quarter of a second, and the
rest is waiting for the platform, which has more to do. Two keep two cores busy; eight are half of the calls that a
service takes at a time."""

WAITING_PHOTOS_MAX: Final = 200
"""Photos that wait to be uploaded. At the eight a second that two cores seal this is half a minute of work, which a run
waits for at its end; while the machine does not keep up, further ones are left out and counted."""

WAITING_SUSPECTED_MAX: Final = 20_000
"""Photos and clips of suspected overloads that wait: some 20 MB. Traffic has one among a thousand weighings; this is
reached when most trucks are told to be overloaded, or the platform is away for hours. Further ones are counted."""

DRAIN_SECONDS: Final = 120.0
"""How long the end of a run waits for photos: a full queue at two a second, as on a machine that others use, too.
Photos that wait longer are left out and counted. What shows suspected overloads is waited for as long again."""

STALL_SECONDS_MAX: Final = 60.0
"""A photo is sealed in a fraction of a second, and a platform that was away is tried again within seconds: a minute in
which nothing was sealed is a fault."""

PASSING_REASONS: Final = AGAIN_REASONS | {Reason.UNKNOWN_SOURCE_UNIT, Reason.RATE_LIMITED, Reason.TOO_MANY_REQUESTS}
"""Refusals that pass: the video service learns of new units from the registry, as the weighing service does."""

_LAST_CALL_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.2


class _StoppedError(Exception):
    """A pause was ended by an abort: nothing is to be sent any more."""


@dataclass(frozen=True, slots=True)
class EvidenceCounters:
    """What became of photos and clips so far."""

    photos: int = 0
    clips: int = 0
    sealed_bytes: int = 0
    # Refused for good.
    refused: int = 0
    # Photos left out because the machine did not keep up.
    skipped: int = 0
    # Clips of suspected overloads left out because too many waited.
    skipped_clips: int = 0

    @property
    def sealed(self) -> int:
        """Photos and clips that are sealed."""
        return self.photos + self.clips


@dataclass(frozen=True, slots=True)
class _Shot:
    """A photo or clip to be made and uploaded."""

    record: record_pb2.WeighingRecord
    is_clip: bool
    is_suspected: bool


class EvidenceUploads:
    """Takes weighings as they are acknowledged and uploads what shows them. Can be started once."""

    def __init__(
        self,
        open_channel: Callable[[], grpc.Channel],
        tokens: Mapping[str, str],
        *,
        seed: int,
        every: int,
        ledger_path: Path,
    ) -> None:
        self._open_channel = open_channel
        self._tokens = tokens
        self._seed = seed
        self._every = every
        self._is_weighing_behind: Callable[[], bool] = lambda: False
        self._lock = threading.Condition()
        self._suspected: deque[_Shot] = deque()
        self._photos: deque[_Shot] = deque()
        self._under_way = 0
        self._counters = EvidenceCounters()
        self._draining = threading.Event()
        self._aborted = threading.Event()
        self._channel: grpc.Channel | None = None
        self._threads: list[threading.Thread] = []
        self._cameras = CameraReports()
        ledger_path.parent.mkdir(parents=True, exist_ok=True)
        self._ledger: TextIO | None = ledger_path.open("a", encoding="utf-8")
        self.last_error = ""

    def start(self, is_weighing_behind: Callable[[], bool] = lambda: False) -> None:
        """Begin to upload. Photos wait while `is_weighing_behind`; what shows suspected overloads never does."""
        self._is_weighing_behind = is_weighing_behind
        self._channel = self._open_channel()
        count = min(max(os.cpu_count() or 1, UPLOADERS_MIN), UPLOADERS_MAX)
        self._threads = [
            threading.Thread(target=self._run, name=f"camera {number}", daemon=True) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def offer(self, record: record_pb2.WeighingRecord, recorded: service_pb2.Recorded) -> None:
        """Take a weighing that is held: a photo of every n-th one, photo and clip of each suspected overload.

        Returns at once, whatever waits.
        """
        is_suspected = recorded.judgement.verdict == weighing_pb2.VERDICT_SUSPECTED
        # By the record and not by counting: the same seed photographs the same weighings, however they arrive.
        is_photographed = zlib.crc32(record.record_id.encode()) % self._every == 0
        with self._lock:
            if is_suspected:
                if len(self._suspected) >= WAITING_SUSPECTED_MAX:
                    self._count(skipped=1, skipped_clips=1)
                    return
                self._suspected += [_Shot(record, is_clip=True, is_suspected=True), _Shot(record, False, True)]
            elif is_photographed:
                if len(self._photos) >= WAITING_PHOTOS_MAX:
                    self._count(skipped=1)
                    return
                self._photos.append(_Shot(record, is_clip=False, is_suspected=False))
            self._lock.notify()

    def stop(
        self, *, drain: bool, timeout_seconds: float, report: Callable[[int], None] = lambda waiting: None
    ) -> bool:
        """Stop; with `drain` first upload what waits, and report how much that is.

        After the time photos that wait are left out and counted; what is under way, and what shows suspected overloads,
        has as much time again. It ends early when nothing was sealed for STALL_SECONDS_MAX. Returns whether nothing is
        left. May be called twice.
        """
        if drain:
            self._draining.set()
            with self._lock:
                self._lock.notify_all()
            self._drain(timeout_seconds, report)
        self._aborted.set()
        # Nearly all end by themselves; a call that hangs is ended by closing its channel.
        self._join(_LAST_CALL_SECONDS)
        if self._channel is not None:
            self._channel.close()
        self._join(_LAST_CALL_SECONDS)
        with self._lock:
            if self._ledger is not None:
                self._ledger.close()
                self._ledger = None
        return self.waiting_count == 0

    @property
    def counters(self) -> EvidenceCounters:
        """Return the totals as they are now."""
        with self._lock:
            return self._counters

    @property
    def waiting_count(self) -> int:
        """Return how many photos and clips are not sealed yet."""
        with self._lock:
            return len(self._suspected) + len(self._photos) + self._under_way

    # Ending

    def _drain(self, timeout_seconds: float, report: Callable[[int], None]) -> None:
        """Wait until the threads have uploaded everything, or nothing moves any more."""
        began = progressed_at = time.monotonic()
        least = self.waiting_count
        while any(thread.is_alive() for thread in self._threads) and not self._aborted.is_set():
            waiting, now = self.waiting_count, time.monotonic()
            report(waiting)
            if waiting < least:
                least, progressed_at = waiting, now
            if now - began > timeout_seconds:
                self._leave_out_photos()
            if now - progressed_at > STALL_SECONDS_MAX or now - began > 2 * timeout_seconds:
                # What is left stays waiting, and whoever asks is told.
                return
            self._aborted.wait(_LOOK_SECONDS)

    def _leave_out_photos(self) -> None:
        with self._lock:
            self._count(skipped=len(self._photos))
            self._photos.clear()

    def _join(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))

    # Uploading

    def _run(self) -> None:
        while not self._aborted.is_set():
            # Looked at first: nothing is offered any more once it is set, so that nothing is overlooked.
            is_draining = self._draining.is_set()
            shot = self._take()
            if shot is None:
                if is_draining:
                    return
                continue
            is_settled = False
            try:
                is_settled = self._send(shot)
            finally:
                with self._lock:
                    self._under_way -= 1
                    # It waits again, and is counted so.
                    if not is_settled:
                        (self._suspected if shot.is_suspected else self._photos).appendleft(shot)

    def _take(self) -> _Shot | None:
        """Return the next one, clips and photos of suspected overloads first; None after a moment without."""
        # Once the terminals have ended nobody is behind any more.
        may_take_photos = self._draining.is_set() or not self._is_weighing_behind()
        with self._lock:
            if not self._suspected and not (self._photos and may_take_photos) and not self._draining.is_set():
                self._lock.wait(_LOOK_SECONDS)
            if self._suspected:
                self._under_way += 1
                return self._suspected.popleft()
            if not self._photos or not may_take_photos:
                return None
            self._under_way += 1
            return self._photos.popleft()

    def _send(self, shot: _Shot) -> bool:
        """Draw and upload; return whether it is sealed or refused for good. False only at an abort."""
        assert self._channel is not None  # noqa: S101 - threads run after it is open
        draft, content = _draft(shot, self._seed)
        unit = shot.record.source_unit_id
        stub = VideoServiceStub(with_credentials(self._channel, partial(bearer, self._tokens[unit])))

        def chunks(offset: int) -> Iterator[bytes]:
            return (content[start : start + CHUNK_BYTES] for start in range(offset, len(content), CHUNK_BYTES))

        retries = Retries(self._pause)
        is_first = True
        while not self._aborted.is_set():
            try:
                # What is new is sent at once; where the first call broke off, the platform says how far it had come.
                answer = (
                    stub.UploadEvidence(upload_messages(draft, chunks))
                    if is_first
                    else upload(stub, draft, chunks, retries=Retries(self._pause))
                )
            except grpc.RpcError as error:
                refused = service_error(error)
                if self._aborted.is_set():
                    return False
                if not (refused.is_retryable or refused.reason in PASSING_REASONS):
                    self._refuse(refused)
                    return True
                is_first = False
                self.last_error = str(refused)
                try:
                    retries.wait(refused)
                except _StoppedError:
                    return False
                except BrokenOffError:
                    # A camera never gives up: its platform comes back.
                    retries.came_further()
            except _StoppedError:
                return False
            except BrokenOffError as error:
                self.last_error = str(error)
            else:
                self._seal(shot, answer.held_evidence)
                self._cameras.tell(stub, draft)
                return True
        return False

    def _pause(self, seconds: float) -> None:
        if self._aborted.wait(seconds):
            raise _StoppedError

    def _seal(self, shot: _Shot, held: pb.HeldEvidence) -> None:
        line = json.dumps(
            {
                "outcome": "acknowledged",
                "source_unit_id": held.evidence.source_unit_id,
                "evidence_id": held.evidence.evidence_id,
                "record_id": shot.record.record_id,
                "origin": held.origin,
                "sequence": held.sequence,
                "leaf_digest": held.leaf_digest.hex(),
                "digest": held.evidence.digest.hex(),
                "size_bytes": held.evidence.size_bytes,
                "is_clip": shot.is_clip,
                "is_suspected": shot.is_suspected,
            },
            separators=(",", ":"),
        )
        self.last_error = ""
        with self._lock:
            if self._ledger is not None:
                self._ledger.write(line + "\n")
                self._ledger.flush()
            self._count(photos=not shot.is_clip, clips=shot.is_clip, sealed_bytes=held.evidence.size_bytes)

    def _refuse(self, error: ServiceError) -> None:
        self.last_error = str(error)
        with self._lock:
            self._count(refused=1)

    def _count(self, **more: int) -> None:
        """Add to the totals; the lock is held."""
        self._counters = replace(
            self._counters, **{name: getattr(self._counters, name) + count for name, count in more.items()}
        )


def _draft(shot: _Shot, seed: int) -> tuple[pb.EvidenceDraft, bytes]:
    """Draw what a camera sees, and say what it is."""
    # Pictures and their libraries are loaded by runs that show some.
    from cli.simulate.media import Scene, make_clip, make_photo

    record = shot.record
    view = evidence_pb2.CAMERA_VIEW_SIDE if shot.is_clip else evidence_pb2.CAMERA_VIEW_FRONT
    scene = Scene(
        seed=seed,
        source_unit_id=record.source_unit_id,
        scale_id=record.scale_id,
        record_id=record.record_id,
        plate_number=record.front_plate.number,
        gross_weight_kg=record.gross_weight_kg,
        axle_count=record.vehicle.axle_count,
        weigh_time=record.weigh_time.ToDatetime(tzinfo=UTC),
        view=view,
    )
    media = make_clip(scene) if shot.is_clip else make_photo(scene)
    draft = pb.EvidenceDraft(
        source_unit_id=record.source_unit_id,
        evidence_id=f"{record.record_id}.{'clip' if shot.is_clip else 'photo'}",
        kind=evidence_pb2.EVIDENCE_KIND_CLIP if shot.is_clip else evidence_pb2.EVIDENCE_KIND_PHOTO,
        digest=hashlib.sha256(media.content).digest(),
        size_bytes=len(media.content),
        content_type=media.content_type,
        view=view,
        camera_id=scene.camera_id,
        subjects=[evidence_pb2.Subject(record_id=record.record_id)],
    )
    draft.capture_start_time.FromDatetime(media.start_time)
    if media.end_time is not None:
        draft.capture_end_time.FromDatetime(media.end_time)
    return draft, media.content
