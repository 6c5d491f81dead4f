"""Versions of one object that came to be at once: two put the same bytes, neither saw the other, and one is enough.

Only for what is written in parts; a single request is refused by the store when the object is there already.
"""

from services.video.s3_bucket import S3Bucket


def remove_surplus(bucket: S3Bucket, key: str, size_bytes: int) -> None:
    """Remove all versions but one, where all are of this size and none is deleted. Raises StoreError.

    Called by each who has just written one, before it is locked. All keep the oldest, so that they do not remove each
    other's; where one that is not the oldest is locked already, that one is kept.
    """
    versions = bucket.versions(key)
    # Beside other things nothing is surplus: versions that are hidden or of another size were damaged, or are.
    if len(versions) < 2 or any(one.is_delete_marker or one.size_bytes != size_bytes for one in versions):
        return
    # By their ids, too: some servers tell times by the second.
    first, *others = sorted(versions, key=lambda one: (one.modified_time, one.version_id))
    removed = [bucket.remove_version(key, one.version_id) for one in others]
    if not all(removed):
        bucket.remove_version(key, first.version_id)
