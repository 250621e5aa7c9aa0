"""How the client keeps, leaves and renews its connection (rules 22, 26, 28, 29), frame by frame."""

import threading
import time

import pytest
from hyperframe.frame import (
    PushPromiseFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame,
)

from client_process import USES_REFERENCE, not_of_the_reference
from raw_connection import INTERNAL_ERROR, NO_ERROR, REFUSED_STREAM, message
from raw_server import MAX_CONCURRENT_STREAMS, Request
from server_process import PATIENCE, wait_until

KINDS = ["unary", "server", "client", "bidi"]
EACH_KIND = pytest.mark.parametrize("kind", KINDS)
BOTH_WAYS = pytest.mark.parametrize("blocking", [False, True])
ENHANCE_YOUR_CALM = 11


def names(requests):
    return [request.path.rsplit("/", 1)[1] for request in requests]


# Rule 28: when a connection is ready

def test_nothing_is_sent_before_the_servers_settings(start_raw_server, open_client_process):
    """rule 28: READY only on the peer's SETTINGS, which come after a second."""
    def script(connection):
        connection.read_preface()
        assert connection.no_request(1), "a call was sent before SETTINGS came"
        connection.send(SettingsFrame(0), SettingsFrame(0, flags=["ACK"]))
        connection.replies = True
        connection.serve()

    client = open_client_process(start_raw_server(script, greet=False))
    result = client.call()
    assert (result.code, result.messages) == ("OK", [b"served"])
    assert result.milliseconds > 900


def test_settings_and_pings_are_acknowledged(start_raw_server, open_client_process):
    acks = []

    def script(connection):
        request = connection.request(whole=False)
        connection.ping(b"question")
        connection.run_until(lambda: connection.ping_acks, 5)
        connection.wait_settings_acks(1)
        acks.extend(connection.ping_acks)
        request.wait_end().reply(b"m")

    assert open_client_process(start_raw_server(script)).call().code == "OK"
    assert acks == [b"question"]


def test_unknown_frames_settings_and_flags_are_ignored(start_raw_server, open_client_process):
    """RFC 9113 §4.1 and §6.5.2."""
    def script(connection):
        connection.send_bytes(bytes([0, 0, 4, 0xBB, 0xFF, 0, 0, 0, 0]) + b"what")
        connection.send(SettingsFrame(0, settings={0xABCD: 7}))
        connection.serve()

    assert open_client_process(start_raw_server(script)).call().messages == [b"served"]


# Rule 26: transparent retry

@BOTH_WAYS
@EACH_KIND
@not_of_the_reference
def test_a_refused_stream_is_tried_again_once(start_raw_server, open_client_process, kind, blocking):
    """rule 26: at once and unseen, with the whole request and metadata."""
    seen = []

    def script(connection):
        first = connection.request()
        first.reset_with(REFUSED_STREAM)
        second = connection.request()
        seen.extend([first, second])
        second.reply(b"m")

    client = open_client_process(start_raw_server(script))
    result = client.call("Again", kind=kind, blocking=blocking, count=1, bytes=10, metadata=[("x-a", "b")])
    assert (result.code, result.messages) == ("OK", [b"m"]), result
    assert seen[0].messages == seen[1].messages == [bytes(10)]
    assert seen[0].fields == seen[1].fields
    assert not seen[1].first("grpc-previous-rpc-attempts")


@EACH_KIND
@not_of_the_reference
def test_a_stream_refused_twice_is_unavailable(start_raw_server, open_client_process, kind):
    """rule 26: one retry and no more; other calls go on."""
    seen = []

    def script(connection):
        for _ in range(2):
            seen.append(connection.request().reset_with(REFUSED_STREAM))
        connection.serve(lambda request: (seen.append(request), request.reply(b"served")))

    client = open_client_process(start_raw_server(script))
    result = client.call("Twice", kind=kind)
    assert result.code == "UNAVAILABLE", result
    assert client.call().messages == [b"served"]
    assert names(seen) == ["Twice", "Twice", "Get"]


