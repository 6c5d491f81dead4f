"""Registers a generated service with the messages of some methods left serialised, for handlers that take them apart
themselves.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

import grpc


def with_raw_messages(server: grpc.Server, methods: Collection[str], *, answers: Collection[str] = ()) -> grpc.Server:
    """Return what generated code registers a service at, so that the named methods get and give bytes.

    Those named in `answers` get messages and give bytes.
    """
    return cast("grpc.Server", _Registration(server, methods, answers))


class _Registration:
    """Stands before a server while a service is registered; has the two methods that generated code calls."""

    def __init__(self, server: grpc.Server, methods: Collection[str], answers: Collection[str]) -> None:
        self._server = server
        self._methods = methods
        self._answers = answers

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        """Leave out what the next call registers with other codecs."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        """Register the methods of a service. Raises LookupError when it lacks one that was named."""
        missing = {*self._methods, *self._answers} - method_handlers.keys()
        if missing:
            raise LookupError(f"{service_name} has no method {', '.join(sorted(missing))}")
        handlers = {name: self._handler(name, handler) for name, handler in method_handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service_name, handlers),))
        self._server.add_registered_method_handlers(service_name, handlers)

    def _handler(self, name: str, handler: Any) -> Any:
        if name in self._methods:
            return _raw(handler, None)
        return _raw(handler, handler.request_deserializer) if name in self._answers else handler


def _raw(handler: Any, parse: Callable[[bytes], Any] | None) -> Any:
    if handler.request_streaming and handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(handler.stream_stream, parse)
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(handler.stream_unary, parse)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(handler.unary_stream, parse)
    return grpc.unary_unary_rpc_method_handler(handler.unary_unary, parse)
