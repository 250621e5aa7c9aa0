"""What a hostile, broken or frozen server can do to a client: not fill its memory, not keep it busy, not cheat it.

docs/LIMITS.md has the client's limits. Where a server does what HTTP/2 allows, the calls that want their end get it.
"""

import os
import signal
import struct
import threading
import time

import pytest

from client_process import USES_REFERENCE
from raw_connection import LARGEST_WINDOW
from raw_server import INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS
from scenario_client import SERVICE
from server_process import PATIENCE, wait_until

pytestmark = pytest.mark.skipif(USES_REFERENCE, reason="the limits are ours")
MIB = 1024 * 1024
SLACK = (128 if PATIENCE > 1 else 32) * MIB
CALM = 11  # ENHANCE_YOUR_CALM
MANY = 2**31 - 1


def frame(kind, payload=b"", stream=0, flags=0):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def settings(*values):
    return frame(4, b"".join(struct.pack(">HI", *value) for value in values))


RAISED_AND_LOWERED = settings((MAX_CONCURRENT_STREAMS, MANY)) + settings((MAX_CONCURRENT_STREAMS, 0))


def load(client, calls, workers, seconds=60, **fields):
    """Many calls at once; how often each status came."""
    summary = client.run("load", workers=workers, calls=calls, path=SERVICE + "Get", seconds=seconds, **fields)
    return summary["codes"]


def give_all_credit(connection):
    connection.change_settings({INITIAL_WINDOW_SIZE: LARGEST_WINDOW, MAX_CONCURRENT_STREAMS: MANY})
    connection.credit(0, LARGEST_WINDOW - 65_535)


# A server that does not read

@pytest.fixture
def freeze(start_raw_server):
    """Starts a server that gives all credit, answers a call, and from then on reads nothing until the test is over."""
    over = threading.Event()

    def start(after=None):
        def script(connection):
            give_all_credit(connection)
            connection.request().reply(b"served")
            over.wait(60 * PATIENCE)

        return start_raw_server([script, after or script])

    yield start
    over.set()


def test_a_server_that_does_not_read_does_not_fill_the_clients_memory(freeze, open_client_process):
    """Calls wait in the channel, where those that end leave nothing; the first ones are in the socket."""
    client = open_client_process(freeze())
    assert client.call().code == "OK"
    load(client, 1, 1000, bytes=4000, timeout_ms=300)
    before = client.figures["rss_bytes"]
    for _ in range(4):
        assert load(client, 5, 1000, bytes=4000, timeout_ms=100) == {"DEADLINE_EXCEEDED": 5000}
    assert client.figures["rss_bytes"] - before < SLACK
    # The message says what the call waited for.
    assert "to take what it was sent before" in client.call(count=1, bytes=4000, timeout_ms=100).text


def test_a_server_that_takes_nothing_in_time_is_left(freeze, open_client_process):
    client = open_client_process(freeze(after=lambda connection: connection.serve()), "--write-stall-timeout-ms", 1000)
    assert client.call().code == "OK"
    stuck = [client.start("Get", payloads=[bytes(4 * MIB)]) for _ in range(4)]
    results = [call.result(20) for call in stuck]
    assert {result.code for result in results} <= {"UNAVAILABLE", "OK"}, [str(result) for result in results]
    assert any("took nothing of what it was sent" in result.text for result in results)
    assert client.call().message == b"served"


def test_a_server_that_reads_slowly_is_kept(start_raw_server, open_client_process):
    """A little now and then is enough."""
    def script(connection):
        give_all_credit(connection)
        request = connection.request(whole=False)
        end = time.monotonic() + 4
        while time.monotonic() < end:
            for _ in range(8):
                connection.receive(0.1)
            time.sleep(0.1)
        request.wait_end(30)
        request.reply(b"at last")

    client = open_client_process(start_raw_server(script), "--write-stall-timeout-ms", 1000)
    assert client.call(payloads=[bytes(16 * MIB)], seconds=20).message == b"at last"


