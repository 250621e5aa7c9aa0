"""Messages in DATA frames: framing, flags, limits, padding, credit, fairness (rules 12 to 15, 30, 33, 34)."""

import struct
import time

import pytest

from raw_connection import FRAME_BYTES_MAX, LARGEST_WINDOW, message, split_messages
from scenario_client import new_key, parameters
from server_process import PATIENCE

INTERNAL, UNIMPLEMENTED, RESOURCE_EXHAUSTED = 13, 12, 8
MIB = 1024 * 1024
SHAPES = ["Get", "SynchronousGet", "GlobalGet", "Collect", "Update", "Expand"]


@pytest.mark.parametrize("method", SHAPES)
def test_a_message_may_be_split_into_frames_of_one_byte(raw, method):
    """rule 12: a message has no relation to DATA frame boundaries."""
    stream = raw.open(method)
    for byte in message(b"byte-by-byte"):
        raw.data(stream, bytes([byte]))
    raw.data(stream, b"", end_stream=True)
    answer = raw.result(stream)
    assert (answer.status, answer.messages) == (0, [b"byte-by-byte"])


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 11, 100])
def test_messages_cut_at_every_place_are_put_together(raw, size):
    """rule 12: prefixes split as well as payloads."""
    payloads = [b"", b"a", b"bc", b"", b"d" * 20, b"e" * 3]
    body = b"".join(message(payload) for payload in payloads)
    stream = raw.open("Update")
    for start in range(0, len(body), size):
        raw.data(stream, body[start:start + size])
    raw.data(stream, b"", end_stream=True)
    assert raw.result(stream).messages == payloads


@pytest.mark.parametrize("method", ["Update", "GlobalUpdate", "ActorUpdate", "WithoutNonsendingUpdate"])
def test_many_messages_in_one_frame_are_taken_apart(raw, method):
    """rule 12."""
    payloads = [b"%d" % number for number in range(1500)]
    stream = raw.open(method)
    raw.data(stream, b"".join(message(payload) for payload in payloads), end_stream=True)
    assert raw.result(stream).messages == payloads


def test_empty_data_frames_in_between_change_nothing(raw):
    """rule 12."""
    stream = raw.open("Update")
    for piece in [b"", message(b"ab")[:3], b"", message(b"ab")[3:], b"", message(b"")]:
        raw.data(stream, piece)
    raw.data(stream, b"", end_stream=True)
    assert raw.result(stream).messages == [b"ab", b""]


@pytest.mark.parametrize("method", SHAPES)
@pytest.mark.parametrize("flag", [2, 3, 128, 255])
def test_a_flag_byte_other_than_0_and_1_is_internal(raw, method, flag):
    """rule 12."""
    stream = raw.open(method)
    raw.data(stream, message(b"hi", flag), end_stream=True)
    assert raw.result(stream).status == INTERNAL
    raw.assert_serves()


@pytest.mark.parametrize("encoding", [None, "identity"])
@pytest.mark.parametrize("method", ["Get", "Update"])
def test_a_compressed_message_without_an_encoding_is_internal(raw, encoding, method):
    """rule 13: flag 1 with grpc-encoding absent or identity."""
    stream = raw.open(method, [("grpc-encoding", encoding)] if encoding else [])
    raw.data(stream, message(b"hi", 1), end_stream=True)
    assert raw.result(stream).status == INTERNAL
    raw.assert_serves()


def test_identity_is_an_encoding_like_none(raw):
    """rule 13."""
    assert raw.call("Get", b"hi", fields=[("grpc-encoding", "identity")]).messages == [b"hi"]


@pytest.mark.parametrize("encoding", ["br", "snappy", "made-up", "IDENTITY"])
def test_an_unsupported_encoding_is_unimplemented_and_the_answer_lists_what_is_supported(raw, encoding):
    """rule 13: UNIMPLEMENTED with grpc-accept-encoding."""
    stream = raw.open("Get", [("grpc-encoding", encoding)])
    raw.data(stream, message(b"hi"), end_stream=True)
    answer = raw.result(stream)
    assert answer.status == UNIMPLEMENTED
    assert "identity" in answer.first("grpc-accept-encoding")
    assert encoding in answer.text
    raw.assert_serves()


@pytest.mark.parametrize("method", SHAPES)
def test_a_length_over_the_limit_is_refused_before_the_message_comes(raw, method):
    """rule 14: the length is checked before anything is allocated."""
    stream = raw.open(method)
    raw.data(stream, struct.pack(">BI", 0, 4 * MIB + 1))
    answer = raw.result(stream)
    assert answer.status == RESOURCE_EXHAUSTED
    assert str(4 * MIB) in answer.text
    raw.assert_serves()


