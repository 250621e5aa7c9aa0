"""Frames, streams, settings and windows: sections 3.5 to 7 of h2spec's HTTP/2 cases, against `apus-echo serve`."""

import struct

import pytest

from conformance_peer import (
    ACK, COMPRESSION_ERROR, CONTINUATION, DATA, ENABLE_PUSH, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR, GET, GOAWAY, HAS_PRIORITY, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE, PADDED,
    PING, PRIORITY, PROTOCOL_ERROR, REFUSED_STREAM, RST_STREAM, SETTINGS, STREAM_CLOSED, WINDOW_UPDATE, Cases,
    ConformancePeer,
)
from raw_connection import LARGEST_WINDOW, message

case = Cases("http2")
UNKNOWN_FRAME = 0x16
MORE = [("x-dummy", "d" * 100)]


# 3.5: the preface

@case("3.5/1", "RFC 9113 §3.4")
def the_first_frame_of_a_server_is_settings(peer):
    assert type(peer.frames[0]).__name__ == "SettingsFrame" and "ACK" not in peer.frames[0].flags


@case("3.5/2", "RFC 9113 §3.4")
def a_preface_that_is_none(peer):
    other = ConformancePeer(peer.address, greet=False)
    other.send_bytes(b"INVALID CONNECTION PREFACE\r\n\r\n")
    other.run_until(lambda: other.is_closed)
    assert other.is_closed
    assert all(frame.error_code == PROTOCOL_ERROR for frame in other.goaways)
    peer.expect_life()


# 4.1: the format of frames

@case("4.1/1", "RFC 9113 §4.1")
def a_frame_of_an_unknown_type(peer):
    peer.frame(UNKNOWN_FRAME, 0, 0, bytes(8))
    peer.expect_life()


@case("4.1/2", "RFC 9113 §4.1")
def a_frame_with_undefined_flags(peer):
    peer.frame(PING, 0x16, 0, b"undefine")
    peer.run_until(lambda: peer.ping_acks)
    assert peer.ping_acks == [b"undefine"]


@case("4.1/3", "RFC 9113 §4.1")
def a_frame_with_the_reserved_bit(peer):
    peer.frame(PING, 0x16, 0x8000_0000, b"reserved")
    peer.run_until(lambda: peer.ping_acks)
    assert peer.ping_acks == [b"reserved"]


# 4.2: their size

@case("4.2/1", "RFC 9113 §4.2")
def data_of_16_kib(peer):
    text = b"h" * (2**14 - 5 - 3)
    body = message(b"\x0a" + varint(len(text)) + text)
    assert len(body) == 2**14
    peer.open(1, GET)
    peer.frame(DATA, END_STREAM, 1, body)
    assert bytes(peer.result(1).data) == body


@case("4.2/2", "RFC 9113 §4.2")
def data_larger_than_max_frame_size(peer):
    peer.open(1, GET)
    peer.frame(DATA, END_STREAM, 1, bytes(2**14 + 1))
    peer.expect_connection_error(FRAME_SIZE_ERROR)


@case("4.2/3", "RFC 9113 §4.2")
def headers_larger_than_max_frame_size(peer):
    block = peer.block() + peer.block([(f"x-dummy{number}", "\x7f" * 1024) for number in range(5)])
    assert len(block) > 2**14
    peer.headers(block=block)
    peer.expect_connection_error(FRAME_SIZE_ERROR)


# 4.3: header blocks

@case("4.3/1", "RFC 9113 §4.3")
def a_header_block_that_makes_no_sense(peer):
    # A literal with incremental indexing whose name is cut off.
    peer.headers(block=b"\x40\x05abc")
    peer.expect_connection_error(COMPRESSION_ERROR)


@case("4.3/2", "RFC 9113 §4.3")
def priority_within_a_header_block(peer):
    peer.headers(flags=0)
    peer.priority(1)
    peer.frame(CONTINUATION, END_HEADERS, 1, peer.block(MORE))
    peer.expect_connection_error(PROTOCOL_ERROR)


