"""What looks like an attack and is an honest client: each defence of docs/LIMITS.md lets it pass."""

import threading
import time

import grpc
import pytest

from raw_connection import CANCEL, LARGEST_WINDOW, NO_ERROR, RawConnection, connect, message
from scenario_client import new_key, parameters
from server_process import PATIENCE, wait_until


@pytest.fixture
def server(start_scenarios):
    """A server whose log tells whether it found anybody excessive."""
    server = start_scenarios("--log-level", "info")
    yield server
    assert "does too much" not in server.log
    assert "broke the protocol" not in server.log


def assert_unharmed(raw):
    raw.assert_serves()
    assert not raw.goaways


def test_a_thousand_cancellations_a_second(server, open_raw):
    """For three seconds, each right after the call began; CVE-2023-44487 is some hundred times as many."""
    raw = open_raw(server)
    began = time.monotonic()
    for count in range(3000):
        stream = raw.open("Collect")
        raw.reset(stream, CANCEL)
        # Where Python is faster than that it waits, and where it is slower the rate is lower.
        time.sleep(max(0, began + count / 1000 - time.monotonic()))
    assert_unharmed(raw)


def test_a_client_of_grpcio_that_cancels_all_it_begins(server, open_client):
    client = open_client(server)
    method = client.unary("Sleep")
    for _ in range(2000):
        call = method.future(b"", metadata=parameters(ms=3_600_000, key="cancelled"))
        call.cancel()
    assert client.call("Get", b"still here") == b"still here"


def test_ten_thousand_client_streams_ended_early_by_the_client(server, open_raw):
    """As fast as they can be written: their resets are what the budget for cancellations lets come at once."""
    raw = open_raw(server)
    raw.run_until(lambda: raw.server_settings)
    for _ in range(10_000):
        stream = raw.open("Collect")
        raw.data(stream, message(b"m"))
        raw.reset(stream, CANCEL)
    assert_unharmed(raw)


def test_ten_thousand_client_streams_ended_early_by_the_server(server, open_raw):
    """rule 21: the server's RST_STREAM NO_ERROR is nobody's fault, nor are DATA and resets that cross it."""
    raw = open_raw(server)
    for _ in range(100):
        streams = [raw.open("ReturnEarly") for _ in range(100)]
        for stream in streams:
            raw.data(stream, message(b"m"))
        for stream in streams:
            assert raw.result(stream).status == 0
            raw.data(stream, message(b"m"))
            raw.reset(stream, NO_ERROR)
    assert_unharmed(raw)


def test_calls_that_all_run_into_their_deadline(server, open_raw):
    """A client whose every call takes too long cancels as many as it begins."""
    raw = open_raw(server)
    for _ in range(20):
        streams = [raw.open("Sleep", parameters(ms=3_600_000, key="late")) for _ in range(100)]
        for stream in streams:
            raw.data(stream, message(b""), end_stream=True)
        time.sleep(0.12)
        for stream in streams:
            raw.reset(stream, CANCEL)
    assert_unharmed(raw)


def test_many_empty_messages(server, open_client):
    client = open_client(server)
    count = 50_000
    answer = client.client_stream("Sink")(iter([b""] * count), timeout=60 * PATIENCE)
    assert answer == f"{count} messages, 0 bytes".encode()


def test_many_empty_messages_each_in_a_frame_of_its_own(server, open_raw):
    raw = open_raw(server)
    stream = raw.open("Sink")
    for _ in range(30_000):
        if min(raw.send_window, raw.stream_windows[stream]) < 5:
            raw.run_until(lambda: min(raw.send_window, raw.stream_windows[stream]) >= 5)
        raw.data(stream, message(b""))
        if raw.send_window % 100 == 0:
            raw.step(0)
    raw.data(stream, b"", end_stream=True)
    assert raw.result(stream, 60).messages == [b"30000 messages, 0 bytes"]
    assert_unharmed(raw)


def test_a_client_that_acknowledges_every_frame_twice(server, open_raw):
    """Credit for the stream and for the connection, for each DATA frame of a stream of small messages."""
    raw = open_raw(server)
    key = new_key()
    stream = raw.open("Pour", parameters(count=20_000, bytes=10, key=key))
    raw.data(stream, message(b""), end_stream=True)
    answer = raw.result(stream, 60)
    assert (answer.status, answer.data_bytes) == (0, 20_000 * 15)
    assert_unharmed(raw)


