"""Which video service a command means, and who calls it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from cli.service_reach import Reach, ReachedService

if TYPE_CHECKING:
    from zhichao.video.v1.service_pb2_grpc import VideoServiceStub

CALL_SECONDS_MAX: Final = 30.0
"""What writes a custody event is answered in milliseconds; an upload that ends is inspected and stored first."""

CALLER_TOKENS: Final = ("operator",)
"""Whose token is shown on a local platform unless told otherwise."""

_VIDEO: Final = ReachedService("video", "video service", "视频服务")

reaching = _VIDEO.reaching


@contextmanager
def video_service(reach: Reach) -> "Iterator[VideoServiceStub]":
    """Reach the service that is meant; what it refuses becomes a message."""
    from zhichao.video.v1.service_pb2_grpc import VideoServiceStub

    with _VIDEO.channel(reach, CALLER_TOKENS) as channel:
        yield VideoServiceStub(channel)
