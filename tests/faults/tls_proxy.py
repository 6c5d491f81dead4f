"""TLS for a program that speaks none: a proxy that takes plain text and dials mutual TLS, or the other way about.

Like a sidecar beside a release from before TLS. Runs on one event loop: an OpenSSL connection is not for two threads.
"""

import asyncio
import contextlib
import ssl
import threading
from pathlib import Path

CHUNK_BYTES = 65_536
START_SECONDS = 10.0
# HTTP/2, which is what gRPC negotiates.
_PROTOCOLS = ["h2"]


def client_context(directory: Path) -> ssl.SSLContext:
    """Make what shows the certificate of a folder (tls.crt, tls.key, ca.crt) to servers of its authority."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(directory / "ca.crt"))
    return _with_certificate(context, directory)


def server_context(directory: Path) -> ssl.SSLContext:
    """Make what shows the certificate of a folder, and demands one of its authority from clients."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(directory / "ca.crt"))
    context.verify_mode = ssl.CERT_REQUIRED
    return _with_certificate(context, directory)


def _with_certificate(context: ssl.SSLContext, directory: Path) -> ssl.SSLContext:
    context.load_cert_chain(directory / "tls.crt", directory / "tls.key")
    context.set_alpn_protocols(_PROTOCOLS)
    return context


class TlsProxy:
    """Listens on a port of its own on loopback and passes every connection on; a context manager that stops it.

    `listening` is how it is spoken to, `dialling` how it speaks to the target; None is plain text.
    """

    def __init__(
        self, target: str, *, listening: ssl.SSLContext | None = None, dialling: ssl.SSLContext | None = None
    ) -> None:
        self.target = target
        self._listening = listening
        self._dialling = dialling
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tls-proxy", daemon=True)
        self._thread.start()
        started = asyncio.run_coroutine_threadsafe(self._start(), self._loop)
        self._server = started.result(START_SECONDS)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def close(self) -> None:
        """Stop listening and end all connections."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(START_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_SECONDS)
        self._loop.close()

    async def _start(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._listening)

    async def _stop(self) -> None:
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self.target.rpartition(":")
        try:
            onward_reader, onward_writer = await asyncio.open_connection(host, int(port), ssl=self._dialling)
        except OSError:
            # Nobody listens there yet, or the certificate is refused: the caller sees a broken connection.
            await _close(writer)
            return
        pipes = [
            asyncio.ensure_future(_pass_on(reader, onward_writer)),
            asyncio.ensure_future(_pass_on(onward_reader, writer)),
        ]
        try:
            await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pipe in pipes:
                pipe.cancel()
            await asyncio.gather(*pipes, return_exceptions=True)
            for one in (writer, onward_writer):
                await _close(one)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close a connection now: nobody waits for a goodbye."""
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