def test_a_client_that_measures_the_connection_while_it_reads(server, open_raw):
    """rule 24: a PING for every batch of data, as grpc-go with its defaults and gRPC C++ do to size their windows."""
    raw = open_raw(server)
    stream = raw.open("Pour", parameters(count=2000, bytes=20_000, key=new_key()))
    raw.discarded.add(stream)
    raw.data(stream, message(b""), end_stream=True)
    pings = 0
    while not raw.answer(stream).is_over:
        seen = raw.answer(stream).data_bytes
        assert raw.run_until(lambda: raw.answer(stream).data_bytes > seen or raw.answer(stream).is_over)
        acknowledged = len(raw.ping_acks)
        raw.ping()
        pings += 1
        assert raw.run_until(lambda: len(raw.ping_acks) > acknowledged), raw.goaways
    assert pings > 20
    assert_unharmed(raw)


def test_a_client_of_grpcio_that_downloads_much(server, open_client):
    """With its own estimate of the bandwidth, by PING and SETTINGS."""
    client = open_client(server, http2__bdp_probe=1)
    total = sum(len(part) for part in client.server_stream("Pour")(
        b"", metadata=parameters(count=3000, bytes=65_536, key=new_key()), timeout=60 * PATIENCE))
    assert total == 3000 * 65_536


def test_slow_answers_to_many_large_calls_all_come(start_scenarios, open_client):
    """More is asked for at once than the connection may have queued: the calls wait, and every answer comes whole."""
    server = start_scenarios("--connection-send-buffer-bytes", 1_000_000)
    client = open_client(server)
    before = server.rss_bytes
    method = client.unary("Large")
    calls = [method.future(b"", timeout=60 * PATIENCE, metadata=parameters(bytes=500_000)) for _ in range(300)]
    assert all(call.result() == b"a" * 500_000 for call in calls)
    assert server.rss_bytes - before < 64 * 1024 * 1024


def test_a_server_that_holds_all_it_may_refuses_large_uploads_and_serves_small_calls(start_scenarios, open_raw,
                                                                                     open_client):
    server = start_scenarios("--server-buffer-bytes", 4_000_000, "--log-level", "info")
    raw = open_raw(server)
    raw.run_until(lambda: raw.server_settings)
    small = open_client(server)
    streams = [raw.open("Sink", parameters(pause_after=0, key="never")) for _ in range(40)]
    for _ in range(12):
        for stream in streams:
            raw.data(stream, message(b"u" * 15_995))
            raw.step(0)
        assert small.call("Get", b"small") == b"small"
    raw.run_until(lambda: any(raw.answer(stream).is_over for stream in streams))
    ended = [raw.answer(stream) for stream in streams if raw.answer(stream).is_over]
    assert ended and all(answer.status == 8 and "holds as many bytes" in answer.text for answer in ended)
    assert small.call("Get", b"small") == b"small"
    assert_unharmed(raw)


def test_an_idle_consumer_is_not_cut_off(start_scenarios, open_raw):
    """A window of zero is legal for as long as it pleases; the write-stall time-out is for sockets that are full."""
    server = start_scenarios("--stall-milliseconds", 200, "--header-milliseconds", 200)
    raw = open_raw(server, auto_credit=False)
    stream = raw.open("Pour", parameters(count=100, bytes=10_000, key=new_key()))
    raw.data(stream, message(b""), end_stream=True)
    raw.run_until(lambda: raw.answer(stream).data_bytes == 65_535)
    time.sleep(1.5)
    raw.auto_credit = True
    raw.credit(0, LARGEST_WINDOW - 65_535)
    raw.credit(stream, LARGEST_WINDOW - 65_535)
    raw.auto_credit = False
    assert raw.result(stream, 30).status == 0


def test_a_client_that_reads_slowly_is_not_cut_off(start_scenarios):
    """The kernel asks for more when a third of its buffer is free: seconds pass in which the socket takes nothing."""
    server = start_scenarios("--stall-milliseconds", 1000)
    wanted = 24 * 1024 * 1024
    with connect(server.address) as peer:
        raw = RawConnection(peer, settings={4: LARGEST_WINDOW}, connection_window=LARGEST_WINDOW)
        stream = raw.open("Large", [("x-bytes", str(wanted))])
        raw.data(stream, message(b""), end_stream=True)
        received, end = 0, time.monotonic() + 4
        while time.monotonic() < end:
            received += len(peer.recv(100_000))
            time.sleep(0.1)
        while received < wanted:
            more = len(peer.recv(1024 * 1024))
            assert more, "the server closed the connection"
            received += more


def test_clients_that_come_and_go_are_no_excess(server, open_channel):
    """Connections, each with a call, from several threads."""
    failures = []

    def use():
        for _ in range(30):
            channel = open_channel(server)
            try:
                assert channel.unary_unary("/apus.test.v1.ScenarioService/Get")(b"x", timeout=10 * PATIENCE) == b"x"
            except (grpc.RpcError, AssertionError) as error:
                failures.append(error)
            channel.close()

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert wait_until(lambda: server.descriptors < 60, 10)