@not_of_the_reference
def test_what_a_stream_had_sent_before_it_was_refused_is_sent_again(start_raw_server, open_client_process):
    """rule 26: messages of a request stream that is still being written."""
    seen = []

    def script(connection):
        first = connection.request(whole=False)
        first.wait_messages(3)
        first.reset_with(REFUSED_STREAM)
        second = connection.request(whole=False)
        second.wait_messages(3)
        seen.extend(second.messages)
        second.wait_end().reply(b"m")

    client = open_client_process(start_raw_server(script))
    call = client.start("Again", kind="client", count=3, bytes=7, hold=True)
    assert wait_until(lambda: len(seen) == 3, 10), "the messages were not sent again"
    call.finish()
    result = call.result()
    assert (result.code, result.messages) == ("OK", [b"m"]), result
    assert seen == [bytes([number]) * 7 for number in range(3)]


@BOTH_WAYS
@not_of_the_reference
def test_a_large_request_that_is_refused_half_way_is_sent_again_whole(start_raw_server, open_client_process, blocking):
    """rule 26: a unary request is kept until it is answered."""
    payload = bytes(range(256)) * 12_000
    seen = []

    def script(connection):
        first = connection.request(whole=False)
        assert connection.run_until(lambda: first.answer.data_bytes > 1_000_000)
        first.reset_with(REFUSED_STREAM)
        seen.extend(connection.request().reply(b"m").messages)

    client = open_client_process(start_raw_server(script))
    result = client.call(payloads=[payload], blocking=blocking)
    assert (result.code, result.messages) == ("OK", [b"m"]), result
    assert wait_until(lambda: seen) == [payload]


@not_of_the_reference
def test_a_long_request_stream_that_is_refused_is_sent_again_whole_or_fails(start_raw_server, open_client_process):
    """rules 26 and 27: what was written is not kept without a bound; nothing of it is left out silently."""
    count, seen = 1000, []

    def script(connection):
        first = connection.request(whole=False)
        assert connection.run_until(lambda: first.answer.data_bytes > 5_000_000)
        first.reset_with(REFUSED_STREAM)
        connection.serve(lambda request: (seen.append(request.messages), request.reply(b"m")))

    client = open_client_process(start_raw_server(script))
    result = client.call("Long", "client", count=count, bytes=10_000, seconds=30)
    if result.code == "OK":
        assert seen == [[bytes([number % 256]) * 10_000 for number in range(count)]]
    else:
        assert result.code == "UNAVAILABLE" and seen == [], result
    assert client.call().code == "OK"


@not_of_the_reference
def test_a_retry_does_not_start_the_deadline_anew(start_raw_server, open_client_process):
    """rules 5 and 26: the second attempt is told what is left."""
    told = []

    def script(connection):
        first = connection.request()
        time.sleep(0.4 * PATIENCE)
        first.reset_with(REFUSED_STREAM)
        second = connection.request()
        told.extend([first.first("grpc-timeout"), second.first("grpc-timeout")])
        second.wait_reset()

    client = open_client_process(start_raw_server(script))
    result = client.call(timeout_ms=1000 * PATIENCE)
    assert result.code == "DEADLINE_EXCEEDED"
    assert 990 <= result.milliseconds / PATIENCE < 1350
    assert wait_until(lambda: told)
    first, second = [nanoseconds(text) for text in told]
    assert second <= first - 300_000_000 * PATIENCE


def nanoseconds(text):
    return int(text[:-1]) * {"n": 1, "u": 10**3, "m": 10**6, "S": 10**9}[text[-1]]