def test_calls_that_are_given_up_do_not_keep_answers_from_being_read(start_raw_server, open_client_process):
    """The resets of 1500 calls wait behind a full socket, and the answer to another is there."""
    gone = threading.Event()
    over = threading.Event()

    def script(connection):
        give_all_credit(connection)
        request = connection.request()
        gone.wait(60 * PATIENCE)
        request.reply(b"here it is")
        over.wait(60 * PATIENCE)

    client = open_client_process(start_raw_server(script))
    answered = client.start("Get")
    client.tell("load", workers=1500, calls=1, path=SERVICE + "Get", bytes=0, timeout_ms=2000)
    time.sleep(1)
    stuck = [client.start("Get", payloads=[bytes(4 * MIB)], timeout_ms=60_000) for _ in range(4)]
    assert client.expect("summary", seconds=30)["codes"] == {"DEADLINE_EXCEEDED": 1500}
    gone.set()
    assert answered.result().message == b"here it is"
    for call in stuck:
        call.cancel()
    over.set()


def test_no_call_is_sent_twice_that_waits_behind_a_full_socket(start_raw_server, open_client_process):
    """rule 26: a head that has left is not sent again, though it was the last that fitted when the socket was full."""
    count = 600

    def script(connection):
        give_all_credit(connection)
        time.sleep(1)
        # All that has not left goes elsewhere.
        connection.go_away(MANY)
        connection.serve(lambda request: request.reply(b""))

    def heads_of(connection):
        return [answer for answer in connection.answers.values() if answer.blocks]

    server = start_raw_server([script, lambda connection: connection.serve(lambda request: request.reply(b""))])
    client = open_client_process(server)
    # Larger than HPACK's table, so that each head is as long as the first.
    metadata = [["x-long", "v" * 15_000]]
    assert load(client, 1, count, bytes=0, metadata=metadata) == {"OK": count}
    assert len(server.connections) == 2
    heads = [len(heads_of(connection)) for connection in server.connections]
    assert all(heads) and sum(heads) == count, heads


# A server that lets nothing begin

@pytest.mark.parametrize("how", ["closes", "says GOAWAY"])
def test_a_server_without_streams_that_hangs_up_is_not_called_in_a_loop(start_raw_server, open_client_process, how):
    """rule 28: a call that waits is no reason to connect at once, over and over."""
    def script(connection):
        if how == "closes":
            connection.socket.close()
        else:
            connection.go_away(0)

    server = start_raw_server(script, settings={MAX_CONCURRENT_STREAMS: 0})
    client = open_client_process(server, "--log-level", "info")
    result = client.call(timeout_ms=3000)
    assert result.code == "UNAVAILABLE" and "before it answers a call" in result.text, result
    waiting = client.call(timeout_ms=1500, wait_for_ready=True)
    assert waiting.code == "DEADLINE_EXCEEDED", waiting
    assert server.accepted < 20
    assert client.log.count("calls wait") <= 1


def test_a_limit_that_is_raised_and_lowered_at_once_begins_no_call(start_raw_server, open_client_process):
    """rule 29: what was said last counts, and calls that end while they wait leave nothing."""
    flap = threading.Event()

    def script(connection):
        while not connection.is_closed:
            connection.receive(0.02)
            if flap.is_set():
                flap.clear()
                connection.send_bytes(RAISED_AND_LOWERED)

    server = start_raw_server(script, settings={MAX_CONCURRENT_STREAMS: 0})
    client = open_client_process(server)
    grown = []
    for _ in range(4):
        calls = [client.start("Get", count=1, bytes=MIB, timeout_ms=700 * PATIENCE) for _ in range(20)]
        time.sleep(0.2)
        flap.set()
        assert {call.result(30).code for call in calls} == {"DEADLINE_EXCEEDED"}
        grown.append(client.figures["rss_bytes"])
    assert grown[-1] - grown[0] < SLACK
    assert not server.connections[0].answers


def test_twenty_thousand_calls_that_wait_move_on_after_goaway(start_raw_server, open_client_process):
    """A server that lets all of them begin at once and then none leaves nothing to be gone through one by one."""
    waits = threading.Event()

    def flaps(connection):
        waits.wait(30 * PATIENCE)
        connection.send_bytes(RAISED_AND_LOWERED)
        connection.drain(0.3)
        connection.go_away(MANY)
        connection.drain(10)

    server = start_raw_server([flaps, lambda connection: connection.drain(60)], settings={MAX_CONCURRENT_STREAMS: 0})
    client = open_client_process(server, "--log-level", "warning")
    client.tell("load", workers=20_000, calls=1, path=SERVICE + "Get", bytes=0, timeout_ms=5000 * PATIENCE)
    time.sleep(1)
    waits.set()
    assert client.expect("summary", seconds=30)["codes"] == {"DEADLINE_EXCEEDED": 20_000}
    assert server.accepted == 2
    assert PATIENCE > 1 or "held up" not in client.log


