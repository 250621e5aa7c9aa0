"""A server on which a test decides about each frame that its client gets.

Frames are hyperframe's and header compression is hpack's, on a real socket. A test gives a script, a function of the
connection: it runs in a thread for each connection that is accepted. Whatever a script asserts fails the test.
"""

import socket
import ssl
import threading
import time
import traceback

from hyperframe.frame import GoAwayFrame, SettingsFrame

from raw_connection import FRAME_BYTES_MAX, NO_ERROR, PREFACE, RawConnection, begins_with_messages, message
from server_process import PATIENCE

HEAD = [(":status", "200"), ("content-type", "application/grpc")]
MAX_CONCURRENT_STREAMS = SettingsFrame.MAX_CONCURRENT_STREAMS
INITIAL_WINDOW_SIZE = SettingsFrame.INITIAL_WINDOW_SIZE
MAX_HEADER_LIST_SIZE = SettingsFrame.MAX_HEADER_LIST_SIZE


class Request:
    """A call as it arrives, and what is sent back on its stream."""

    def __init__(self, connection, stream):
        self.connection = connection
        self.stream = stream

    # What came

    @property
    def answer(self):
        return self.connection.answer(self.stream)

    @property
    def fields(self):
        return [(name.decode(), value.decode("latin-1")) for name, value in self.answer.blocks[0]]

    def first(self, name, default=None):
        return self.answer.first(name, default)

    @property
    def path(self):
        return self.first(":path")

    @property
    def messages(self):
        return self.answer.messages

    @property
    def ended(self):
        return self.answer.ended

    @property
    def reset(self):
        return self.answer.reset

    def wait_end(self, seconds=10):
        """Waits until the client has half-closed."""
        self.connection.result(self.stream, seconds)
        return self

    def wait_reset(self, seconds=10):
        """Waits until the client resets the stream; returns the code."""
        assert self.connection.run_until(lambda: self.reset is not None, seconds), "the client did not reset the stream"
        return self.reset

    def wait_messages(self, count, seconds=10):
        """Waits until so many messages are whole, and perhaps a part of another."""
        def whole():
            return begins_with_messages(self.answer.data, count)
        assert self.connection.run_until(whole, seconds), "the messages did not come"

    # What is sent

    def head(self, *fields, usual=HEAD, end_stream=False):
        self.connection.send_head(self.stream, [*usual, *fields], end_stream)
        return self

    def data(self, payload=b"", end_stream=False, padding=None):
        self.connection.data(self.stream, payload, end_stream, padding)
        return self

    def message(self, payload=b"", flag=0):
        """One message, in as many frames as it needs and as the windows allow."""
        self.connection.body(self.stream, message(payload, flag), end_stream=False)
        return self

    def trailers(self, *fields, status=0, text=None, end_stream=True):
        """A HEADERS frame that ends the stream; without `grpc-status` when the status is None."""
        own = [] if status is None else [("grpc-status", str(status))]
        own += [] if text is None else [("grpc-message", text)]
        self.connection.send_head(self.stream, [*own, *fields], end_stream)
        return self

    def reply(self, payload=b"", *fields):
        """A whole response with the status OK."""
        return self.head().message(payload).trailers(*fields)

    def fail(self, status, text=None, *fields):
        """Trailers-Only."""
        own = [("grpc-status", str(status))] + ([] if text is None else [("grpc-message", text)])
        return self.head(*own, *fields, end_stream=True)

    def reset_with(self, code):
        self.connection.reset(self.stream, code)
        return self


