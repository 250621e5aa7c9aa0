"""Responses, frame by frame, as a server sends them (rules 16, 17, 19, 21)."""

import hpack
import pytest
from hyperframe.frame import DataFrame, HeadersFrame, RstStreamFrame, SettingsFrame

from raw_connection import NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM, message
from scenario_client import parameters

MIB = 1024 * 1024


def frames_of(raw, stream, kind):
    return [frame for frame in raw.frames if frame.stream_id == stream and isinstance(frame, kind)]


@pytest.mark.parametrize("method", ["Fail", "FailSynchronously", "FailAtOnce"])
def test_an_error_without_messages_is_one_headers_frame(raw, method):
    """rule 16: Trailers-Only is one HEADERS with END_STREAM."""
    answer = raw.call(method, b"no", fields=parameters(code=5))
    assert answer.order[0] == "HEADERS" and "DATA" not in answer.order
    assert len(answer.blocks) == 1 and answer.ended
    assert (answer.http_status, answer.status) == ("200", 5)
    assert answer.first("content-type") == "application/grpc"


@pytest.mark.parametrize("method", ["Get", "SynchronousGet", "Collect", "Update", "Expand", "GlobalUpdate"])
def test_a_success_is_a_head_messages_and_trailers(raw, method):
    """rules 16, 17: the status comes in trailers, once, and no DATA frame ends the stream."""
    answer = raw.call(method, b"hi")
    assert answer.order == ["HEADERS", "DATA", "HEADERS"]
    assert answer.ended_by == "HEADERS" and answer.reset is None
    head, trailers = answer.blocks
    assert dict(head)[b":status"] == b"200"
    assert b"grpc-status" not in dict(head)
    assert [value for name, value in trailers if name == b"grpc-status"] == [b"0"]
    assert not [name for name, _ in trailers if name.startswith(b":")]


def test_a_stream_without_messages_has_a_head_and_a_status(raw):
    """rule 16: also when no message was written."""
    for method in ["Update", "Expand"]:
        stream = raw.open(method)
        if method == "Expand":
            raw.data(stream, message(b""))
        raw.data(stream, b"", end_stream=True)
        answer = raw.result(stream)
        assert answer.status == 0 and answer.ended_by == "HEADERS" and answer.data_bytes == 0
        assert answer.http_status == "200" and answer.first("content-type") == "application/grpc"


@pytest.mark.parametrize("text, encoded", [
    ("plain text ~!#$&", "plain text ~!#$&"),
    ("100 % of it", "100 %25 of it"),
    ("grüezi", "gr%C3%BCezi"),
    ("世界", "%E4%B8%96%E7%95%8C"),
    ("🐦", "%F0%9F%90%A6"),
    ("line\nbreak\r\ttab", "line%0Abreak%0D%09tab"),
    ("\x00\x1f\x7f", "%00%1F%7F"),
    ("%41", "%2541"),
    (" edge ", " edge "),
])
def test_the_message_of_a_status_is_percent_encoded(raw, text, encoded):
    """rule 19: all but 0x20-0x24 and 0x26-0x7E, in upper-case hexadecimal."""
    answer = raw.call("Fail", text.encode(), fields=parameters(code=3))
    assert answer.text == encoded


def early_answer(raw, **values):
    stream = raw.open("ReturnEarly", parameters(**values))
    raw.data(stream, message(b"one"))
    raw.run_until(lambda: raw.answer(stream).reset is not None, 5)
    return stream, raw.answer(stream)


@pytest.mark.parametrize("size", [0, 100, 20_000, 300_000])
@pytest.mark.parametrize("count", [0, 1])
def test_a_server_that_finishes_first_sends_its_data_then_trailers_then_a_reset_without_error(raw, size, count):
    """rule 21: the reset overtakes nothing."""
    stream, answer = early_answer(raw, count=count, bytes=size)
    assert answer.order == ["HEADERS", "DATA", "HEADERS", "RST_STREAM"]
    assert (answer.status, answer.reset) == (0, NO_ERROR)
    assert answer.messages == [b"e" * size]
    assert len(frames_of(raw, stream, RstStreamFrame)) == 1
    raw.assert_serves()


