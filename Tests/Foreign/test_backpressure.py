"""Who does not read holds up the writer alone: memory stays, and other calls are answered (rules 33, 34)."""

import threading
import time

import pytest

from raw_connection import LARGEST_WINDOW, message
from scenario_client import new_key, parameters
from server_process import PATIENCE, wait_until

MIB = 1024 * 1024
MEMORY_SLACK = 16 * MIB
PIECE = 64 * 1024
# A sanitizer makes a server too slow for more.
TOTAL = (1024 if PATIENCE == 1 else 128) * MIB


def warm_up(raw, server):
    """Calls of the kind to come, so that what is made once is made before memory is measured."""
    for method in ["Get", "SynchronousGet", "Stats"]:
        for _ in range(50):
            raw.call(method, b"x" * 1000)
    pour = raw.open("Pour", parameters(count=200, bytes=PIECE))
    raw.discarded.add(pour)
    raw.data(pour, message(b""), end_stream=True)
    raw.result(pour)
    return server.rss_bytes


def start_pour(raw, method, total, key):
    stream = raw.open(method, parameters(count=total // PIECE, bytes=PIECE, key=key))
    raw.discarded.add(stream)
    raw.data(stream, message(b""), end_stream=True)
    return stream


def assert_calls_are_answered(raw, count=20):
    began = time.monotonic()
    for _ in range(count):
        assert raw.call("Get", b"meanwhile").messages == [b"meanwhile"]
    assert time.monotonic() - began < 2 * PATIENCE


def stays_still(read):
    """A figure that does not move any more."""
    values = [read()]
    for _ in range(100):
        time.sleep(0.1)
        values.append(read())
        if values[-4:].count(values[-1]) == 4:
            return values[-1]
    raise AssertionError(f"it never came to rest: {values[-10:]}")


@pytest.mark.parametrize("method", ["Pour", "GlobalPour"])
def test_a_client_that_gives_no_credit_holds_up_its_stream_alone(start_scenarios, open_raw, method):
    """By flow control: the server's memory stays within 16 MiB, unary calls on the connection are answered, and the
    stream goes on to its end when the reader does."""
    server = start_scenarios()
    raw = open_raw(server, connection_window=LARGEST_WINDOW)
    before = warm_up(raw, server)
    key = new_key()
    stalled = start_pour(raw, method, TOTAL, key)
    raw.auto_credit = False
    raw.stream_windows[stalled] = 65_535
    raw.drain(0.3)
    raw.auto_credit = True
    assert_calls_are_answered(raw)
    written = stays_still(lambda: raw.stats[f"written.{key}"])
    assert written * PIECE < 2 * MIB, "the handler was not held up"
    assert server.rss_bytes - before < MEMORY_SLACK
    assert not raw.answer(stalled).is_over
    # The reader resumes: it gives what it owes, and from now on credits what comes.
    raw.credit(stalled, raw.answer(stalled).data_bytes)
    answer = raw.result(stalled, 120)
    assert (answer.status, answer.data_bytes) == (0, TOTAL // PIECE * (PIECE + 5))
    assert raw.stats[f"written.{key}"] == TOTAL // PIECE
    assert server.rss_bytes - before < MEMORY_SLACK


@pytest.mark.parametrize("method", ["Pour", "GlobalPour"])
def test_a_client_that_does_not_read_its_socket_holds_up_its_connection_alone(start_scenarios, open_raw, method):
    """By TCP: with windows as large as HTTP/2 has them; calls on another connection of the same loop are answered."""
    server = start_scenarios("--threads", 1)
    raw = open_raw(server, settings={4: LARGEST_WINDOW}, connection_window=LARGEST_WINDOW)
    other = open_raw(server)
    warm_up(raw, server)
    before = warm_up(other, server)
    key = new_key()
    stalled = start_pour(raw, method, TOTAL, key)
    written = stays_still(lambda: other.stats[f"written.{key}"])
    assert 0 < written < TOTAL // PIECE
    assert server.rss_bytes - before < MEMORY_SLACK
    assert_calls_are_answered(other)
    cpu = server.cpu_seconds
    time.sleep(0.5)
    assert server.cpu_seconds - cpu < 0.2 * PATIENCE, "the loop spins on a socket that is full"
    answer = raw.result(stalled, 120)
    assert (answer.status, answer.data_bytes) == (0, TOTAL // PIECE * (PIECE + 5))
    assert server.rss_bytes - before < MEMORY_SLACK


class Upload:
    """A client stream that is sent as far as the windows let it, beside other calls of its connection."""

    def __init__(self, raw, method, total, **values):
        self.raw = raw
        self.stream = raw.open(method, parameters(**values))
        self.piece = message(b"u" * (PIECE - 5))
        self.count = total // PIECE
        self.total = self.count * PIECE
        self.sent = 0

    def advance(self):
        """Sends what may be sent now; whether that was anything."""
        moved = False
        while self.sent < self.total:
            room = min(self.raw.send_window, self.raw.stream_windows[self.stream], 16_384)
            if room <= 0:
                return moved
            offset = self.sent % PIECE
            part = self.piece[offset:offset + room]
            self.sent += len(part)
            self.raw.data(self.stream, part, end_stream=self.sent == self.total)
            moved = True
            self.raw.step(0)
        return moved

    def run(self, seconds):
        """Sends on until all is sent or nothing moves for a while; whether all is sent."""
        end = time.monotonic() + seconds * PATIENCE
        while self.sent < self.total and time.monotonic() < end:
            if not self.advance() and self.raw.receive(1) is None:
                return False
        return self.sent == self.total


@pytest.mark.parametrize("method", ["Sink", "GlobalSink"])
def test_a_handler_that_stops_reading_holds_up_its_client_alone(start_scenarios, open_raw, method):
    """rule 34: the server's memory stays within 16 MiB, unary calls on the connection are answered, and the upload
    goes on to its end when the handler does."""
    server = start_scenarios()
    raw = open_raw(server)
    before = warm_up(raw, server)
    key = new_key()
    upload = Upload(raw, method, TOTAL, key=key, pause_after=100)
    assert not upload.run(20), "all was sent to a handler that does not read"
    assert upload.sent < 100 * PIECE + 4 * MIB
    assert raw.stats[f"read.{key}"] == 100
    assert server.rss_bytes - before < MEMORY_SLACK
    assert_calls_are_answered(raw)
    raw.call("Release", fields=parameters(key=key))
    assert upload.run(120)
    expected = f"{upload.count} messages, {upload.count * (PIECE - 5)} bytes".encode()
    assert raw.result(upload.stream, 60).messages == [expected]
    assert server.rss_bytes - before < MEMORY_SLACK


def test_a_client_of_grpcio_that_stops_reading_gets_the_rest_later(start_scenarios, open_client):
    server = start_scenarios()
    client = open_client(server)
    list(client.server_stream("Pour")(b"", metadata=parameters(count=100, bytes=PIECE)))
    before = server.rss_bytes
    key = new_key()
    count = 64 * MIB // PIECE
    asked = parameters(count=count, bytes=PIECE, key=key)
    call = client.server_stream("Pour")(b"", timeout=60 * PATIENCE, metadata=asked)
    received = [next(call)]
    written = stays_still(lambda: client.stats[f"written.{key}"])
    assert written < count
    assert server.rss_bytes - before < MEMORY_SLACK
    for _ in range(20):
        assert client.call("Get", b"meanwhile") == b"meanwhile"
    received += list(call)
    assert received == [bytes([number % 256]) * PIECE for number in range(count)]


def test_a_handler_that_stops_reading_a_stream_of_grpcio_gets_the_rest_later(start_scenarios, open_client):
    server = start_scenarios()
    client = open_client(server)
    client.client_stream("Sink")(iter([b"x" * PIECE] * 100))
    before = server.rss_bytes
    key = new_key()
    count = 64 * MIB // PIECE
    sent = []
    requests = (sent.append(1) or b"x" * PIECE for _ in range(count))
    call = client.client_stream("Sink").future(
        requests, timeout=60 * PATIENCE, metadata=parameters(key=key, pause_after=10)
    )
    assert client.wait_for(f"read.{key}", 10) == 10
    assert stays_still(lambda: len(sent)) < count
    assert server.rss_bytes - before < MEMORY_SLACK
    for _ in range(20):
        assert client.call("Get", b"meanwhile") == b"meanwhile"
    client.release(key)
    assert call.result() == f"{count} messages, {count * PIECE} bytes".encode()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_fast_bulk_stream_and_unary_calls_share_a_connection(start_scenarios, open_client, threads):
    """rule 33: neither starves: calls stay quick while the stream flows, and the stream flows while calls are made."""
    client = open_client(start_scenarios("--threads", threads))
    call = client.server_stream("Pour")(b"", metadata=parameters(count=10**7, bytes=PIECE))
    received = 0
    stop = threading.Event()

    def read():
        nonlocal received
        for part in call:
            received += len(part)
            if stop.is_set():
                break
        call.cancel()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert wait_until(lambda: received > 0)
        times, start = [], received
        began = time.monotonic()
        while time.monotonic() - began < 3:
            asked = time.monotonic()
            assert client.call("Get", b"between") == b"between"
            times.append(time.monotonic() - asked)
        flowed = received - start
    finally:
        stop.set()
        reader.join()
    times.sort()
    assert len(times) > 30, f"only {len(times)} calls were answered in 3 s"
    assert times[len(times) * 99 // 100] < 1 * PATIENCE
    assert flowed > 30 * MIB / PATIENCE, f"only {flowed / MIB:.0f} MiB flowed in 3 s"


def test_a_bulk_upload_and_unary_calls_share_a_connection(start_scenarios, open_raw):
    """rule 33, in the other direction."""
    raw = open_raw(start_scenarios())
    upload = Upload(raw, "Sink", 64 * MIB)
    times = []
    for _ in range(200):
        upload.advance()
        asked = time.monotonic()
        assert raw.call("Get", b"between").messages == [b"between"]
        times.append(time.monotonic() - asked)
    assert max(times) < 1 * PATIENCE
    assert upload.run(60)
    assert raw.result(upload.stream).status == 0


def test_two_peers_that_echo_and_do_not_read_do_not_deadlock(start_scenarios, open_raw):
    """A dialogue whose client writes all before it reads is held up and not broken; it ends when the client reads."""
    server = start_scenarios()
    raw = open_raw(server, auto_credit=False)
    before = server.rss_bytes
    stream = raw.open("Update")
    piece = message(b"e" * 10_000)
    raw.run_until(lambda: raw.server_settings)
    sent = 0
    while min(raw.send_window, raw.stream_windows[stream]) >= len(piece) and sent < 1000:
        raw.data(stream, piece)
        sent += 1
        raw.step(0.01)
    assert 5 < sent < 500, "the server did not hold its client up"
    assert server.rss_bytes - before < MEMORY_SLACK
    raw.data(stream, b"", end_stream=True)
    raw.auto_credit = True
    raw.credit(0, raw.answer(stream).data_bytes)
    raw.credit(stream, raw.answer(stream).data_bytes)
    assert len(raw.result(stream).messages) == sent


def test_a_zero_window_is_legal_backpressure_and_ends_no_call(open_raw, scenario_server):
    raw = open_raw(scenario_server, settings={4: 0})
    stream = raw.open("Get")
    raw.data(stream, message(b"patience"), end_stream=True)
    raw.drain(0.5)
    assert not raw.answer(stream).is_over
    raw.credit(stream, 1000)
    assert raw.result(stream).messages == [b"patience"]