class ServedConnection(RawConnection):
    """A connection that a client opened."""

    def __init__(self, accepted, number, settings=None, greet=True, **options):
        super().__init__(accepted, greet=False, **options)
        self.number = number
        # Whether SETTINGS and PING are answered by themselves; not before our own SETTINGS, which come first.
        self.replies = greet
        self.given = set()
        if greet:
            self.greet(settings)

    def read_preface(self):
        received = b""
        while len(received) < len(PREFACE):
            part = self.socket.recv(len(PREFACE) - len(received))
            if not part:
                raise ConnectionError("the client left without a preface")
            received += part
        assert received == PREFACE, f"this is not a preface: {received!r}"

    def greet(self, settings=None):
        """Our side of the beginning: SETTINGS are sent and the client's preface is checked."""
        self.send(SettingsFrame(0, settings=settings or {}))
        self.replies = True
        self.read_preface()

    def _reply(self, *frames):
        if self.replies:
            super()._reply(*frames)

    def change_settings(self, settings):
        self.send(SettingsFrame(0, settings=settings))

    def body(self, stream, payload, end_stream=True, seconds=30):
        """Sends bytes as the client's windows let them; whether all were sent before the client gave the stream up."""
        view = memoryview(payload)
        while view:
            def may_go_on():
                return self.room(stream) > 0 or self.answer(stream).reset is not None
            assert self.run_until(may_go_on, seconds), f"no credit came, with {len(view)} bytes left"
            if self.answer(stream).reset is not None:
                return False
            piece = view[:min(self.room(stream), FRAME_BYTES_MAX)]
            view = view[len(piece):]
            self.data(stream, bytes(piece), end_stream=end_stream and not view)
        if not payload and end_stream:
            self.data(stream, b"", end_stream=True)
        return True

    def room(self, stream):
        """How many bytes of DATA the client's windows let pass."""
        return min(self.send_window, self.stream_windows.get(stream, self.initial_window))

    def wait_settings_acks(self, count, seconds=5):
        def acknowledged():
            return sum(isinstance(frame, SettingsFrame) and "ACK" in frame.flags for frame in self.frames) >= count
        assert self.run_until(acknowledged, seconds), "the client did not acknowledge SETTINGS"

    @property
    def waiting(self):
        """The streams of which the script has not been told."""
        return [stream for stream, answer in self.answers.items() if answer.blocks and stream not in self.given]

    def request(self, seconds=10, whole=True):
        """Waits for the next call; as a rule until its client has half-closed."""
        assert self.run_until(lambda: self.waiting, seconds), "no call came"
        stream = self.waiting[0]
        self.given.add(stream)
        request = Request(self, stream)
        return request.wait_end(seconds) if whole else request

    def requests(self, count, seconds=20, whole=True):
        return [self.request(seconds, whole) for _ in range(count)]

    def no_request(self, seconds=0.3):
        """Whether none comes in a while."""
        end = time.monotonic() + seconds
        while not self.waiting and (left := end - time.monotonic()) > 0:
            self.receive(left)
        return not self.waiting

    def serve(self, answer=None, seconds=30):
        """Answers each call that comes, until the connection ends."""
        answer = answer or (lambda request: request.reply(b"served"))
        end = time.monotonic() + seconds * PATIENCE
        while not self.is_closed and time.monotonic() < end:
            if self.waiting:
                answer(self.request())
            else:
                self.receive(0.1)

    def go_away(self, last_stream, code=NO_ERROR, debug=b""):
        self.send(GoAwayFrame(0, last_stream_id=last_stream, error_code=code, additional_data=debug))

    def is_left(self, seconds=5):
        """Waits until the client has closed the connection."""
        return self.run_until(lambda: self.is_closed, seconds)


class RawServer:
    """Accepts connections and runs a script for each; a list has one for each in turn, and the last for all others."""

    def __init__(self, scripts, settings=None, greet=True, tls_context=None, backlog=128, address=("127.0.0.1", 0),
                 **options):
        self.scripts = scripts if isinstance(scripts, list) else [scripts]
        self.settings, self.greet, self.tls_context, self.options = settings, greet, tls_context, options
        self.listener = socket.create_server(address, backlog=backlog)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.connections = []
        self.accepted = 0
        self.failures = []
        self.losses = []
        self._ends = False
        self._threads = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def _accept(self):
        while True:
            try:
                accepted, _ = self.listener.accept()
            except OSError:
                return
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            number = self.accepted
            self.accepted += 1
            thread = threading.Thread(target=self._run, args=(accepted, number), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, accepted, number):
        try:
            accepted.settimeout(10 * PATIENCE)
            if self.tls_context:
                accepted = self.tls_context.wrap_socket(accepted, server_side=True)
            connection = ServedConnection(accepted, number, self.settings, self.greet, **self.options)
            self.connections.append(connection)
            self.scripts[min(number, len(self.scripts) - 1)](connection)
            # SETTINGS and PING are answered until the client has gone.
            while not self._ends and not connection.is_closed and connection.socket.fileno() >= 0:
                connection.receive(0.05)
        except (ConnectionError, ssl.SSLError, TimeoutError) as error:
            self.losses.append(f"connection {number}: {error!r}")
        except BaseException:
            if not self._ends:
                self.failures.append(f"connection {number}:\n{traceback.format_exc()}")
        finally:
            accepted.close()

    def close(self):
        """Ends everything; what a script asserted in vain is raised."""
        self._ends = True
        # Wakes the thread that accepts, which `close` alone does not.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._acceptor.join(5)
        for thread in self._threads:
            thread.join(5 * PATIENCE)
        for connection in self.connections:
            connection.close()
        assert not self.failures, "\n".join(self.failures)