@case("4.3/3", "RFC 9113 §4.3")
def headers_of_another_stream_within_a_header_block(peer):
    peer.headers(1, flags=0)
    peer.headers(3)
    peer.frame(CONTINUATION, END_HEADERS, 1, peer.block(MORE))
    peer.expect_connection_error(PROTOCOL_ERROR)


# 5.1: the states of streams

@case("5.1/1", "RFC 9113 §5.1")
def idle_data(peer):
    peer.frame(DATA, END_STREAM, 1, b"test")
    peer.expect_connection_error(PROTOCOL_ERROR)


@case("5.1/2", "RFC 9113 §5.1")
def idle_reset(peer):
    peer.reset(1)
    peer.expect_connection_error(PROTOCOL_ERROR)


@case("5.1/3", "RFC 9113 §5.1")
def idle_window_update(peer):
    peer.window_update(1, 100)
    peer.expect_connection_error(PROTOCOL_ERROR)


@case("5.1/4", "RFC 9113 §5.1")
def idle_continuation(peer):
    peer.frame(CONTINUATION, END_HEADERS, 1, peer.block())
    peer.expect_connection_error(PROTOCOL_ERROR)


def half_close(peer):
    """Stream 1 is half-closed by us, and open on the server's side: its answer waits for a window."""
    peer.settings((INITIAL_WINDOW_SIZE, 0))
    peer.get(1)
    peer.run_until(lambda: peer.answer(1).blocks)
    assert peer.answer(1).blocks and not peer.answer(1).is_over


@case("5.1/5", "RFC 9113 §5.1")
def half_closed_data(peer):
    half_close(peer)
    peer.frame(DATA, END_STREAM, 1, b"test")
    peer.expect_connection_error(STREAM_CLOSED)


@case("5.1/6", "RFC 9113 §5.1")
def half_closed_headers(peer):
    half_close(peer)
    peer.headers(1)
    peer.expect_connection_error(STREAM_CLOSED)


@case("5.1/7", "RFC 9113 §5.1")
def half_closed_continuation(peer):
    half_close(peer)
    peer.frame(CONTINUATION, END_HEADERS, 1, peer.block(MORE))
    peer.expect_connection_error(STREAM_CLOSED, PROTOCOL_ERROR)


@case("5.1/8", "RFC 9113 §5.1")
def data_after_a_reset(peer):
    peer.open()
    peer.reset(1)
    peer.frame(DATA, END_STREAM, 1, b"test")
    peer.expect_connection_error(STREAM_CLOSED)


@case("5.1/9", "RFC 9113 §5.1")
def headers_after_a_reset(peer):
    peer.open()
    peer.reset(1)
    peer.headers(1)
    peer.expect_connection_error(STREAM_CLOSED)


@case("5.1/10", "RFC 9113 §5.1")
def continuation_after_a_reset(peer):
    peer.open()
    peer.reset(1)
    peer.frame(CONTINUATION, END_HEADERS, 1, peer.block(MORE))
    peer.expect_connection_error(STREAM_CLOSED, PROTOCOL_ERROR)


@case("5.1/11", "RFC 9113 §5.1")
def data_on_a_closed_stream(peer):
    peer.get()
    peer.expect_hello()
    peer.frame(DATA, END_STREAM, 1, b"test")
    peer.expect_connection_error(STREAM_CLOSED)


@case("5.1/12", "RFC 9113 §5.1")
def headers_on_a_closed_stream(peer):
    peer.get()
    peer.expect_hello()
    peer.headers(1)
    peer.expect_connection_error(STREAM_CLOSED)


@case("5.1/13", "RFC 9113 §5.1")
def continuation_on_a_closed_stream(peer):
    peer.get()
    peer.expect_hello()
    peer.frame(CONTINUATION, END_HEADERS, 1, peer.block(MORE))
    peer.expect_connection_error(STREAM_CLOSED, PROTOCOL_ERROR)


# 5.1.1: the ids of streams