def test_a_reset_waits_for_data_that_waits_for_credit(open_raw, scenario_server):
    """rule 21: a slow reader still gets everything before the reset."""
    raw = open_raw(scenario_server, auto_credit=False)
    stream = raw.open("ReturnEarly", parameters(bytes=200_000))
    raw.run_until(lambda: raw.answer(stream).data_bytes == 65_535)
    raw.drain()
    assert not raw.answer(stream).is_over
    raw.credit(0, 300_000)
    raw.credit(stream, 300_000)
    raw.run_until(lambda: raw.answer(stream).reset is not None)
    answer = raw.answer(stream)
    assert answer.order == ["HEADERS", "DATA", "HEADERS", "RST_STREAM"]
    assert answer.messages == [b"e" * 200_000]


def test_an_early_error_is_followed_by_a_reset_without_error(raw):
    """rule 21: Trailers-Only, while the client still sends."""
    stream = raw.open("FailAtOnce", parameters(code=7))
    raw.run_until(lambda: raw.answer(stream).reset is not None, 5)
    answer = raw.answer(stream)
    assert answer.order == ["HEADERS", "RST_STREAM"]
    assert (answer.status, answer.reset) == (7, NO_ERROR)


def test_a_refused_request_is_followed_by_a_reset_without_error(raw):
    """rule 21, for what is refused by its head."""
    stream = raw.open("/no.such.Service/Method")
    raw.run_until(lambda: raw.answer(stream).reset is not None, 5)
    assert raw.answer(stream).order == ["HEADERS", "RST_STREAM"]
    assert raw.answer(stream).reset == NO_ERROR


def test_a_call_that_the_client_ended_first_gets_no_reset(raw):
    """rule 21: only a client that still sends is told to stop."""
    for method in ["Get", "Collect", "Update", "Fail", "/no.such.Service/Method"]:
        stream = raw.open(method)
        raw.data(stream, message(b"hi"), end_stream=True)
        raw.result(stream)
        raw.drain(0.05)
        if method.startswith("/") and raw.answer(stream).reset is not None:
            continue  # The head alone decided; the end came later.
        assert raw.answer(stream).reset is None, method


def test_data_after_an_early_answer_is_dropped_and_credited(raw):
    """rule 21: what the client had under way harms nothing and uses up no window."""
    for _ in range(50):
        stream = raw.open("ReturnEarly", parameters(count=0, bytes=0))
        for _ in range(3):
            raw.data(stream, message(b"x" * 10_000))
        raw.result(stream)
    raw.drain()
    assert raw.send_window > 500_000, "the connection's window was not given back"
    assert not raw.goaways
    raw.assert_serves()


def test_ten_thousand_client_streams_ended_early_leave_the_connection_alone(raw):
    """An honest extreme: as many resets by the server harm nobody."""
    for _ in range(200):
        streams = [raw.open("ReturnEarly", parameters(count=0, bytes=0)) for _ in range(50)]
        for stream in streams:
            raw.run_until(lambda: raw.answer(stream).reset is not None)
            assert (raw.answer(stream).status, raw.answer(stream).reset) == (0, NO_ERROR)
    assert not raw.goaways
    raw.assert_serves()


def test_a_server_opens_with_settings_that_say_its_limits(start_scenarios, open_raw):
    """The first frame is SETTINGS, with no push, the stream limit, the window and the header limit."""
    raw = open_raw(start_scenarios("--max-streams", 77, "--stream-window-bytes", 123_456))
    raw.assert_serves()
    assert isinstance(raw.frames[0], SettingsFrame)
    settings = raw.server_settings
    assert settings[SettingsFrame.MAX_CONCURRENT_STREAMS] == 77
    assert settings[SettingsFrame.INITIAL_WINDOW_SIZE] == 123_456
    assert settings[SettingsFrame.MAX_HEADER_LIST_SIZE] == 8192
    assert settings.get(SettingsFrame.ENABLE_PUSH, 0) == 0


