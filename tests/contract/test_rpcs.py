"""Every RPC of the contracts is answered by somebody, and every enum says when it was not set."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import EnumDescriptor, FileDescriptor, MethodDescriptor, ServiceDescriptor

ROOT = Path(__file__).resolve().parents[2]
PROTOS = ROOT / "protos"


def _files() -> Iterator[tuple[str, FileDescriptor]]:
    for path in sorted(PROTOS.rglob("*.proto")):
        module = ".".join(path.relative_to(PROTOS).with_suffix("").parts)
        yield module, importlib.import_module(f"{module}_pb2").DESCRIPTOR


def _name(value: object) -> str:
    return str(getattr(value, "full_name", ""))


def _services() -> Iterator[tuple[str, ServiceDescriptor]]:
    for module, file in _files():
        for service in file.services_by_name.values():
            yield module, service


def _methods() -> Iterator[tuple[str, MethodDescriptor]]:
    for module, service in _services():
        for method in service.methods:
            yield module, method


def _enums() -> Iterator[EnumDescriptor]:
    for _, file in _files():
        yield from file.enum_types_by_name.values()
        for message in file.message_types_by_name.values():
            yield from message.enum_types


def _servicers(module: str, service: ServiceDescriptor) -> list[type]:
    """Return the classes that answer a service; importing the servicers makes them known to their base."""
    for path in sorted(ROOT.glob("services/*/*servicer*.py")):
        importlib.import_module(f"services.{path.parent.name}.{path.stem}")
    base: type[object] = getattr(importlib.import_module(f"{module}_pb2_grpc"), f"{service.name}Servicer")
    return [servicer for servicer in base.__subclasses__() if servicer.__module__.startswith("services.")]


def test_there_are_services() -> None:
    assert list(_services())


@pytest.mark.parametrize(("module", "method"), list(_methods()), ids=_name)
def test_every_rpc_is_implemented(module: str, method: MethodDescriptor) -> None:
    # The generated base answers UNIMPLEMENTED: what is inherited from it is not there. The relay answers its own
    # platform and platforms below on two ports, with different methods.
    servicers = _servicers(module, method.containing_service)

    assert [servicer for servicer in servicers if method.name in vars(servicer)]


@pytest.mark.parametrize("enum", list(_enums()), ids=_name)
def test_every_enum_begins_unspecified(enum: EnumDescriptor) -> None:
    zero = enum.values_by_number[0]

    assert zero.name.endswith("_UNSPECIFIED")