@case("5.1.1/1", "RFC 9113 §5.1.1")
def headers_on_an_even_stream(peer):
    peer.headers(2)
    peer.expect_connection_error(PROTOCOL_ERROR)


@case("5.1.1/2", "RFC 9113 §5.1.1")
def headers_on_a_lower_stream_than_one_seen(peer):
    peer.headers(5)
    peer.headers(3)
    peer.expect_connection_error(PROTOCOL_ERROR)


# 5.1.2: how many there may be

@case("5.1.2/1", "RFC 9113 §5.1.2")
def more_streams_than_allowed(peer):
    limit = peer.server_settings[MAX_CONCURRENT_STREAMS]
    peer.settings((INITIAL_WINDOW_SIZE, 0))
    for number in range(limit + 1):
        peer.get(2 * number + 1)
    peer.expect_stream_error(2 * limit + 1, REFUSED_STREAM)


# 5.3.1: dependencies

@case("5.3.1/1", "RFC 7540 §5.3.1")
def headers_that_depend_on_themselves(peer):
    block = peer.priority_fields(depends_on=1) + peer.block()
    peer.headers(1, flags=END_HEADERS | END_STREAM | HAS_PRIORITY, block=block)
    peer.expect_connection_error(PROTOCOL_ERROR)


@case("5.3.1/2", "RFC 7540 §5.3.1")
def priority_that_depends_on_itself(peer):
    peer.priority(1, depends_on=1)
    peer.expect_connection_error(PROTOCOL_ERROR)


# 5.4.1: errors of the connection

def send_ping_on_a_stream(peer):
    peer.frame(PING, 0, 3, bytes(8))


@case("5.4.1/1", "RFC 9113 §5.4.1")
def a_connection_error_closes_the_connection(peer):
    send_ping_on_a_stream(peer)
    peer.run_until(lambda: peer.is_closed)
    assert peer.is_closed


@case("5.4.1/2", "RFC 9113 §5.4.1")
def goaway_goes_before_it(peer):
    send_ping_on_a_stream(peer)
    peer.run_until(lambda: peer.is_closed)
    assert [frame.error_code for frame in peer.goaways] == [PROTOCOL_ERROR]
    assert peer.goaways[0].last_stream_id == 0


# 5.5: extensions

@case("5.5/1", "RFC 9113 §5.5")
def an_extension_frame(peer):
    peer.frame(UNKNOWN_FRAME, 0, 0, bytes(8))
    peer.expect_life()


@case("5.5/2", "RFC 9113 §5.5")
def an_extension_frame_within_a_header_block(peer):
    peer.headers(flags=END_STREAM)
    peer.frame(UNKNOWN_FRAME, 0, 0, bytes(8))
    peer.expect_connection_error(PROTOCOL_ERROR)


# 6.1: DATA

@case("6.1/1", "RFC 9113 §6.1")
def data_on_stream_0(peer):
    peer.frame(DATA, END_STREAM, 0, b"test")
    peer.expect_connection_error(PROTOCOL_ERROR)


@case("6.1/2", "RFC 9113 §6.1")
def data_on_a_stream_that_is_not_open(peer):
    peer.headers(1)
    peer.frame(DATA, END_STREAM, 1, b"test")
    peer.expect_connection_error(STREAM_CLOSED)


@case("6.1/3", "RFC 9113 §6.1")
def data_with_more_padding_than_there_is(peer):
    peer.open(1, GET, ("content-length", "4"))
    peer.frame(DATA, END_STREAM | PADDED, 1, b"\x06test")
    peer.expect_connection_error(PROTOCOL_ERROR)


# 6.2: HEADERS

@case("6.2/1", "RFC 9113 §6.2")
def headers_that_do_not_end_and_priority(peer):
    peer.headers(flags=0)
    peer.priority(1)
    peer.frame(CONTINUATION, END_HEADERS, 1, peer.block(MORE))
    peer.expect_connection_error(PROTOCOL_ERROR)