# Frames that carry nothing

FLOODS = {
    "goaway": frame(7, struct.pack(">II", MANY, 0)),
    "window sizes": settings((INITIAL_WINDOW_SIZE, 65_535)) + settings((INITIAL_WINDOW_SIZE, 65_536)),
    "limits of streams": settings((MAX_CONCURRENT_STREAMS, 0)) + settings((MAX_CONCURRENT_STREAMS, MANY)),
    "settings": settings(),
    "ping": frame(6, bytes(8)),
    "window update": frame(8, struct.pack(">I", 1)),
    "resets of closed streams": frame(3, struct.pack(">I", 8), stream=1),
    "empty data": frame(0, stream=3),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_flood_of_frames_that_carry_nothing_ends_the_connection(start_raw_server, open_client_process, flood):
    """RFC 9113 §10.5; the next call has a new connection."""
    seen = {}

    def script(connection):
        connection.request().reply(b"first")
        request = connection.request()
        request.head()
        try:
            for _ in range(200):
                connection.send_bytes(flood * (65_536 // len(flood)))
        except OSError:
            pass
        connection.is_left()
        seen["goaways"] = [goaway.error_code for goaway in connection.goaways]

    server = start_raw_server([script, lambda connection: connection.serve()])
    client = open_client_process(server, "--log-level", "info")
    assert client.call().message == b"first"
    result = client.call(kind="server")
    assert result.code == "UNAVAILABLE" and "too many frames that carry nothing" in result.text, result
    assert wait_until(lambda: "too many frames that carry nothing" in client.log)
    assert client.call().message == b"served"


def test_a_server_that_credits_and_measures_all_the_time_is_kept(start_raw_server, open_client_process):
    """Two WINDOW_UPDATE, a PING and SETTINGS for each frame of a large request."""
    def script(connection):
        request = connection.request(whole=False)
        frames = 0
        while not request.ended:
            before = len(request.answer.order), request.answer.data_bytes
            connection.receive(0.1)
            if (len(request.answer.order), request.answer.data_bytes) != before:
                frames += 1
                connection.ping()
        assert frames > 100
        request.reply(b"measured")

    client = open_client_process(start_raw_server(script))
    assert client.call(payloads=[bytes(32 * MIB)], seconds=30).message == b"measured"


def test_credit_for_much_that_was_sent_may_come_all_at_once(start_raw_server, open_client_process):
    """Forty thousand frames are under way before the server answers with two WINDOW_UPDATE for each."""
    count = 40_000

    def script(connection):
        give_all_credit(connection)
        request = connection.request(whole=False)
        connection.auto_credit = False
        connection.discarded.add(request.stream)
        connection.run_until(lambda: request.answer.data_bytes >= count * 6, 60)
        update = frame(8, struct.pack(">I", 1)) + frame(8, struct.pack(">I", 1), stream=request.stream)
        connection.send_bytes(update * count)
        request.wait_end(30)
        request.reply(b"credited")

    client = open_client_process(start_raw_server(script))
    # Each message is a byte and is sent by itself.
    call = client.start("Collect", kind="client", count=count, bytes=1)
    assert call.result(60).message == b"credited"


# Responses that cheat

SECRET = ("secret", "of the first call")
FIRST_CALLS = {
    "usual": lambda request: request.reply(b"first", SECRET),
    "of many fields": lambda request: request.reply(b"first", SECRET, *[(f"k{n}", "v") for n in range(70)]),
    "with a forbidden byte": lambda request: request.reply(b"first", SECRET, ("bad", "a\0b")),
    "over the limit": lambda request: request.reply(b"first", SECRET, ("large", "v" * 9000)),
    "of another status": lambda request: request.head().trailers(SECRET, *[(f"k{n}", "") for n in range(70)], status=7),
}


@pytest.mark.parametrize("first", FIRST_CALLS.values(), ids=FIRST_CALLS)
def test_empty_trailers_are_not_those_of_another_call(start_raw_server, open_client_process, first):
    """rule 17: no status is UNKNOWN, whatever trailers the connection brought before."""
    def script(connection):
        first(connection.request())
        request = connection.request()
        request.head().message(b"second")
        # HEADERS of no field, with END_STREAM and END_HEADERS.
        connection.send_bytes(frame(1, stream=request.stream, flags=5))

    client = open_client_process(start_raw_server(script))
    client.call(kind="server")
    second = client.call()
    assert second.code == "UNKNOWN" and "secret" not in str(second), second
    assert not second.all_trailers("secret")


LATE = {
    "a reset": lambda request: request.reset_with(CALM),
    "the end of the connection": lambda request: request.connection.close(),
    "a message that is too large": lambda request: request.head().data(struct.pack(">BI", 0, 5 * MIB)),
    "a head over the limit": lambda request: request.head(("large", "v" * 9000)),
    "success": lambda request: request.reply(b"late"),
}


@pytest.mark.parametrize("late", LATE.values(), ids=LATE)
def test_what_is_found_together_with_the_deadline_changes_nothing(start_raw_server, open_client_process, late):
    """rule 22: a client that was stopped over its deadline finds both at once."""
    came, passed = threading.Event(), threading.Event()

    def script(connection):
        request = connection.request()
        came.set()
        passed.wait(10 * PATIENCE)
        late(request)

    client = open_client_process(start_raw_server(script))
    call = client.start("Get", timeout_ms=400)
    assert came.wait(10 * PATIENCE)
    os.kill(client.pid, signal.SIGSTOP)
    time.sleep(0.5)
    passed.set()
    time.sleep(0.2)
    os.kill(client.pid, signal.SIGCONT)
    assert call.result().code == "DEADLINE_EXCEEDED"


def test_a_response_that_breaks_http2_is_told_from_a_reset(start_raw_server, open_client_process):
    """The error says what was wrong with it, which the server's people need to know."""
    def script(connection):
        connection.request().head(("connection", "close"))
        connection.request().reset_with(1)
        # Of this nghttp2 says nothing: what it said of the first is not to be told.
        connection.request().head(("content-length", "1")).message(b"longer")

    client = open_client_process(start_raw_server(script))
    broken, reset, other = client.call(), client.call(), client.call()
    assert broken.code == reset.code == other.code == "INTERNAL"
    assert "breaks the rules of HTTP/2: PROTOCOL_ERROR: Invalid HTTP header field" in broken.text, broken
    assert "name: [connection], value: [close]" in broken.text
    assert reset.text == "the stream was reset: PROTOCOL_ERROR"
    assert other.text == "the response breaks the rules of HTTP/2: PROTOCOL_ERROR"


# The end of connections

def test_connections_that_the_server_does_not_close_use_up_no_descriptors(start_raw_server, open_client_process):
    def script(connection):
        connection.request().reply(b"only")
        connection.go_away(1)
        # It is closed when the test is over.
        connection.drain(30)

    server = start_raw_server(script)
    client = open_client_process(server)
    before, most = client.figures["descriptors"], 0
    for _ in range(150):
        assert client.call().message == b"only"
        most = max(most, client.figures["descriptors"])
    assert server.accepted == 150
    assert most - before < 40
    assert wait_until(lambda: client.figures["descriptors"] - before < 6, 5)


def test_too_many_pings_is_heard_behind_a_graceful_goaway(start_raw_server, open_client_process):
    """rule 24"""
    def script(connection):
        connection.request()
        connection.go_away(MANY)
        for _ in range(3):
            connection.go_away(1, CALM, b"too_many_pings")
        connection.drain(0.3)

    client = open_client_process(start_raw_server(script), "--keepalive-time-ms", 10_000)
    assert client.call(timeout_ms=1000).code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    assert client.log.count("the keepalive PINGs too frequent") == 1
    assert "time=20.0 seconds" in client.log


def test_a_server_writes_no_lines_of_its_own_into_log_and_errors(start_raw_server, open_client_process):
    def script(connection):
        connection.request()
        connection.go_away(1, 2, b"first\nsecond \x1b[31m")
        connection.drain(0.1)
        connection.socket.close()

    client = open_client_process(start_raw_server(script), "--log-level", "debug")
    result = client.call()
    assert result.code == "UNAVAILABLE" and r"first\nsecond \u{1B}[31m" in result.text, result
    assert "\x1b" not in client.log and "\nsecond" not in client.log
