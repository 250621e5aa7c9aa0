"""Who does not read holds up the writer alone, from the client's side: memory stays within 16 MiB, and all goes on."""

import time

import pytest

from client_process import USES_REFERENCE
from raw_connection import message
from scenario_client import new_key, parameters
from server_process import PATIENCE, wait_until

MIB = 1024 * 1024
# The address sanitizer keeps freed blocks for a while, for each thread.
MEMORY_SLACK = (16 if PATIENCE == 1 else 48) * MIB
PIECE = 64 * 1024
BOTH_WAYS = pytest.mark.parametrize("blocking", [False, True], ids=["async", "blocking"])
pytestmark = pytest.mark.skipif(USES_REFERENCE, reason="grpcio in Python holds more memory, and may")


def stays_still(read):
    """A figure that does not move any more."""
    values = [read()]
    for _ in range(100):
        time.sleep(0.1)
        values.append(read())
        if values[-4:].count(values[-1]) == 4:
            return values[-1]
    raise AssertionError(f"it never came to rest: {values[-10:]}")


def warm_up(client):
    """Calls of the kind to come, so that what is made once is made before memory is measured."""
    for _ in range(20):
        assert client.call(payloads=[b"x" * 1000]).code == "OK"
    assert client.call("Pour", "server", keep=False, metadata=parameters(count=200, bytes=PIECE)).code == "OK"
    assert client.call("Sink", "client", count=200, bytes=PIECE).code == "OK"
    return client.figures["rss_bytes"]


def assert_calls_are_answered(client, count=20):
    for _ in range(count):
        result = client.call(payloads=[b"meanwhile"])
        assert result.messages == [b"meanwhile"] and result.milliseconds < 2000 * PATIENCE


@BOTH_WAYS
@pytest.mark.parametrize("on", ["task", "loop", "main"])
def test_a_client_that_does_not_read_holds_up_the_server(start_peer, open_client_process, blocking, on):
    """The server's handler is held up by flow control; the client's memory stays; then it reads to the end."""
    if blocking and on != "task":
        pytest.skip("a blocking call is made on a thread")
    total = (256 if start_peer.kind == "grpcio" else 1024) * MIB // PATIENCE
    client = open_client_process(start_peer())
    before = warm_up(client)
    key = new_key()
    count = total // PIECE
    call = client.start("Pour", "server", keep=False, pause_after=5, expected_bytes=PIECE, blocking=blocking,
                        on="thread" if blocking else on, metadata=parameters(count=count, bytes=PIECE, key=key))
    assert call.paused() == 5
    written = stays_still(lambda: client.stats()[f"written.{key}"])
    assert written < count / 2, "the handler was not held up"
    assert_calls_are_answered(client)
    assert client.figures["rss_bytes"] - before < MEMORY_SLACK
    call.resume()
    result = call.result(120)
    assert (result.code, result.count, result.misplaced) == ("OK", count, 0), result
    figures = client.figures
    assert figures["rss_bytes"] - before < MEMORY_SLACK
    assert figures["peak_bytes"] - before < 2 * MEMORY_SLACK


@BOTH_WAYS
@pytest.mark.parametrize("on", ["task", "loop", "main"])
def test_a_server_that_does_not_read_suspends_the_writer(start_peer, open_client_process, blocking, on):
    """The client's write waits; its memory stays; it goes on to the end when the server does."""
    if blocking and on != "task":
        pytest.skip("a blocking call is made on a thread")
    total = (256 if start_peer.kind == "grpcio" else 1024) * MIB // PATIENCE
    client = open_client_process(start_peer())
    before = warm_up(client)
    key = new_key()
    count = total // PIECE
    call = client.start("Sink", "client", count=count, bytes=PIECE, blocking=blocking, on="thread" if blocking else on,
                        metadata=parameters(pause_after=10, key=key))
    assert client.wait_for(f"read.{key}", 10) == 10
    written = stays_still(lambda: call.progress[0])
    assert 10 <= written < count / 2, "the writer was not suspended"
    assert_calls_are_answered(client)
    assert client.figures["rss_bytes"] - before < MEMORY_SLACK
    client.release(key)
    result = call.result(120)
    assert result.messages == [f"{count} messages, {count * PIECE} bytes".encode()], result
    assert client.figures["rss_bytes"] - before < MEMORY_SLACK


