"""Registers a generated service with the messages of some methods left serialised, for handlers that take them apart
themselves.
"""

from collections.abc import Collection, Mapping
from typing import Any, cast

import grpc


def with_raw_messages(server: grpc.Server, methods: Collection[str]) -> grpc.Server:
    """Return what generated code registers a service at, so that the named methods get and give bytes."""
    return cast("grpc.Server", _Registration(server, methods))


class _Registration:
    """Stands before a server while a service is registered; has the two methods that generated code calls."""

    def __init__(self, server: grpc.Server, methods: Collection[str]) -> None:
        self._server = server
        self._methods = methods

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        """Leave out what the next call registers with other codecs."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        """Register the methods of a service. Raises LookupError when it lacks one that was named."""
        missing = set(self._methods) - method_handlers.keys()
        if missing:
            raise LookupError(f"{service_name} has no method {', '.join(sorted(missing))}")
        handlers = {
            name: _without_codecs(handler) if name in self._methods else handler
            for name, handler in method_handlers.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service_name, handlers),))
        self._server.add_registered_method_handlers(service_name, handlers)


def _without_codecs(handler: Any) -> Any:
    if handler.request_streaming and handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(handler.stream_stream)
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(handler.stream_unary)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(handler.unary_stream)
    return grpc.unary_unary_rpc_method_handler(handler.unary_unary)
