"""Requests that are malformed: section 8 of h2spec's HTTP/2 cases, against `apus-echo serve`.

RFC 9113 §8.1.1 makes each a stream error: the call ends with RST_STREAM, and other calls go on.
"""

import struct

import pytest

from conformance_peer import DATA, END_HEADERS, END_STREAM, GET, PROTOCOL_ERROR, PUSH_PROMISE, Cases

case = Cases("http2")


def malformed(peer, fields):
    peer.headers(1, fields)
    peer.expect_stream_error(1, PROTOCOL_ERROR)


@case("8.1/1", "RFC 9113 §8.1")
def a_second_head_without_end_stream(peer):
    peer.open(1, GET)
    peer.frame(DATA, 0, 1, b"test")
    peer.headers(1, [("x-test", "ok")], END_HEADERS)
    peer.expect_stream_error(1, PROTOCOL_ERROR)


@case("8.1.2/1", "RFC 9113 §8.2.1")
def a_name_in_upper_case(peer):
    malformed(peer, peer.usual_fields() + [("X-TEST", "ok")])


@case("8.1.2.1/1", "RFC 9113 §8.3")
def an_unknown_pseudo_header_field(peer):
    malformed(peer, [*peer.usual_fields()[:4], (":test", "ok"), *peer.usual_fields()[4:]])


@case("8.1.2.1/2", "RFC 9113 §8.3")
def a_pseudo_header_field_of_responses(peer):
    malformed(peer, [*peer.usual_fields()[:4], (":status", "200"), *peer.usual_fields()[4:]])


@case("8.1.2.1/3", "RFC 9113 §8.3")
def a_pseudo_header_field_in_trailers(peer):
    peer.open(1, GET)
    peer.frame(DATA, 0, 1, b"test")
    peer.headers(1, [(":method", "POST")])
    peer.expect_stream_error(1, PROTOCOL_ERROR)


@case("8.1.2.1/4", "RFC 9113 §8.3")
def a_pseudo_header_field_behind_another_field(peer):
    malformed(peer, [("x-test", "ok"), *peer.usual_fields()])


@case("8.1.2.2/1", "RFC 9113 §8.2.2")
def a_field_of_the_connection(peer):
    malformed(peer, peer.usual_fields() + [("connection", "keep-alive")])


@case("8.1.2.2/2", "RFC 9113 §8.2.2")
def te_other_than_trailers(peer):
    malformed(peer, peer.usual_fields(te=None) + [("trailers", "test"), ("te", "trailers, deflate")])


@case("8.1.2.3/1", "RFC 9113 §8.3.1")
def an_empty_path(peer):
    malformed(peer, peer.usual_fields(**{":path": ""}))


@case("8.1.2.3/2", "RFC 9113 §8.3.1")
def no_method(peer):
    malformed(peer, peer.usual_fields(**{":method": None}))


@case("8.1.2.3/3", "RFC 9113 §8.3.1")
def no_scheme(peer):
    malformed(peer, peer.usual_fields(**{":scheme": None}))


@case("8.1.2.3/4", "RFC 9113 §8.3.1")
def no_path(peer):
    malformed(peer, peer.usual_fields(**{":path": None}))


@case("8.1.2.3/5", "RFC 9113 §8.3.1")
def two_methods(peer):
    malformed(peer, [(":method", "POST"), *peer.usual_fields()])


@case("8.1.2.3/6", "RFC 9113 §8.3.1")
def two_schemes(peer):
    malformed(peer, [(":scheme", "http"), *peer.usual_fields()])


@case("8.1.2.3/7", "RFC 9113 §8.3.1")
def two_paths(peer):
    malformed(peer, [(":path", GET), *peer.usual_fields()])


@case("8.1.2.6/1", "RFC 9113 §8.1.1")
def less_content_length_than_data(peer):
    peer.open(1, GET, ("content-length", "1"))
    peer.frame(DATA, END_STREAM, 1, b"test")
    peer.expect_stream_error(1, PROTOCOL_ERROR)


@case("8.1.2.6/2", "RFC 9113 §8.1.1")
def less_content_length_than_the_sum_of_data(peer):
    peer.open(1, GET, ("content-length", "5"))
    peer.frame(DATA, 0, 1, b"test")
    peer.frame(DATA, END_STREAM, 1, b"test")
    peer.expect_stream_error(1, PROTOCOL_ERROR)


@case("8.2/1", "RFC 9113 §8.4")
def a_push_promise_of_a_client(peer):
    peer.open(1)
    peer.frame(PUSH_PROMISE, END_HEADERS, 1, struct.pack(">I", 3) + peer.block())
    peer.expect_connection_error(PROTOCOL_ERROR)


def test_all_cases_of_h2spec_for_messages_are_here():
    assert len(case.all) == 18
    assert len(set(case.ids)) == 18


@pytest.mark.parametrize("check", case.all, ids=case.ids)
def test_messages(check, open_conformance_peer):
    check(open_conformance_peer())
