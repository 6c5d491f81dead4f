"""A store whose disk is away that has one object: one thing cannot be done with it, all else goes on."""

from typing import Any, cast

from services.video.object_store import ObjectStore, StoreUnavailableError, object_key


class _SilentObject:
    def __init__(self, objects: ObjectStore, digest: bytes, method: str) -> None:
        self._objects = objects
        self._key = object_key(digest)
        self._method = method

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._objects, name)
        if name != self._method:
            return found

        def answer(key: str, **options: Any) -> Any:
            if key == self._key:
                raise StoreUnavailableError("a disk of the store")
            return found(key, **options)

        return answer


def with_silent_object(objects: ObjectStore, digest: bytes, method: str) -> ObjectStore:
    """Return the store, which says of this one object that it is away whenever the method is called for it."""
    return cast("ObjectStore", _SilentObject(objects, digest, method))