def test_streams_over_the_limit_are_refused(start_scenarios, open_raw):
    """RFC 9113 §5.1.2: a client that has not seen the limit yet gets REFUSED_STREAM, and may try again."""
    raw = open_raw(start_scenarios("--max-streams", 5))
    held = [raw.open("Update") for _ in range(5)]
    over = [raw.open("Get") for _ in range(3)]
    for stream in over:
        assert raw.result(stream).reset == 7
    for stream in held:
        raw.data(stream, message(b"held"), end_stream=True)
        assert raw.result(stream).messages == [b"held"]
    raw.assert_serves()


def test_a_client_that_knows_the_limit_and_passes_it_is_refused_alone(start_scenarios, open_raw):
    """rule 29, RFC 9113 §5.1.2: its other streams and the connection go on."""
    raw = open_raw(start_scenarios("--max-streams", 5))
    raw.assert_serves()
    held = [raw.open("Update") for _ in range(5)]
    for _ in range(20):
        over = raw.open("Get")
        assert raw.result(over).reset == REFUSED_STREAM
    for stream in held:
        raw.data(stream, message(b"held"), end_stream=True)
        assert raw.result(stream).messages == [b"held"]
    assert not raw.goaways
    raw.assert_serves()


def test_a_client_that_opens_far_more_streams_than_allowed_loses_its_connection(start_scenarios, open_raw):
    """RFC 9113 §5.4.1: many times the limit at once is no race between SETTINGS and requests."""
    server = start_scenarios("--max-streams", 5)
    raw = open_raw(server)
    raw.assert_serves()
    block = b"".join(request_head(raw) for _ in range(200))
    raw.send_bytes(block)
    raw.run_until(lambda: raw.is_closed)
    assert raw.is_closed and raw.goaways[-1].error_code == PROTOCOL_ERROR
    open_raw(server).assert_serves()


def request_head(raw):
    """A request that stays open, as bytes to be sent together with others."""
    fields = [hpack.NeverIndexedHeaderTuple(*field) for field in raw.head("Update")]
    return HeadersFrame(raw.new_stream(), data=raw.encoder.encode(fields), flags=["END_HEADERS"]).serialize()


def test_a_ping_is_answered(raw):
    raw.ping(b"abcdefgh")
    raw.run_until(lambda: raw.ping_acks)
    assert raw.ping_acks == [b"abcdefgh"]


def test_a_large_answer_comes_in_frames_that_the_peer_takes(raw):
    """RFC 9113 §4.2: no frame is larger than the peer's limit."""
    answer = raw.call("Large", fields=parameters(bytes=MIB))
    assert answer.messages == [b"a" * MIB]
    assert max(len(frame.data) for frame in raw.frames if isinstance(frame, DataFrame)) <= 16_384
    assert all(len(frame.data) <= 16_384 for frame in raw.frames if isinstance(frame, HeadersFrame))


def test_windows_that_shrink_below_zero_and_grow_again_lose_nothing(open_raw, scenario_server):
    """RFC 9113 §6.9.2: SETTINGS change the windows of streams that are open."""
    raw = open_raw(scenario_server, auto_credit=False, connection_window=10 * MIB)
    stream = raw.open("Large", parameters(bytes=200_000))
    raw.data(stream, message(b""), end_stream=True)
    raw.run_until(lambda: raw.answer(stream).data_bytes == 65_535)
    raw.send(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 1000}))
    raw.credit(stream, 64_535)
    raw.drain()
    assert raw.answer(stream).data_bytes == 65_535
    raw.send(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 300_000}))
    assert raw.result(stream).messages == [b"a" * 200_000]
