"""A TCP proxy that cuts, closes and stalls what goes through it, when it is told to."""

import asyncio
import socket
import struct
import threading

CHUNK_BYTES = 64 * 1024


class CuttingProxy:
    """Listens on a port of 127.0.0.1, and passes on to `backend`, a port that may change; None refuses."""

    def __init__(self, backend=None):
        self.backend = backend
        self.cuts = 0
        self._pairs = set()
        self._running = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        started.wait()

    def _run(self, started):
        asyncio.set_event_loop(self._loop)
        self._running.set()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    async def _accept(self, reader, writer):
        try:
            if self.backend is None:
                raise OSError("there is no backend")
            upstream = await asyncio.open_connection("127.0.0.1", self.backend)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, upstream[1])
        self._pairs.add(pair)
        await asyncio.gather(self._pass(reader, upstream[1]), self._pass(upstream[0], writer))
        self._pairs.discard(pair)
        for end in pair:
            end.close()

    async def _pass(self, reader, writer):
        try:
            while data := await reader.read(CHUNK_BYTES):
                await self._running.wait()
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except (OSError, RuntimeError):
            writer.transport.abort()

    def _on_loop(self, action):
        done = threading.Event()

        def run():
            try:
                action()
            finally:
                done.set()

        self._loop.call_soon_threadsafe(run)
        done.wait(10)

    def cut(self, how, choose):
        """Ends connections: by RST ("reset"), in order ("close"), or in one direction ("half")."""
        def act():
            for pair in [pair for pair in self._pairs if choose()]:
                self.cuts += 1
                for end in pair[:1] if how == "half" else pair:
                    if how == "reset":
                        raw = end.get_extra_info("socket")
                        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        end.transport.abort()
                    elif how == "close":
                        end.close()
                    elif not end.is_closing():
                        end.write_eof()
        self._on_loop(act)

    def stall(self, stalled):
        """Passes nothing on, or all that has waited."""
        self._on_loop(self._running.clear if stalled else self._running.set)

    def close(self):
        def act():
            self._running.set()
            self._server.close()
            for pair in self._pairs:
                for end in pair:
                    end.transport.abort()
        self._on_loop(act)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
