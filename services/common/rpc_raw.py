"""Registers a generated service with the messages of some methods left serialised, for handlers that take them apart
themselves.
"""

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, cast

import grpc

_NO_PARSERS: Mapping[str, Callable[[bytes], Any]] = MappingProxyType({})


def with_raw_messages(
    server: grpc.Server,
    methods: Collection[str],
    *,
    answers: Collection[str] = (),
    parsers: Mapping[str, Callable[[bytes], Any]] = _NO_PARSERS,
) -> grpc.Server:
    """Return what generated code registers a service at, so that the named methods get and give bytes.

    Those named in `answers` get messages and give bytes; those in `parsers` get what a parser of their own makes of the
    bytes, which raises DecodeError for what is no message, and give messages.
    """
    return cast("grpc.Server", _Registration(server, methods, answers, parsers))


class _Registration:
    """Stands before a server while a service is registered; has the two methods that generated code calls."""

    def __init__(
        self,
        server: grpc.Server,
        methods: Collection[str],
        answers: Collection[str],
        parsers: Mapping[str, Callable[[bytes], Any]],
    ) -> None:
        self._server = server
        self._methods = methods
        self._answers = answers
        self._parsers = parsers

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        """Leave out what the next call registers with other codecs."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        """Register the methods of a service. Raises LookupError when it lacks one that was named."""
        missing = {*self._methods, *self._answers, *self._parsers} - method_handlers.keys()
        if missing:
            raise LookupError(f"{service_name} has no method {', '.join(sorted(missing))}")
        handlers = {name: self._handler(name, handler) for name, handler in method_handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service_name, handlers),))
        self._server.add_registered_method_handlers(service_name, handlers)

    def _handler(self, name: str, handler: Any) -> Any:
        if name in self._methods:
            return _raw(handler, None, None)
        if name in self._answers:
            return _raw(handler, handler.request_deserializer, None)
        if name in self._parsers:
            return _raw(handler, self._parsers[name], handler.response_serializer)
        return handler


def _raw(handler: Any, parse: Callable[[bytes], Any] | None, serialize: Callable[[Any], bytes] | None) -> Any:
    if handler.request_streaming and handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(handler.stream_stream, parse, serialize)
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(handler.stream_unary, parse, serialize)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(handler.unary_stream, parse, serialize)
    return grpc.unary_unary_rpc_method_handler(handler.unary_unary, parse, serialize)
