"""One HTTP/2 connection on which a test decides about each frame.

It shares no code with the server: frames are hyperframe's and header compression is hpack's. Only what a test does not
ask for is done by itself: SETTINGS and PING are acknowledged and what arrives is credited, unless switched off.
"""

import dataclasses
import socket
import struct
import time

import hpack
from hyperframe.frame import (
    ContinuationFrame, DataFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame,
    WindowUpdateFrame,
)

from scenario_client import SERVICE, Stats
from server_process import PATIENCE

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LARGEST_WINDOW = 2**31 - 1
FRAME_BYTES_MAX = 16_384

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0, 1, 2, 3
REFUSED_STREAM, CANCEL = 7, 8


def message(payload, flag=0):
    """A length-prefixed message."""
    return struct.pack(">BI", flag, len(payload)) + payload


def split_flagged(data):
    """The flags and payloads of whole messages; fails when the last one is cut short."""
    flagged = []
    position = 0
    while position < len(data):
        flag, length = struct.unpack_from(">BI", data, position)
        position += 5
        assert position + length <= len(data), "a message is cut short"
        flagged.append((flag, bytes(data[position:position + length])))
        position += length
    return flagged


def begins_with_messages(data, count):
    """Whether so many messages are whole, whatever follows them: a peer that writes on has seldom ended one."""
    position = 0
    for _ in range(count):
        if position + 5 > len(data):
            return False
        position += 5 + struct.unpack_from(">I", data, position + 1)[0]
    return position <= len(data)


def split_messages(data):
    """The payloads of whole messages, none of them compressed; fails when the last one is cut short."""
    flagged = split_flagged(data)
    assert all(flag == 0 for flag, _ in flagged), "a message is flagged as compressed"
    return [payload for _, payload in flagged]


def connect(address):
    """A blocking socket to HOST:PORT, [IPV6]:PORT or unix:PATH."""
    if address.startswith("unix:"):
        connected = socket.socket(socket.AF_UNIX)
        connected.connect(address.removeprefix("unix:"))
        return connected
    host, port = address.rsplit(":", 1)
    connected = socket.create_connection((host.strip("[]"), int(port)), timeout=10)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


@dataclasses.dataclass
class Answer:
    """What came back on a stream."""

    blocks: list = dataclasses.field(default_factory=list)
    data: bytearray = dataclasses.field(default_factory=bytearray)
    data_bytes: int = 0
    ended: bool = False
    ended_by: str = ""
    reset: int | None = None
    # The kinds of frames in order: "HEADERS", "DATA", "RST_STREAM"; runs of DATA are one.
    order: list = dataclasses.field(default_factory=list)

    @property
    def is_over(self):
        return self.ended or self.reset is not None

    def first(self, name, default=None):
        """The first value of a field, in whichever block."""
        return next(iter(self.all(name)), default)

    def all(self, name):
        return [value.decode("latin-1") for block in self.blocks for key, value in block if key == name.encode()]

    def raw(self, name):
        return [value for block in self.blocks for key, value in block if key == name.encode()]

    @property
    def http_status(self):
        return self.first(":status")

    @property
    def status(self):
        value = self.first("grpc-status")
        return None if value is None else int(value)

    @property
    def text(self):
        return self.first("grpc-message", "")

    @property
    def messages(self):
        return split_messages(self.data)

    @property
    def flagged_messages(self):
        """Each message with its flag."""
        return split_flagged(self.data)


