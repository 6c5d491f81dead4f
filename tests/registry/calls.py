"""The RPCs of RegistryService by kind, so that a test can be written once for all of them."""

from typing import Any

from services.registry.kinds import BY_NAME, Kind
from tests.registry.harness import Refused, RunningRegistry
from zhichao.registry.v1 import service_pb2 as pb


def kind_of(resource: Any) -> Kind[Any]:
    return BY_NAME[resource.DESCRIPTOR.full_name]


def noun(resource: Any) -> str:
    """Return the name of the message, which is also the noun in the names of RPCs."""
    return str(resource.DESCRIPTOR.name)


def _create_request(resource: Any) -> Any:
    return getattr(pb, f"Create{noun(resource)}Request")(**{kind_of(resource).resource_type: resource})


def _update_request(resource: Any, *paths: str) -> Any:
    request = getattr(pb, f"Update{noun(resource)}Request")(**{kind_of(resource).resource_type: resource})
    request.update_mask.paths.extend(paths)
    return request


def _get_request(resource: Any, **fields: Any) -> Any:
    request_type = getattr(pb, f"Get{noun(resource)}Request")
    return request_type(**{name: getattr(resource, name) for name in kind_of(resource).key} | fields)


def create(registry: RunningRegistry, resource: Any) -> Any:
    answer = registry.call(f"Create{noun(resource)}", _create_request(resource))
    return getattr(answer, kind_of(resource).resource_type)


def refused_create(registry: RunningRegistry, resource: Any) -> Refused:
    return registry.refusal(f"Create{noun(resource)}", _create_request(resource))


def update(registry: RunningRegistry, resource: Any, *paths: str) -> Any:
    answer = registry.call(f"Update{noun(resource)}", _update_request(resource, *paths))
    return getattr(answer, kind_of(resource).resource_type)


def refused_update(registry: RunningRegistry, resource: Any, *paths: str) -> Refused:
    return registry.refusal(f"Update{noun(resource)}", _update_request(resource, *paths))


def get(registry: RunningRegistry, resource: Any, **fields: Any) -> Any:
    answer = registry.call(f"Get{noun(resource)}", _get_request(resource, **fields))
    return getattr(answer, kind_of(resource).resource_type)


def refused_get(registry: RunningRegistry, resource: Any, **fields: Any) -> Refused:
    return registry.refusal(f"Get{noun(resource)}", _get_request(resource, **fields))


def list_all(registry: RunningRegistry, resource: Any, page_size: int = 0, **filters: Any) -> list[Any]:
    """Read all pages of a list of the resource's kind."""
    plural = kind_of(resource).table
    found: list[Any] = []
    token = ""
    while True:
        request = getattr(pb, f"List{noun(resource)}sRequest")(page_size=page_size, page_token=token, **filters)
        answer = registry.call(f"List{noun(resource)}s", request)
        found += getattr(answer, plural)
        token = answer.next_page_token
        if not token:
            return found


def refused_list(registry: RunningRegistry, resource: Any, **fields: Any) -> Refused:
    return registry.refusal(f"List{noun(resource)}s", getattr(pb, f"List{noun(resource)}sRequest")(**fields))