@case("6.2/2", "RFC 9113 §6.2")
def headers_that_do_not_end_and_headers_of_another_stream(peer):
    peer.headers(1, flags=0)
    peer.headers(3)
    peer.expect_connection_error(PROTOCOL_ERROR)


@case("6.2/3", "RFC 9113 §6.2")
def headers_on_stream_0(peer):
    peer.headers(0)
    peer.expect_connection_error(PROTOCOL_ERROR)


@case("6.2/4", "RFC 9113 §6.2")
def headers_with_more_padding_than_there_is(peer):
    block = peer.block()
    peer.headers(1, flags=END_HEADERS | END_STREAM | PADDED, block=bytes([len(block) + 2]) + block)
    peer.expect_connection_error(PROTOCOL_ERROR)


# 6.3: PRIORITY

@case("6.3/1", "RFC 9113 §6.3")
def priority_on_stream_0(peer):
    peer.priority(0)
    peer.expect_connection_error(PROTOCOL_ERROR)


@case("6.3/2", "RFC 9113 §6.3")
def priority_of_a_bad_length(peer):
    peer.open()
    peer.frame(PRIORITY, 0, 1, b"\x80\x00\x00\x01")
    # A stream error is enough; any error may be one of the connection (§5.4.1).
    peer.expect_connection_error(FRAME_SIZE_ERROR)


# 6.4: RST_STREAM

@case("6.4/1", "RFC 9113 §6.4")
def a_reset_of_stream_0(peer):
    peer.reset(0)
    peer.expect_connection_error(PROTOCOL_ERROR)


@case("6.4/2", "RFC 9113 §6.4")
def a_reset_of_an_idle_stream(peer):
    peer.reset(1)
    peer.expect_connection_error(PROTOCOL_ERROR)


@case("6.4/3", "RFC 9113 §6.4")
def a_reset_of_a_bad_length(peer):
    peer.open()
    peer.frame(RST_STREAM, 0, 1, bytes(3))
    peer.expect_connection_error(FRAME_SIZE_ERROR)


# 6.5: SETTINGS

@case("6.5/1", "RFC 9113 §6.5")
def an_acknowledgement_with_a_payload(peer):
    peer.frame(SETTINGS, ACK, 0, b"\0")
    peer.expect_connection_error(FRAME_SIZE_ERROR)


@case("6.5/2", "RFC 9113 §6.5")
def settings_on_a_stream(peer):
    peer.frame(SETTINGS, 0, 1, struct.pack(">HI", MAX_CONCURRENT_STREAMS, 100))
    peer.expect_connection_error(PROTOCOL_ERROR)


@case("6.5/3", "RFC 9113 §6.5")
def settings_of_a_bad_length(peer):
    peer.frame(SETTINGS, 0, 0, b"\x00\x03\x00")
    peer.expect_connection_error(FRAME_SIZE_ERROR)


@case("6.5.2/1", "RFC 9113 §6.5.2")
def enable_push_of_2(peer):
    peer.settings((ENABLE_PUSH, 2))
    peer.expect_connection_error(PROTOCOL_ERROR)


@case("6.5.2/2", "RFC 9113 §6.5.2")
def a_window_that_is_too_large(peer):
    peer.settings((INITIAL_WINDOW_SIZE, 2**31))
    peer.expect_connection_error(FLOW_CONTROL_ERROR)


@case("6.5.2/3", "RFC 9113 §6.5.2")
def a_frame_size_that_is_too_small(peer):
    peer.settings((MAX_FRAME_SIZE, 2**14 - 1))
    peer.expect_connection_error(PROTOCOL_ERROR)


@case("6.5.2/4", "RFC 9113 §6.5.2")
def a_frame_size_that_is_too_large(peer):
    peer.settings((MAX_FRAME_SIZE, 2**24))
    peer.expect_connection_error(PROTOCOL_ERROR)


@case("6.5.2/5", "RFC 9113 §6.5.2")
def an_unknown_setting(peer):
    peer.settings((0xff, 1))
    peer.expect_life()