def test_lengths_of_four_gib_cost_no_memory(raw, scenario_server):
    """rule 14: a prefix promises, and nothing is allocated for a promise."""
    before = scenario_server.rss_bytes
    for _ in range(300):
        stream = raw.open("Get")
        raw.data(stream, struct.pack(">BI", 0, 2**32 - 1))
        assert raw.result(stream).status == RESOURCE_EXHAUSTED
    assert scenario_server.rss_bytes - before < 8 * MIB


def test_promises_within_the_limit_cost_no_memory_either(open_raw, scenario_server):
    """rule 14: 4 MiB promised on each of 100 streams, 10 bytes sent."""
    raw = open_raw(scenario_server)
    before = scenario_server.rss_bytes
    streams = [raw.open("Get") for _ in range(90)]
    for stream in streams:
        raw.data(stream, struct.pack(">BI", 0, 4 * MIB) + b"12345")
    raw.ping()
    raw.run_until(lambda: raw.ping_acks)
    assert scenario_server.rss_bytes - before < 24 * MIB
    for stream in streams:
        raw.reset(stream)
    raw.assert_serves()


@pytest.mark.parametrize("over", [0, 1])
def test_the_limit_of_a_message_is_exact_and_configurable(start_scenarios, open_raw, over):
    """rule 14: a message of the limit passes, of one byte more it does not."""
    raw = open_raw(start_scenarios("--max-request-bytes", 100_000))
    for method in ["Get", "Collect"]:
        stream = raw.open(method)
        raw.body(stream, message(b"x" * (100_000 + over)))
        assert raw.result(stream).status == (RESOURCE_EXHAUSTED if over else 0)
    raw.assert_serves()


@pytest.mark.parametrize("method", ["Get", "SynchronousGet", "Update", "Collect"])
def test_a_response_over_the_limit_is_resource_exhausted(start_scenarios, open_raw, method):
    """rule 14: in both directions."""
    raw = open_raw(start_scenarios("--max-response-bytes", 1000))
    assert raw.call(method, b"x" * 1000).messages == [b"x" * 1000]
    answer = raw.call(method, b"x" * 1001)
    assert (answer.status, answer.messages) == (RESOURCE_EXHAUSTED, [])


@pytest.mark.parametrize("method", SHAPES)
@pytest.mark.parametrize("kept", [1, 4, 5, 6])
@pytest.mark.parametrize("ending", ["data", "empty data", "trailers"])
def test_a_last_message_cut_short_is_internal(raw, method, kept, ending):
    """rule 15: in its prefix or in its payload, however the stream ends."""
    stream = raw.open(method)
    raw.data(stream, message(b"cut")[:kept], end_stream=ending == "data")
    if ending == "empty data":
        raw.data(stream, b"", end_stream=True)
    if ending == "trailers":
        raw.trailers(stream, [("x-trailer", "1")])
    assert raw.result(stream).status == INTERNAL
    raw.assert_serves()


def test_whole_messages_ahead_of_one_cut_short_do_not_save_the_call(raw):
    """rule 15."""
    stream = raw.open("Collect")
    raw.data(stream, message(b"whole") + message(b"cut")[:6], end_stream=True)
    assert raw.result(stream).status == INTERNAL


@pytest.mark.parametrize("padding", [0, 1, 255])
def test_padding_counts_towards_flow_control_and_is_given_back(start_scenarios, open_raw, padding):
    """rule 30: much more padding than the windows hold, and the stream never waits for ever."""
    raw = open_raw(start_scenarios("--stream-window-bytes", 65_536, "--connection-window-bytes", 65_536))
    stream = raw.open("Sink")
    count = 2000
    for _ in range(count):
        frame_bytes = 5 + 10 + 1 + padding
        assert raw.run_until(lambda: min(raw.send_window, raw.stream_windows[stream]) >= frame_bytes, 5), \
            "the windows were not opened again"
        raw.data(stream, message(b"0123456789"), padding=padding)
    raw.data(stream, b"", end_stream=True, padding=padding)
    assert raw.result(stream).messages == [f"{count} messages, {count * 10} bytes".encode()]


def test_frames_of_nothing_but_padding_are_given_back_while_the_handler_does_not_read(start_scenarios, open_raw):
    """rule 30: padding is no message, so nobody has to take it."""
    raw = open_raw(start_scenarios("--stream-window-bytes", 65_536, "--connection-window-bytes", 65_536))
    key = new_key()
    stream = raw.open("Sink", parameters(key=key, pause_after=0))
    for _ in range(1000):
        assert raw.run_until(lambda: min(raw.send_window, raw.stream_windows[stream]) >= 256, 5), \
            "the windows were not opened again"
        raw.data(stream, b"", padding=255)
    raw.data(stream, b"", end_stream=True)
    raw.call("Release", fields=parameters(key=key))
    assert raw.result(stream).messages == [b"0 messages, 0 bytes"]