@pytest.mark.parametrize("in_two_steps, workers", [(True, 50), (False, 10)])
@not_of_the_reference
def test_no_call_notices_that_connections_drain(start_raw_server, open_client_process, in_two_steps, workers):
    """rules 25 and 26: under load each connection serves twenty calls and goes away; what came later is tried again."""
    def script(connection):
        taken, last = 0, 0
        while not connection.is_closed:
            for stream in connection.waiting:
                if last and stream > last:
                    connection.given.add(stream)
                elif connection.answer(stream).ended:
                    connection.given.add(stream)
                    request = Request(connection, stream)
                    request.reply(request.messages[0])
                    taken += 1
                    if taken == 20 and in_two_steps:
                        connection.go_away(2**31 - 1)
                        connection.ping()
                    elif taken == 20:
                        last = stream
                        connection.go_away(last)
            if in_two_steps and connection.ping_acks and not last:
                last = max(connection.answers)
                connection.go_away(last)
            connection.receive(0.05)

    server = start_raw_server(script)
    client = open_client_process(server)
    summary = client.run("load", workers=workers, calls=1000 // workers, path="/a.B/C", bytes=8, numbering="index")
    assert summary["codes"] == {"OK": 1000} and summary["mismatches"] == 0, summary
    assert server.accepted > 10


@EACH_KIND
def test_streams_above_the_last_of_goaway_are_tried_on_a_new_connection(start_raw_server, open_client_process, kind):
    """rule 26: those up to it end where they are."""
    def first(connection):
        kept, lost = connection.requests(2)
        connection.go_away(kept.stream)
        time.sleep(0.1)
        kept.reply(b"kept")
        assert connection.is_left(), "a connection without calls that goes away is to be closed"

    def second(connection):
        connection.serve(lambda request: request.reply(b"again"))

    server = start_raw_server([first, second])
    client = open_client_process(server)
    calls = [client.start("Call", kind=kind) for _ in range(2)]
    results = [call.result() for call in calls]
    assert [result.code for result in results] == ["OK", "OK"], results
    assert sorted(result.messages[0] for result in results) == [b"again", b"kept"]
    assert server.accepted == 2


def test_a_stream_given_up_by_goaway_twice_is_unavailable(start_raw_server, open_client_process):
    """rule 26."""
    def refuse(connection):
        connection.request()
        connection.go_away(0)

    client = open_client_process(start_raw_server([refuse, refuse, lambda connection: connection.serve()]))
    result = client.call("Twice")
    assert result.code == "UNAVAILABLE" or USES_REFERENCE, result
    assert client.call(wait_for_ready=True).messages == [b"served"]


def test_after_goaway_running_streams_end_well_and_new_calls_go_elsewhere(start_raw_server, open_client_process):
    """rules 25 and 26: as a server drains, in two steps; the old connection is closed when its last call has ended."""
    old, told = [], threading.Event()

    def first(connection):
        requests = connection.requests(3, whole=False)
        old.extend(requests)
        connection.go_away(2**31 - 1)
        connection.ping()
        connection.run_until(lambda: connection.ping_acks, 5)
        connection.go_away(requests[-1].stream)
        told.set()
        assert connection.no_request(0.5), "a call was begun on a connection that goes away"
        for request in requests:
            request.head().message(b"old").wait_end().trailers()
        assert connection.is_left(), "the old connection was not closed"

    server = start_raw_server([first, lambda connection: connection.serve(lambda request: request.reply(b"new"))])
    client = open_client_process(server)
    running = [client.start("Run", kind="bidi", count=1, bytes=1) for _ in range(3)]
    assert told.wait(10 * PATIENCE)
    later = [client.call("Late").messages for _ in range(3)]
    assert later == [[b"new"]] * 3
    assert [call.result().messages for call in running] == [[b"old"]] * 3
    assert server.accepted == 2


def test_a_goaway_while_idle_makes_the_next_call_connect_anew(start_raw_server, open_client_process):
    """rule 26: no call notices."""
    gone = threading.Event()

    def first(connection):
        connection.request().reply(b"one")
        connection.go_away(1)
        assert connection.is_left()
        gone.set()

    client = open_client_process(start_raw_server([first, lambda connection: connection.serve()]))
    assert client.call().messages == [b"one"]
    assert gone.wait(10 * PATIENCE)
    assert client.call().messages == [b"served"]


def test_a_server_that_hangs_up_while_idle_makes_the_next_call_connect_anew(start_raw_server, open_client_process):
    """rule 22: no call was there to be lost."""
    def first(connection):
        connection.request().reply(b"one")
        connection.close()

    server = start_raw_server([first, lambda connection: connection.serve()])
    client = open_client_process(server)
    assert client.call().messages == [b"one"]
    time.sleep(0.3)
    result = client.call(wait_for_ready=True)
    assert result.messages == [b"served"], result


@EACH_KIND
@BOTH_WAYS
def test_a_lost_connection_ends_its_calls_with_unavailable(start_raw_server, open_client_process, kind, blocking):
    """rule 22: the text names the address; the next call connects anew."""
    def first(connection):
        connection.request(whole=False).head()
        connection.close()

    server = start_raw_server([first, lambda connection: connection.serve()])
    client = open_client_process(server)
    result = client.call("Lost", kind=kind, blocking=blocking)
    assert result.code == "UNAVAILABLE", result
    assert USES_REFERENCE or server.address in result.text
    assert client.call(wait_for_ready=True).messages == [b"served"]


def test_a_connection_reset_by_tcp_is_unavailable_and_named(start_raw_server, open_client_process):
    """rule 22."""
    def first(connection):
        connection.request(whole=False).head()
        connection.abort()

    server = start_raw_server([first, lambda connection: connection.serve()])
    result = open_client_process(server).call("Lost", kind="server")
    assert result.code == "UNAVAILABLE", result
    assert USES_REFERENCE or server.address in result.text and "reset" in result.text.lower(), result


def test_a_connection_lost_after_goaway_is_unavailable_with_its_reason(start_raw_server, open_client_process):
    """rules 22 and 26: the code and the debug data of GOAWAY are told."""
    def first(connection):
        request = connection.request()
        request.head()
        connection.go_away(request.stream, ENHANCE_YOUR_CALM, b"too_many_pings")
        connection.close()

    server = start_raw_server([first, lambda connection: connection.serve()])
    result = open_client_process(server).call("Lost", kind="server")
    assert result.code == "UNAVAILABLE", result
    if not USES_REFERENCE:
        assert server.address in result.text
        assert "too_many_pings" in result.text or "ENHANCE_YOUR_CALM" in result.text


# Rule 29: MAX_CONCURRENT_STREAMS

@EACH_KIND
@BOTH_WAYS
def test_calls_queue_for_a_limit_of_one(start_raw_server, open_client_process, kind, blocking):
    """rule 29: one after the other, in their order; and the client's log says so."""
    def script(connection):
        connection.run_until(lambda: connection.server_settings)
        connection.wait_settings_acks(1)
        for _ in range(4):
            request = connection.request()
            assert connection.no_request(0.1), "a stream over the limit was opened"
            request.reply(request.first("x-number").encode())

    server = start_raw_server(script, settings={MAX_CONCURRENT_STREAMS: 1})
    client = open_client_process(server)
    calls = [client.start("Queue", kind=kind, metadata=[("x-number", str(number))], blocking=blocking)
             for number in range(4)]
    results = [call.result() for call in calls]
    assert [result.code for result in results] == ["OK"] * 4, results
    assert [result.messages for result in results] == [[b"%d" % number] for number in range(4)]
    if not USES_REFERENCE:
        assert "MAX_CONCURRENT_STREAMS" in client.log


@pytest.mark.parametrize("limit", [1, 2, 100])
@not_of_the_reference
def test_never_are_more_streams_open_than_allowed(start_raw_server, open_client_process, limit):
    """rule 29: of many calls that are answered in bursts, reset, or run into their deadline."""
    total = 50 + 5 * limit

    def script(connection):
        open_streams, answered, done, most = {}, set(), 0, 0
        while not connection.is_closed and done < total:
            frame = connection.receive(1)
            for stream in connection.waiting:
                connection.given.add(stream)
                open_streams[stream] = connection.answer(stream)
            open_streams = {stream: answer for stream, answer in open_streams.items() if answer.reset is None}
            most = max(most, len(open_streams))
            assert most <= limit, f"{most} streams were open at once"
            # Answers come in bursts, as soon as all that may come has come; some never do.
            whole = [stream for stream, answer in open_streams.items() if answer.ended and stream not in answered]
            if len(open_streams) < limit and frame is not None:
                continue
            for stream in whole:
                answered.add(stream)
                done += 1
                request = Request(connection, stream)
                if done % 17 == 0:
                    continue
                del open_streams[stream]
                if done % 7 == 0:
                    request.reset_with(INTERNAL_ERROR)
                else:
                    request.reply(request.messages[0])
        assert most == limit, f"only {most} streams were open at once"
        connection.serve(lambda request: request.reply(request.messages[0]))

    server = start_raw_server(script, settings={MAX_CONCURRENT_STREAMS: limit})
    client = open_client_process(server)
    client.tell("load", workers=2 * limit, calls=total // limit, path="/a.B/C", bytes=4, numbering="index",
                timeout_ms=200 * PATIENCE)
    summary = client.expect("summary", seconds=30)
    assert set(summary["codes"]) <= {"OK", "INTERNAL", "DEADLINE_EXCEEDED"}, summary
    assert summary["codes"]["OK"] > total / 2, summary
    assert summary["mismatches"] == 0


def test_a_limit_that_is_lowered_and_raised_fails_no_call(start_raw_server, open_client_process):
    """rule 29: three run, the limit falls to one, calls queue; it rises, and they flow."""
    lowered = threading.Event()
    queued = threading.Event()

    def script(connection):
        running = connection.requests(3)
        connection.change_settings({MAX_CONCURRENT_STREAMS: 1})
        connection.wait_settings_acks(2)
        lowered.set()
        assert queued.wait(10 * PATIENCE)
        assert connection.no_request(0.3), "a stream over the limit was opened"
        running[0].reply()
        running[1].reply()
        assert connection.no_request(0.3), "two of three have ended, and the limit is one"
        connection.change_settings({MAX_CONCURRENT_STREAMS: 4})
        # One still runs.
        more = connection.requests(3)
        assert connection.no_request(0.3), "a stream over the limit was opened"
        for request in [running[2], *more]:
            request.reply()
        connection.serve()

    client = open_client_process(start_raw_server(script, settings={MAX_CONCURRENT_STREAMS: 100}))
    calls = [client.start("Run") for _ in range(3)]
    assert lowered.wait(10 * PATIENCE)
    calls += [client.start("Queue") for _ in range(5)]
    client.figures
    queued.set()
    assert [call.result().code for call in calls] == ["OK"] * 8


@EACH_KIND
def test_a_call_that_queues_can_be_cancelled_and_runs_into_its_deadline(start_raw_server, open_client_process, kind):
    """rules 22 and 29: and then never reaches the wire."""
    seen = []
    go_on = threading.Event()

    def script(connection):
        first = connection.request()
        seen.append(first)
        assert go_on.wait(20 * PATIENCE)
        first.reply()
        connection.serve(lambda request: (seen.append(request), request.reply()))

    client = open_client_process(start_raw_server(script, settings={MAX_CONCURRENT_STREAMS: 1}))
    running = client.start("First")
    assert wait_until(lambda: seen, 10)
    late = client.start("Late", kind=kind, timeout_ms=200)
    given_up = client.start("GivenUp", kind=kind)
    result = late.result()
    assert result.code == "DEADLINE_EXCEEDED", result
    client.figures
    given_up.cancel("hand" if kind != "unary" or USES_REFERENCE else "task")
    assert given_up.result().code == "CANCELLED"
    last = client.start("Last", kind=kind)
    go_on.set()
    assert [running.result().code, last.result().code] == ["OK", "OK"]
    assert names(seen) == ["First", "Last"]


def test_a_limit_of_zero_holds_calls_until_it_is_raised(start_raw_server, open_client_process):
    """rule 29."""
    def script(connection):
        assert connection.no_request(0.4)
        connection.change_settings({MAX_CONCURRENT_STREAMS: 10})
        connection.serve()

    client = open_client_process(start_raw_server(script, settings={MAX_CONCURRENT_STREAMS: 0}))
    assert [call.result().code for call in [client.start("Wait") for _ in range(3)]] == ["OK"] * 3


def test_what_queues_for_streams_goes_to_a_new_connection_after_goaway(start_raw_server, open_client_process):
    """rules 26 and 29: it never reached the wire."""
    def first(connection):
        request = connection.request()
        assert connection.no_request(0.3)
        connection.go_away(request.stream)
        time.sleep(0.2)
        request.reply(b"old")

    server = start_raw_server([first, lambda connection: connection.serve()], settings={MAX_CONCURRENT_STREAMS: 1})
    client = open_client_process(server)
    calls = [client.start("Call") for _ in range(4)]
    results = [call.result() for call in calls]
    assert [result.code for result in results] == ["OK"] * 4, results
    assert [result.messages[0] for result in results].count(b"served") == 3


@not_of_the_reference
def test_what_queues_for_streams_is_unavailable_or_tried_anew_when_the_connection_is_lost(start_raw_server,
                                                                                          open_client_process):
    """rules 22 and 26: what reached the wire is UNAVAILABLE; what never did is tried until its deadline."""
    def first(connection):
        connection.request()
        assert connection.no_request(0.3)
        connection.close()

    server = start_raw_server([first, lambda connection: connection.serve()], settings={MAX_CONCURRENT_STREAMS: 1})
    client = open_client_process(server)
    calls = [client.start("Call", wait_for_ready=True) for _ in range(4)]
    codes = sorted(call.result().code for call in calls)
    assert codes == ["OK", "OK", "OK", "UNAVAILABLE"]


# A peer that breaks HTTP/2

def raw_frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


BREACHES = {
    "DATA on stream 0": lambda stream: raw_frame(0, 0, 0, b"data"),
    "HEADERS on a stream that was never opened": lambda stream: raw_frame(1, 4, stream + 100, b"\x88"),
    "a push promise": lambda stream: PushPromiseFrame(stream, 2, data=b"\x82", flags=["END_HEADERS"]).serialize(),
    "a frame larger than allowed": lambda stream: raw_frame(0, 0, stream, bytes(16_385)),
    "header compression that makes no sense": lambda stream: raw_frame(1, 4, stream, b"\xff\xff\xff\xff\xff\xff"),
    "a window that overflows": lambda stream: WindowUpdateFrame(0, window_increment=2**31 - 1).serialize(),
    "an increment of zero": lambda stream: raw_frame(8, 0, 0, bytes(4)),
    "SETTINGS that make no sense": lambda stream: SettingsFrame(0, settings={SettingsFrame.ENABLE_PUSH: 2}).serialize(),
    "SETTINGS of an odd length": lambda stream: raw_frame(4, 0, 0, b"12345"),
    "RST_STREAM of an idle stream": lambda stream: RstStreamFrame(stream + 100, error_code=0).serialize(),
    "a header block that is interrupted":
        lambda stream: raw_frame(1, 0, stream, b"\x88") + raw_frame(6, 0, 0, bytes(8)),
    "no HTTP/2 at all": lambda stream: b"It is a truth universally acknowledged",
}


@pytest.mark.parametrize("breach", BREACHES)
@not_of_the_reference
def test_a_peer_that_breaks_http2_ends_its_connection_alone(start_raw_server, open_client_process, breach):
    """RFC 9113 §5.4.1: the client says GOAWAY with an error and closes; its calls fail and the next one is served."""
    left = []

    def first(connection):
        request = connection.request()
        connection.send_bytes(BREACHES[breach](request.stream))
        is_left = connection.is_left()
        left.extend([is_left, *[frame.error_code for frame in connection.goaways]])

    server = start_raw_server([first, lambda connection: connection.serve()])
    client = open_client_process(server)
    result = client.call("Broken", timeout_ms=8000 * PATIENCE)
    assert result.code in ("UNAVAILABLE", "INTERNAL"), result
    assert client.call(wait_for_ready=True).messages == [b"served"]
    assert wait_until(lambda: left) and left[0], "the client kept the connection"
    assert len(left) > 1 and left[-1] != NO_ERROR, "no GOAWAY told of the error"
    assert server.address in result.text


@not_of_the_reference
def test_more_data_than_the_window_allows_is_an_error(start_raw_server, open_client_process):
    """RFC 9113 §6.9: of the stream or of the connection, and memory is not filled by it."""
    def first(connection):
        request = connection.request().head().message(b"first")
        assert paused.wait(10 * PATIENCE)
        # Nobody reads these, and so nothing is credited.
        for _ in range(200):
            request.data(message(bytes(16_000)))
        connection.serve()

    paused = threading.Event()
    client = open_client_process(start_raw_server([first, lambda connection: connection.serve()]))
    call = client.start("Flood", kind="server", pause_after=1, keep=False)
    call.paused()
    paused.set()
    time.sleep(0.5)
    call.resume()
    result = call.result()
    assert result.code in ("INTERNAL", "UNAVAILABLE"), result
    assert client.call(wait_for_ready=True).messages == [b"served"]


def test_floods_of_control_frames_do_not_fill_memory(start_raw_server, open_client_process):
    """CVE-2019-9512, CVE-2019-9515: answers to PING and SETTINGS are bounded, whatever becomes of the connection."""
    def script(connection):
        request = connection.request()
        ping = raw_frame(6, 0, 0, bytes(8))
        settings = raw_frame(4, 0, 0, b"")
        try:
            for _ in range(200):
                connection.send_bytes((ping + settings) * 1000)
        except (ConnectionError, TimeoutError):
            return
        request.reply(b"through")

    client = open_client_process(start_raw_server([script, lambda connection: connection.serve()]))
    before = client.figures["rss_bytes"]
    result = client.call("Flooded", seconds=30)
    assert result.code in ("OK", "UNAVAILABLE", "INTERNAL"), result
    assert client.figures["rss_bytes"] - before < (16 if PATIENCE == 1 else 48) * 1024 * 1024


# Closing

@EACH_KIND
@BOTH_WAYS
def test_closing_the_channel_ends_its_calls_with_cancelled(start_raw_server, open_client_process, kind, blocking):
    """The server sees the end; a call after it fails at once."""
    arrived, left = threading.Event(), []

    def script(connection):
        connection.request(whole=False).head()
        arrived.set()
        left.append(connection.is_left())

    server = start_raw_server(script)
    client = open_client_process(server)
    call = client.start("Held", kind=kind, hold=True, blocking=blocking)
    assert arrived.wait(10 * PATIENCE)
    client.close_channel()
    result = call.result()
    assert result.code == "CANCELLED", result
    if not USES_REFERENCE:
        late = client.call("Late", kind=kind, blocking=blocking)
        assert late.code in ("CANCELLED", "UNAVAILABLE", "FAILED_PRECONDITION"), late
        assert "closed" in late.text.lower()
    assert wait_until(lambda: left == [True])


@not_of_the_reference
def test_closing_the_channel_while_it_connects_ends_what_waits(start_raw_server, open_client_process):
    """rule 28: a connection attempt can be cancelled."""
    server = start_raw_server(lambda connection: None, greet=False)
    client = open_client_process(server)
    calls = [client.start("Wait", wait_for_ready=ready) for ready in (False, True)]
    assert wait_until(lambda: server.accepted == 1)
    client.close_channel()
    assert [call.result(3).code for call in calls] == ["CANCELLED"] * 2


@not_of_the_reference
def test_a_call_is_cancelled_while_its_channel_connects(start_raw_server, open_client_process):
    """rule 22: and the connection attempt goes on for others."""
    go_on = threading.Event()

    def script(connection):
        assert go_on.wait(10 * PATIENCE)
        connection.greet()
        connection.serve(lambda request: request.reply(request.path.encode()))

    server = start_raw_server(script, greet=False)
    client = open_client_process(server)
    given_up = client.start("GivenUp", kind="bidi")
    late = client.start("Late", timeout_ms=200)
    other = client.start("/a.B/Other")
    assert wait_until(lambda: server.accepted == 1)
    client.figures
    given_up.cancel()
    assert given_up.result(3).code == "CANCELLED"
    assert late.result(3).code == "DEADLINE_EXCEEDED"
    go_on.set()
    assert other.result().messages == [b"/a.B/Other"]


def test_an_idle_client_process_keeps_quiet(start_raw_server, open_client_process):
    """rule 23: no pings without being asked for, and no processor time."""
    frames = []

    def script(connection):
        connection.request().reply()
        connection.drain(0.2)
        count = len(connection.frames)
        connection.drain(1)
        frames.append(len(connection.frames) - count)

    client = open_client_process(start_raw_server(script))
    assert client.call().code == "OK"
    assert wait_until(lambda: frames, 10) == [0]