@case("6.5.3/1", "RFC 9113 §6.5.3")
def of_one_setting_sent_twice_the_last_counts(peer):
    peer.settings((INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1))
    peer.get()
    peer.expect_data(1, 1)


@case("6.5.3/2", "RFC 9113 §6.5.3")
def settings_are_acknowledged(peer):
    acks = peer.settings_acks
    peer.settings((ENABLE_PUSH, 0))
    peer.run_until(lambda: peer.settings_acks > acks)
    assert peer.settings_acks == acks + 1


# 6.7: PING

@case("6.7/1", "RFC 9113 §6.7")
def a_ping_is_acknowledged_with_its_payload(peer):
    peer.expect_life(b"mirrored")
    assert peer.ping_acks == [b"mirrored"]


@case("6.7/2", "RFC 9113 §6.7")
def an_acknowledgement_is_not_acknowledged(peer):
    peer.frame(PING, ACK, 0, b"unasked!")
    peer.expect_life(b"question")
    assert peer.ping_acks == [b"question"]


@case("6.7/3", "RFC 9113 §6.7")
def a_ping_on_a_stream(peer):
    peer.frame(PING, 0, 1, bytes(8))
    peer.expect_connection_error(PROTOCOL_ERROR)


@case("6.7/4", "RFC 9113 §6.7")
def a_ping_of_a_bad_length(peer):
    peer.frame(PING, 0, 0, bytes(6))
    peer.expect_connection_error(FRAME_SIZE_ERROR)


# 6.8: GOAWAY

@case("6.8/1", "RFC 9113 §6.8")
def goaway_on_a_stream(peer):
    peer.frame(GOAWAY, 0, 1, bytes(8))
    peer.expect_connection_error(PROTOCOL_ERROR)


# 6.9: WINDOW_UPDATE

@case("6.9/1", "RFC 9113 §6.9")
def an_increment_of_nothing(peer):
    peer.window_update(0, 0)
    peer.expect_connection_error(PROTOCOL_ERROR)


@case("6.9/2", "RFC 9113 §6.9")
def an_increment_of_nothing_on_a_stream(peer):
    peer.open()
    peer.window_update(1, 0)
    peer.expect_connection_error(PROTOCOL_ERROR)


@case("6.9/3", "RFC 9113 §6.9")
def a_window_update_of_a_bad_length(peer):
    peer.frame(WINDOW_UPDATE, 0, 0, bytes([0, 0, 1]))
    peer.expect_connection_error(FRAME_SIZE_ERROR)


@case("6.9.1/1", "RFC 9113 §6.9.1")
def a_window_of_one_byte_lets_one_byte_through(peer):
    peer.settings((INITIAL_WINDOW_SIZE, 1))
    peer.get()
    peer.expect_data(1, 1)


@case("6.9.1/2", "RFC 9113 §6.9.1")
def the_window_of_the_connection_overflows(peer):
    peer.window_update(0, LARGEST_WINDOW)
    peer.window_update(0, LARGEST_WINDOW)
    peer.expect_connection_error(FLOW_CONTROL_ERROR)


@case("6.9.1/3", "RFC 9113 §6.9.1")
def the_window_of_a_stream_overflows(peer):
    peer.open()
    peer.window_update(1, LARGEST_WINDOW)
    peer.window_update(1, LARGEST_WINDOW)
    peer.expect_stream_error(1, FLOW_CONTROL_ERROR)


@case("6.9.2/1", "RFC 9113 §6.9.2")
def settings_change_the_windows_of_open_streams(peer):
    peer.settings((INITIAL_WINDOW_SIZE, 0))
    peer.get()
    peer.expect_data(1, 0)
    peer.settings((INITIAL_WINDOW_SIZE, 1))
    peer.run_until(lambda: peer.answer(1).data_bytes)
    assert peer.answer(1).data_bytes == 1


