"""What each method of a server demands of its caller, read from the option `zhichao.common.v1.access` of the protos."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import Message

from services.common.access.permissions import Permission
from services.common.rpc_limits import MESSAGE_BYTES_MAX
from zhichao.common.v1 import access_pb2

MESSAGE_BYTES_DEFAULT: Final = 64 * 1024
"""Largest message of a method that says nothing else: a record takes 8 KiB, a page of ids less than 64 KiB."""

_REFLECTION: Final = ("grpc.reflection.v1alpha.ServerReflection", "grpc.reflection.v1.ServerReflection")


@dataclass(frozen=True, slots=True)
class MethodAccess:
    """What one method demands. Without a permission it is refused to everybody."""

    name: str
    permission: Permission | None
    unit_field: str = ""
    division_field: str = ""
    is_open: bool = False
    checks_items: bool = False
    message_bytes_max: int = MESSAGE_BYTES_DEFAULT
    is_journalled: bool = False
    items_field: str = ""
    items_path: tuple[int, ...] = ()
    items_max: int = 0

    def unit_of(self, request: Message) -> str:
        """Return the source unit that the request names."""
        return str(attrgetter(self.unit_field)(request))

    def division_of(self, request: Message) -> str:
        """Return the division or platform that the request names."""
        return str(attrgetter(self.division_field)(request))


def read_access(method: MethodDescriptor) -> MethodAccess:
    """Read what a method demands from its descriptor."""
    name = f"{method.containing_service.full_name}/{method.name}"
    options = method.GetOptions()
    if not options.HasExtension(access_pb2.access):
        return MethodAccess(name, None)
    access = options.Extensions[access_pb2.access]
    permission = access_pb2.Permission.Name(access.permission).removeprefix("PERMISSION_")
    return MethodAccess(
        name,
        Permission(permission) if access.permission else None,
        access.unit_field,
        access.division_field,
        access.is_open,
        access.checks_items,
        min(access.message_bytes_max or MESSAGE_BYTES_DEFAULT, MESSAGE_BYTES_MAX),
        access.is_journalled,
        access.items_field,
        field_path(method.input_type, access.items_field) if access.items_field else (),
        access.items_max,
    )


def access_table(services: Iterable[str]) -> Mapping[str, MethodAccess]:
    """Return what the methods of the services demand, by path (`/package.Service/Method`).

    Reflection tells what a server can do and nothing of what it holds: whoever has any credentials may read it.
    """
    table: dict[str, MethodAccess] = {}
    for service in services:
        descriptor = descriptor_pool.Default().FindServiceByName(service)
        for method in descriptor.methods:
            access = read_access(method)
            table[f"/{access.name}"] = access
    for service in _REFLECTION:
        name = f"{service}/ServerReflectionInfo"
        table[f"/{name}"] = MethodAccess(name, Permission.IDENTITY, is_open=True)
    return table


def request_types(services: Iterable[str]) -> Mapping[str, Descriptor]:
    """Return the type of the requests of every method of the services, by path."""
    return {path: method.input_type for path, method in _methods(services).items()}


def response_types(services: Iterable[str]) -> Mapping[str, Descriptor]:
    """Return the type of the answers of every method of the services, by path."""
    return {path: method.output_type for path, method in _methods(services).items()}


def _methods(services: Iterable[str]) -> Mapping[str, MethodDescriptor]:
    pool = descriptor_pool.Default()
    return {
        f"/{service}/{method.name}": method
        for service in services
        for method in pool.FindServiceByName(service).methods
    }


def field_path(message: Descriptor, path: str) -> tuple[int, ...]:
    """Return the numbers of the fields on a dotted path, the last one repeated. Raises LookupError if there is none."""
    numbers: list[int] = []
    *parents, last = path.split(".")
    for parent in parents:
        field = message.fields_by_name[parent]
        if field.message_type is None:
            raise LookupError(f"{parent} of {message.full_name} is no message")
        numbers.append(field.number)
        message = field.message_type
    field = message.fields_by_name[last]
    if not field.is_repeated:
        raise LookupError(f"{path} of {message.full_name} is not repeated")
    return (*numbers, field.number)


def field_exists(message: Any, path: str) -> bool:
    """Tell whether a message type has a singular field of text at the dotted path."""
    *parents, last = path.split(".")
    for parent in parents:
        field = message.fields_by_name.get(parent)
        if field is None or field.message_type is None or field.is_repeated:
            return False
        message = field.message_type
    field = message.fields_by_name.get(last)
    return field is not None and field.cpp_type == field.CPPTYPE_STRING and not field.is_repeated