@BOTH_WAYS
def test_a_dialogue_whose_reader_stops_holds_up_its_writer(start_peer, open_client_process, blocking):
    """An echoing server stands between: it stops when the client does, and then so does the client's writer."""
    client = open_client_process(start_peer())
    before = warm_up(client)
    count = 256 * MIB // PIECE // PATIENCE
    call = client.start("Update", "bidi", count=count, bytes=PIECE, keep=False, pause_after=3, expected_bytes=PIECE,
                        blocking=blocking)
    assert call.paused() == 3
    written = stays_still(lambda: call.progress[0])
    assert written < count / 2, "the writer was not held up"
    assert_calls_are_answered(client)
    assert client.figures["rss_bytes"] - before < MEMORY_SLACK
    call.resume()
    result = call.result(120)
    assert (result.code, result.count, result.misplaced) == ("OK", count, 0), result
    assert client.figures["rss_bytes"] - before < MEMORY_SLACK


def test_a_server_that_does_not_read_its_socket_holds_up_all_writers(start_raw_server, open_client_process):
    """By TCP: with windows as large as HTTP/2 has them, nobody takes a byte for a while; no processor time is spent."""
    released = []

    def script(connection):
        connection.credit(0, 2**31 - 1 - 65_535)
        connection.discarded.add(1)
        request = connection.request(whole=False)
        assert wait_until(lambda: released, 60)
        request.wait_end(60).reply(b"%d" % request.answer.data_bytes)

    server = start_raw_server(script, settings={4: 2**31 - 1}, auto_credit=False)
    client = open_client_process(server)
    before = client.figures["rss_bytes"]
    count = 512 * MIB // PIECE // PATIENCE
    call = client.start("Fill", "client", count=count, bytes=PIECE)
    written = stays_still(lambda: call.progress[0])
    assert 0 < written < count / 2
    cpu = processor_seconds(client.pid)
    time.sleep(0.5)
    assert processor_seconds(client.pid) - cpu < 0.2 * PATIENCE, "the loop spins on a socket that is full"
    assert client.figures["rss_bytes"] - before < MEMORY_SLACK
    released.append(True)
    result = call.result(60)
    assert result.messages == [b"%d" % (count * (PIECE + 5))], result
    assert client.figures["rss_bytes"] - before < MEMORY_SLACK


def processor_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


@BOTH_WAYS
def test_a_server_that_ignores_its_windows_does_not_fill_the_clients_memory(start_raw_server, open_client_process,
                                                                             blocking):
    """rule 34: the stream's window is credited as the application reads, and not before."""
    def script(connection):
        request = connection.request().head()
        data = message(bytes(PIECE - 5))
        sent = 0
        # As much as the windows allow, until they allow no more for a while.
        while connection.run_until(lambda: connection.room(request.stream) >= len(data), 1 / PATIENCE) and sent < 5000:
            connection.body(request.stream, data, end_stream=False)
            sent += 1
        assert sent * PIECE < 4 * MIB, "the client gave credit for what nobody has read"
        request.trailers(("x-sent", str(sent)))

    client = open_client_process(start_raw_server(script))
    call = client.start("Pour", "server", keep=False, pause_after=2, blocking=blocking)
    assert call.paused() == 2
    time.sleep(2)
    call.resume()
    result = call.result(60)
    assert result.code == "OK" and ("x-sent", str(result.count)) in result.trailers, result


def test_streams_share_the_connection_of_a_client(start_our_peer, open_client_process):
    """rule 33, from the client's side: bulk uploads and unary calls beside each other, and none of them starves."""
    client = open_client_process(start_our_peer())
    count = 128 * MIB // PIECE // PATIENCE
    uploads = [client.start("Sink", "client", count=count, bytes=PIECE) for _ in range(4)]
    assert_calls_are_answered(client, 50)
    results = [upload.result(120) for upload in uploads]
    assert [result.messages for result in results] == [[f"{count} messages, {count * PIECE} bytes".encode()]] * 4
    times = sorted(result.milliseconds for result in results)
    assert times[-1] < 5 * times[0], f"the uploads did not share: {times}"