@case("6.9.2/2", "RFC 9113 §6.9.2")
def a_window_below_zero_waits_until_it_is_above(peer):
    peer.settings((INITIAL_WINDOW_SIZE, 3))
    peer.get()
    peer.expect_data(1, 3)
    # Two bytes less than nothing, which two more make nothing.
    peer.settings((INITIAL_WINDOW_SIZE, 1))
    peer.window_update(1, 2)
    peer.expect_life(b"nothing!")
    assert peer.answer(1).data_bytes == 3
    peer.window_update(1, 1)
    peer.run_until(lambda: peer.answer(1).data_bytes > 3)
    assert peer.answer(1).data_bytes == 4


@case("6.9.2/3", "RFC 9113 §6.9.2")
def settings_with_a_window_that_is_too_large(peer):
    peer.open()
    peer.settings((INITIAL_WINDOW_SIZE, 2**31))
    peer.expect_connection_error(FLOW_CONTROL_ERROR)


# 6.10: CONTINUATION

@case("6.10/1", "RFC 9113 §6.10")
def several_continuations(peer):
    peer.headers(flags=END_STREAM)
    peer.frame(CONTINUATION, 0, 1, peer.block(MORE))
    peer.frame(CONTINUATION, END_HEADERS, 1, peer.block(MORE))
    peer.expect_response()


@case("6.10/2", "RFC 9113 §6.10")
def data_instead_of_a_continuation(peer):
    peer.headers(flags=0)
    peer.frame(CONTINUATION, 0, 1, peer.block(MORE))
    peer.frame(DATA, END_STREAM, 1, b"test")
    peer.expect_connection_error(PROTOCOL_ERROR)


@case("6.10/3", "RFC 9113 §6.10")
def a_continuation_on_stream_0(peer):
    peer.headers(flags=END_STREAM)
    peer.frame(CONTINUATION, END_HEADERS, 0, peer.block(MORE))
    peer.expect_connection_error(PROTOCOL_ERROR)


@case("6.10/4", "RFC 9113 §6.10")
def a_continuation_behind_the_end_of_headers(peer):
    peer.headers(flags=END_HEADERS)
    peer.frame(CONTINUATION, END_HEADERS, 1, peer.block(MORE))
    peer.expect_connection_error(PROTOCOL_ERROR)


@case("6.10/5", "RFC 9113 §6.10")
def a_continuation_behind_the_last_one(peer):
    peer.headers(flags=0)
    peer.frame(CONTINUATION, END_HEADERS, 1, peer.block(MORE))
    peer.frame(CONTINUATION, END_HEADERS, 1, peer.block(MORE))
    peer.expect_connection_error(PROTOCOL_ERROR)


@case("6.10/6", "RFC 9113 §6.10")
def a_continuation_behind_data(peer):
    peer.headers(flags=0)
    peer.frame(DATA, END_STREAM, 1, b"test")
    peer.frame(CONTINUATION, END_HEADERS, 1, peer.block(MORE))
    peer.expect_connection_error(PROTOCOL_ERROR)


# 7: error codes

@case("7/1", "RFC 9113 §7")
def goaway_with_an_unknown_code(peer):
    peer.frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0xff))
    peer.frame(PING, 0, 0, b"question")
    peer.run_until(lambda: peer.is_closed or peer.ping_acks)
    assert peer.is_closed or peer.ping_acks
    assert all(frame.error_code == 0 for frame in peer.goaways)


@case("7/2", "RFC 9113 §7")
def a_reset_with_an_unknown_code(peer):
    peer.open()
    peer.reset(1, 0xff)
    peer.expect_life()


def varint(number):
    encoded = bytearray()
    while number >= 128:
        encoded.append(0x80 | number & 0x7f)
        number >>= 7
    return bytes(encoded) + bytes([number])


def test_all_cases_of_h2spec_for_frames_are_here():
    assert len(case.all) == 77
    assert len(set(case.ids)) == 77


@pytest.mark.parametrize("check", case.all, ids=case.ids)
def test_frames(check, open_conformance_peer):
    check(open_conformance_peer())
