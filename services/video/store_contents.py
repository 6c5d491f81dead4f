"""What an evidence store says of itself and of what is in it: its bucket, objects, their versions, parts of uploads."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where the evidence is, for people; holds no secret."""

    endpoint: str
    bucket: str


@dataclass(frozen=True, slots=True)
class BucketFacts:
    """What the bucket is: whether this call made it, and what it keeps."""

    is_new: bool
    is_versioned: bool
    has_object_lock: bool


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """What the store says about the current version of one object, without reading it."""

    key: str
    size_bytes: int
    modified_time: datetime
    # Empty in buckets without versions.
    version_id: str = ""


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One version of an object, or a marker that hides the versions before it."""

    version_id: str
    is_latest: bool
    is_delete_marker: bool
    size_bytes: int
    modified_time: datetime


@dataclass(frozen=True, slots=True)
class StoredPart:
    """One part of a multipart upload as the store has it."""

    part_number: int
    size_bytes: int
    etag: str