def pour(raw, count, size, fields=()):
    stream = raw.open("Pour", [*parameters(count=count, bytes=size), *fields])
    raw.discarded.add(stream)
    raw.data(stream, message(b""), end_stream=True)
    return stream


def test_streams_share_a_connection_fairly(open_raw, scenario_server):
    """rule 33: several bulk streams advance side by side."""
    raw = open_raw(scenario_server)
    streams = [pour(raw, 100_000, 10_000) for _ in range(4)]
    total = 64 * MIB
    raw.run_until(lambda: sum(raw.answer(stream).data_bytes for stream in streams) >= total, 30)
    shares = [raw.answer(stream).data_bytes / total for stream in streams]
    assert min(shares) > 0.15, shares
    for stream in streams:
        raw.reset(stream)


def test_the_clients_priority_signal_starves_nobody(open_raw, scenario_server):
    """rule 33: urgency and increment that the client asks for are ignored."""
    raw = open_raw(scenario_server)
    signals = ["u=0", "u=7", "u=3", "u=7, i"]
    streams = [pour(raw, 100_000, 10_000, [("priority", signal)]) for signal in signals]
    total = 64 * MIB
    raw.run_until(lambda: sum(raw.answer(stream).data_bytes for stream in streams) >= total, 30)
    shares = [raw.answer(stream).data_bytes / total for stream in streams]
    assert min(shares) > 0.15, shares
    for stream in streams:
        raw.reset(stream)


def test_small_and_large_answers_share_a_connection_fairly(open_raw, scenario_server):
    """rule 33: a large unary answer does not hold up a small one behind it."""
    raw = open_raw(scenario_server, connection_window=LARGEST_WINDOW, auto_credit=True)
    large = raw.open("Large", parameters(bytes=64 * MIB))
    raw.discarded.add(large)
    raw.data(large, message(b""), end_stream=True)
    raw.run_until(lambda: raw.answer(large).data_bytes > 0)
    small = raw.open("Get")
    raw.data(small, message(b"small"), end_stream=True)
    raw.result(small)
    assert raw.answer(large).data_bytes < 48 * MIB
    raw.reset(large)


@pytest.mark.parametrize("method", ["Get", "SynchronousGet", "GlobalGet", "Collect", "GlobalCollect", "Update",
                                    "GlobalUpdate", "WithoutNonsendingUpdate"])
def test_a_message_larger_than_the_window_does_not_wait_for_itself(start_scenarios, open_raw, method):
    """rule 34: its bytes are credited as they arrive while somebody waits for them."""
    raw = open_raw(start_scenarios("--stream-window-bytes", 10_000, "--connection-window-bytes", 65_536))
    payload = bytes(range(256)) * 8192
    stream = raw.open(method)
    assert raw.body(stream, message(payload), seconds=10)
    assert raw.result(stream, 15).messages == [payload]


