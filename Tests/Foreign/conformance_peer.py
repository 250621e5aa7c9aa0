"""What the conformance tests are written with: a client that sends any frame, and knows how a server may take it.

The cases follow the list of h2spec (https://github.com/summerwind/h2spec), whose groups number RFC 7540's sections;
each case names the section of RFC 9113 or 7541 that asks for what it checks. They are stricter than h2spec where the
RFC leaves no choice: a connection error is a GOAWAY with the code and the end of the connection, and after a stream
error the connection has to go on.
"""

import struct

from hyperframe.frame import SettingsFrame

from raw_connection import RawConnection, message

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20

(NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR,
 REFUSED_STREAM, CANCEL, COMPRESSION_ERROR) = range(10)

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = range(1, 6)

GET, UPDATE = "/echo.v1.EchoService/Get", "/echo.v1.EchoService/Update"
HELLO = message(b"\x0a\x05hello")


class Cases:
    """The cases of a file, in their order: each is a function of a peer, and has a number and a section."""

    def __init__(self, group):
        self.group = group
        self.all = []

    def __call__(self, number, section):
        def add(function):
            function.number, function.section = number, section
            self.all.append(function)
            return function
        return add

    @property
    def ids(self):
        return [f"{self.group}/{case.number} {case.__name__.replace('_', ' ')} ({case.section})" for case in self.all]


class ConformancePeer(RawConnection):
    """A client after the exchange of SETTINGS."""

    def __init__(self, address, greet=True):
        super().__init__(address, auto_credit=False, greet=greet)
        self.address = address
        if greet:
            assert self.run_until(lambda: self.server_settings), "the server sent no SETTINGS"

    # What is sent

    def send_bytes(self, data):
        """A server that has seen enough may be gone in the middle."""
        try:
            super().send_bytes(data)
        except ConnectionError:
            pass

    def frame(self, kind, flags=0, stream=0, payload=b"", length=None):
        """One frame of these bytes, whether they make sense or not."""
        size = struct.pack(">I", len(payload) if length is None else length)[1:]
        self.send_bytes(size + struct.pack(">BBI", kind, flags, stream) + payload)

    def usual_fields(self, method=GET, **changes):
        fields = {":method": "POST", ":scheme": "http", ":path": method, ":authority": "localhost",
                  "content-type": "application/grpc", "te": "trailers"}
        return [(name, value) for name, value in (fields | changes).items() if value is not None]

    def block(self, fields=None):
        """A header block; of an ordinary request if no fields are given."""
        return self.encoder.encode(self.usual_fields() if fields is None else fields)

    def headers(self, stream=1, fields=None, flags=END_HEADERS | END_STREAM, block=None):
        self.frame(HEADERS, flags, stream, self.block(fields) if block is None else block)

    def open(self, stream=1, method=UPDATE, *more):
        """A stream that stays open: a dialogue that waits for the client."""
        self.headers(stream, self.usual_fields(method) + list(more), END_HEADERS)

    def get(self, stream=1, body=HELLO):
        """A whole call."""
        self.headers(stream, self.usual_fields(GET), END_HEADERS)
        self.frame(DATA, END_STREAM, stream, body)

    def settings(self, *pairs):
        self.frame(SETTINGS, payload=b"".join(struct.pack(">HI", *pair) for pair in pairs))

    def window_update(self, stream, increment):
        self.frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))

    def reset(self, stream, code=CANCEL):
        self.frame(RST_STREAM, 0, stream, struct.pack(">I", code))

    def priority(self, stream, depends_on=0, weight=255, exclusive=False):
        self.frame(PRIORITY, 0, stream, self.priority_fields(depends_on, weight, exclusive))

    @staticmethod
    def priority_fields(depends_on=0, weight=255, exclusive=False):
        return struct.pack(">IB", depends_on | (0x8000_0000 if exclusive else 0), weight)

    # What is expected

    def expect_connection_error(self, *codes):
        """RFC 9113 §5.4.1: GOAWAY with the code, and the connection is closed."""
        self.run_until(lambda: self.is_closed)
        assert [frame.error_code for frame in self.goaways if frame.error_code] and self.is_closed, self.state
        assert self.goaways[-1].error_code in codes, self.state

    def expect_stream_error(self, stream, *codes):
        """RFC 9113 §5.4.2: RST_STREAM with the code, and the connection goes on."""
        self.run_until(lambda: self.answer(stream).reset is not None or self.is_closed)
        assert self.answer(stream).reset in codes, self.state
        self.expect_life()

    def expect_life(self, payload=b"question"):
        """The connection goes on: a PING is answered."""
        self.frame(PING, 0, 0, payload)
        self.run_until(lambda: payload in self.ping_acks or self.is_closed)
        assert payload in self.ping_acks and not self.goaways and not self.is_closed, self.state

    def expect_response(self, stream=1, status="200", code=None):
        """A response, with this HTTP status, and this status of gRPC if it is given."""
        answer = self.result(stream)
        assert answer.http_status == status, self.state
        assert code is None or answer.status == code, self.state
        self.expect_life()

    def expect_hello(self, stream=1):
        """The answer to ``get``."""
        answer = self.result(stream)
        assert (answer.http_status, answer.status, bytes(answer.data)) == ("200", 0, HELLO), self.state
        self.expect_life()

    def expect_data(self, stream, count):
        """Just so many bytes of DATA so far."""
        self.run_until(lambda: self.answer(stream).data_bytes >= count or self.is_closed)
        self.expect_life(b"data now")
        assert self.answer(stream).data_bytes == count, self.state

    @property
    def settings_acks(self):
        """How often the server has acknowledged SETTINGS."""
        return sum(isinstance(frame, SettingsFrame) and "ACK" in frame.flags for frame in self.frames)

    @property
    def state(self):
        return (f"closed: {self.is_closed}, GOAWAY: {[frame.error_code for frame in self.goaways]}, "
                f"streams: {self.answers}")