class RawConnection:
    def __init__(self, address, settings=None, connection_window=None, auto_credit=True, auto_ping=True,
                 greet=True):
        self.socket = address if isinstance(address, socket.socket) else connect(address)
        self.socket.settimeout(10)
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.decoder.max_header_list_size = 10**7
        self.auto_credit = auto_credit
        self.auto_ping = auto_ping
        # Streams whose bytes are counted and not kept.
        self.discarded = set()
        self.answers = {}
        self.frames = []
        self.goaways = []
        self.pings = []
        self.ping_acks = []
        self.is_closed = False
        self.server_settings = {}
        # What we may send.
        self.send_window = 65_535
        self.stream_windows = {}
        self.initial_window = 65_535
        self._buffer = bytearray()
        self._next_stream = 1
        if greet:
            self.send_bytes(PREFACE)
            self.send(SettingsFrame(0, settings=settings or {}))
            if connection_window:
                self.send(WindowUpdateFrame(0, window_increment=connection_window - 65_535))

    # Sending

    def send_bytes(self, data):
        self.socket.sendall(data)

    def send(self, *frames):
        self.send_bytes(b"".join(frame.serialize() for frame in frames))

    def new_stream(self):
        stream = self._next_stream
        self._next_stream += 2
        return stream

    def head(self, method, fields=(), without=(), **changes):
        """The fields of a request; keywords replace those of a usual request, `None` leaves one out."""
        usual = {
            ":method": "POST", ":scheme": "http", ":path": method if "/" in method else SERVICE + method,
            ":authority": "localhost", "content-type": "application/grpc", "te": "trailers",
        }
        names = {"http_method": ":method", "path": ":path", "authority": ":authority", "scheme": ":scheme",
                 "content_type": "content-type", "te": "te"}
        for name, value in changes.items():
            usual[names[name]] = value
        return [(name, value) for name, value in usual.items() if value is not None] + list(fields)

    def send_head(self, stream, fields, end_stream=False, pieces=1):
        """A HEADERS frame, and CONTINUATION frames when `pieces` are asked for or it is too large."""
        block = self.encoder.encode([hpack.NeverIndexedHeaderTuple(*field) for field in fields])
        size = min(FRAME_BYTES_MAX, -(-len(block) // pieces))
        parts = [block[start:start + size] for start in range(0, len(block), size)]
        frames = [HeadersFrame(stream, data=parts[0])]
        frames += [ContinuationFrame(stream, data=part) for part in parts[1:]]
        if end_stream:
            frames[0].flags.add("END_STREAM")
        frames[-1].flags.add("END_HEADERS")
        self.send(*frames)
        self.stream_windows.setdefault(stream, self.initial_window)

    def open(self, method, fields=(), end_stream=False, **changes):
        """Begins a call; returns its stream."""
        stream = self.new_stream()
        self.send_head(stream, self.head(method, fields, **changes), end_stream)
        return stream

    def data(self, stream, payload=b"", end_stream=False, padding=None):
        """One DATA frame, whatever the windows say."""
        frame = DataFrame(stream, data=payload)
        if padding is not None:
            frame.flags.add("PADDED")
            frame.pad_length = padding
        if end_stream:
            frame.flags.add("END_STREAM")
        self.send(frame)
        length = len(payload) + (0 if padding is None else 1 + padding)
        self.send_window -= length
        self.stream_windows[stream] = self.stream_windows.get(stream, self.initial_window) - length

    def body(self, stream, payload, end_stream=True, seconds=30):
        """Sends bytes as the windows let them; waits for credit in between."""
        view = memoryview(payload)
        end = time.monotonic() + seconds * PATIENCE
        while view:
            room = min(self.send_window, self.stream_windows[stream], FRAME_BYTES_MAX)
            if room <= 0:
                if self.answer(stream).is_over:
                    return False
                assert time.monotonic() < end, f"no credit came, with {len(view)} bytes left"
                self.step(0.1)
                continue
            piece = view[:room]
            view = view[len(piece):]
            self.data(stream, bytes(piece), end_stream=end_stream and not view)
        if not payload and end_stream:
            self.data(stream, b"", end_stream=True)
        return True

    def trailers(self, stream, fields):
        self.send_head(stream, fields, end_stream=True)

    def reset(self, stream, code=CANCEL):
        self.send(RstStreamFrame(stream, error_code=code))

    def credit(self, stream, increment):
        self.send(WindowUpdateFrame(stream, window_increment=increment))

    def ping(self, payload=b"12345678"):
        self.send(PingFrame(0, opaque_data=payload))

    def acknowledge_ping(self, payload):
        self.send(PingFrame(0, opaque_data=payload, flags=["ACK"]))

    def _reply(self, *frames):
        """What is sent by itself; the peer may be gone by then."""
        try:
            self.send(*frames)
        except ConnectionError:
            pass

    # Receiving

    def answer(self, stream):
        return self.answers.setdefault(stream, Answer())

    def receive(self, seconds=5.0):
        """The next frame; None when none came in time or the connection ended."""
        end = time.monotonic() + seconds
        while True:
            frame = self._take_frame()
            if frame is not None:
                self._process(frame)
                return frame
            left = end - time.monotonic()
            if left <= 0 or self.is_closed:
                return None
            self.socket.settimeout(max(left, 0.001))
            try:
                data = self.socket.recv(262_144)
            except (TimeoutError, socket.timeout):
                return None
            except ConnectionError:
                data = b""
            finally:
                if self.socket.fileno() >= 0:
                    self.socket.settimeout(10)
            if not data:
                self.is_closed = True
                return None
            self._buffer += data

    def step(self, seconds=1.0):
        return self.receive(seconds)

    def drain(self, seconds=0.2):
        """Takes what comes until nothing came for a while."""
        while self.receive(seconds):
            pass

    def run_until(self, condition, seconds=10):
        """Takes frames until the condition holds, the connection ends, or time is up."""
        end = time.monotonic() + seconds * PATIENCE
        while not condition():
            left = end - time.monotonic()
            if left <= 0 or (self.receive(min(left, 0.25)) is None and self.is_closed):
                break
        return condition()

    def result(self, stream, seconds=10):
        """Waits for the end of a stream."""
        over = self.run_until(lambda: self.answer(stream).is_over, seconds)
        assert over, f"stream {stream} did not end; the connection {'ended' if self.is_closed else 'is open'}; " \
                     f"so far {self.answer(stream).order}, {self.answer(stream).data_bytes} bytes"
        return self.answer(stream)

    def call(self, method, payload=b"", fields=(), seconds=10, **changes):
        """A whole unary call of one message."""
        stream = self.open(method, fields, **changes)
        self.data(stream, message(payload), end_stream=True)
        return self.result(stream, seconds)

    def assert_serves(self):
        """The connection lives on: a call on it succeeds."""
        answer = self.call("SynchronousGet", b"still here")
        assert (answer.status, answer.messages) == (0, [b"still here"])

    @property
    def stats(self):
        return Stats(self.call("Stats").messages[0].decode())

    def wait_for(self, name, value=1, seconds=5):
        end = time.monotonic() + seconds * PATIENCE
        while (count := self.stats[name]) < value and time.monotonic() < end:
            time.sleep(0.02)
        return count

    def close(self):
        self.socket.close()

    def abort(self):
        """Closes with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _take_frame(self):
        if len(self._buffer) < 9:
            return None
        length = int.from_bytes(self._buffer[:3], "big")
        if len(self._buffer) < 9 + length:
            return None
        frame, _ = Frame.parse_frame_header(memoryview(bytes(self._buffer[:9])))
        frame.parse_body(memoryview(bytes(self._buffer[9:9 + length])))
        del self._buffer[:9 + length]
        return frame

    def _process(self, frame):
        if frame.stream_id not in self.discarded:
            self.frames.append(frame)
        match frame:
            case DataFrame():
                self._process_data(frame)
            case HeadersFrame():
                answer = self.answer(frame.stream_id)
                assert "END_HEADERS" in frame.flags, "the tests expect no CONTINUATION from a server"
                answer.blocks.append(self.decoder.decode(frame.data, raw=True))
                answer.order.append("HEADERS")
                self._note_end(answer, frame, "HEADERS")
            case RstStreamFrame():
                answer = self.answer(frame.stream_id)
                answer.reset = frame.error_code
                answer.order.append("RST_STREAM")
            case SettingsFrame():
                if "ACK" not in frame.flags:
                    self._process_settings(frame.settings)
            case PingFrame():
                if "ACK" in frame.flags:
                    self.ping_acks.append(frame.opaque_data)
                else:
                    self.pings.append(frame.opaque_data)
                    if self.auto_ping:
                        self._reply(PingFrame(0, opaque_data=frame.opaque_data, flags=["ACK"]))
            case GoAwayFrame():
                self.goaways.append(frame)
            case WindowUpdateFrame():
                if frame.stream_id == 0:
                    self.send_window += frame.window_increment
                else:
                    window = self.stream_windows.get(frame.stream_id, self.initial_window)
                    self.stream_windows[frame.stream_id] = window + frame.window_increment

    def _process_data(self, frame):
        answer = self.answer(frame.stream_id)
        answer.data_bytes += len(frame.data)
        if frame.stream_id not in self.discarded:
            answer.data += frame.data
        if not answer.order or answer.order[-1] != "DATA":
            answer.order.append("DATA")
        self._note_end(answer, frame, "DATA")
        if self.auto_credit and frame.flow_controlled_length:
            self._reply(WindowUpdateFrame(0, window_increment=frame.flow_controlled_length))
            if not answer.ended:
                self._reply(WindowUpdateFrame(frame.stream_id, window_increment=frame.flow_controlled_length))

    def _process_settings(self, settings):
        self.server_settings |= settings
        if SettingsFrame.INITIAL_WINDOW_SIZE in settings:
            change = settings[SettingsFrame.INITIAL_WINDOW_SIZE] - self.initial_window
            self.initial_window += change
            for stream in self.stream_windows:
                self.stream_windows[stream] += change
        self._reply(SettingsFrame(0, flags=["ACK"]))

    @staticmethod
    def _note_end(answer, frame, kind):
        if "END_STREAM" in frame.flags:
            answer.ended = True
            answer.ended_by = kind