@pytest.mark.parametrize("method", ["Update", "GlobalUpdate", "ActorUpdate"])
def test_a_large_message_that_began_while_the_handler_was_busy_goes_on_when_it_waits(start_scenarios, open_raw, method):
    """rule 34: the part that is here already is credited when the reader comes to wait."""
    raw = open_raw(start_scenarios("--stream-window-bytes", 65_536, "--connection-window-bytes", 65_536))
    payload = b"0123456789abcdef" * (MIB // 16)
    stream = raw.open(method)
    assert raw.body(stream, message(payload) * 3, seconds=5)
    assert raw.result(stream).messages == [payload] * 3


def test_a_large_message_that_began_before_the_handler_read_goes_on_when_it_reads(start_scenarios, open_raw):
    """rule 34: the handler waits at its gate while the window fills with the start of a message."""
    server = start_scenarios("--stream-window-bytes", 65_536, "--connection-window-bytes", 65_536)
    raw, other = open_raw(server), open_raw(server)
    for method in ["Sink", "GlobalSink"]:
        key = new_key()
        stream = raw.open(method, parameters(key=key, pause_after=0))
        body = message(b"x" * MIB)
        raw.run_until(lambda: raw.server_settings)
        first = min(raw.stream_windows[stream], raw.send_window)
        raw.body(stream, body[:first], end_stream=False)
        window = raw.stream_windows[stream]
        raw.drain()
        assert raw.stream_windows[stream] == window, "a message nobody waits for was credited"
        other.call("Release", fields=parameters(key=key))
        assert raw.body(stream, body[first:], seconds=5)
        assert raw.result(stream).messages == [f"1 messages, {MIB} bytes".encode()]


@pytest.mark.parametrize("method", ["Sink", "GlobalSink"])
def test_messages_that_nobody_takes_are_not_credited_and_the_connection_is(start_scenarios, open_raw, method):
    """rule 34: the stream's window is credited when messages are taken, the connection's on receipt."""
    raw = open_raw(start_scenarios())
    key = new_key()
    stream = raw.open(method, parameters(key=key, pause_after=1))
    raw.body(stream, message(b"first"), end_stream=False)
    assert raw.wait_for(f"read.{key}") == 1
    raw.drain()
    connection_before = raw.send_window
    sent = 0
    piece = message(b"x" * 995)
    while raw.stream_windows[stream] >= len(piece):
        raw.body(stream, piece, end_stream=False)
        sent += 1
    raw.drain()
    assert raw.stream_windows[stream] < len(piece)
    if method == "Sink":
        # On the global pool one batch may be taken ahead of the handler.
        assert sent <= 300
    assert raw.send_window >= min(connection_before, 1024 * 1024 // 2) - 300_000
    raw.call("Release", fields=parameters(key=key))
    raw.body(stream, b"", end_stream=True)
    assert raw.result(stream).messages == [f"{sent + 1} messages, {sent * 995 + 5} bytes".encode()]


def test_large_messages_on_many_streams_all_arrive_under_the_connections_cap(start_scenarios, open_raw):
    """rule 34: over the cap one stream at a time goes on, and none is forgotten."""
    server = start_scenarios("--stream-window-bytes", 65_536, "--connection-buffer-bytes", 4 * MIB)
    raw = open_raw(server)
    payload = b"m" * (3 * MIB)
    before = server.rss_bytes
    streams = [raw.open("Length") for _ in range(20)]
    left = {stream: memoryview(message(payload)) for stream in streams}
    peak = before
    end = time.monotonic() + 30 * PATIENCE
    while left and time.monotonic() < end:
        moved = False
        for stream in list(left):
            room = min(raw.send_window, raw.stream_windows[stream], FRAME_BYTES_MAX)
            if room > 0:
                piece, left[stream] = left[stream][:room], left[stream][room:]
                raw.data(stream, bytes(piece), end_stream=not left[stream])
                if not left[stream]:
                    del left[stream]
                moved = True
        if not moved:
            peak = max(peak, server.rss_bytes)
        raw.step(0 if moved else 0.1)
    assert not left, f"{len(left)} of 20 uploads stand still"
    for stream in streams:
        assert raw.result(stream).messages == [b"%d" % len(payload)]
    assert peak - before < 32 * MIB


def test_an_upload_that_stands_still_at_the_cap_does_not_keep_the_others_for_ever(start_scenarios, open_raw):
    """rule 34: streams that end make room for those that wait."""
    server = start_scenarios("--stream-window-bytes", 65_536, "--connection-buffer-bytes", MIB)
    raw = open_raw(server)
    stalled = [raw.open("Length") for _ in range(20)]
    for stream in stalled:
        raw.body(stream, message(b"s" * (3 * MIB))[:60_000], end_stream=False)
    working = raw.open("Length")
    raw.drain()
    raw.body(working, message(b"w" * (2 * MIB))[:60_000], end_stream=False)
    raw.drain()
    for stream in stalled:
        raw.reset(stream)
    assert raw.body(working, message(b"w" * (2 * MIB))[60_000:], seconds=10)
    assert raw.result(working).messages == [b"%d" % (2 * MIB)]


def test_a_peer_that_ignores_the_window_is_told_of_a_flow_control_error(start_scenarios, open_raw):
    """RFC 9113 §6.9: and the server serves on."""
    server = start_scenarios("--stream-window-bytes", 65_536)
    raw = open_raw(server)
    stream = raw.open("Sink", parameters(pause_after=0, key="never"))
    try:
        for _ in range(300):
            raw.data(stream, b"\x00" * FRAME_BYTES_MAX)
    except ConnectionError:
        pass
    raw.run_until(lambda: raw.goaways or raw.answer(stream).reset is not None or raw.is_closed)
    if raw.goaways:
        assert raw.goaways[0].error_code == 3
    elif raw.answer(stream).reset is not None:
        assert raw.answer(stream).reset == 3
    open_raw(server).assert_serves()


def test_a_stream_of_large_messages_arrives_whole_through_small_windows_of_ours(open_raw, scenario_server):
    """rule 12: the windows we give it cut the server's messages anywhere."""
    raw = open_raw(scenario_server, settings={4: 777})
    stream = raw.open("Pour", parameters(count=20, bytes=5000))
    raw.data(stream, message(b""), end_stream=True)
    answer = raw.result(stream)
    assert split_messages(answer.data) == [bytes([number]) * 5000 for number in range(20)]
