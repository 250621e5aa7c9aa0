"""What every HTTP/2 client does has to work: the generic cases of h2spec, against `apus-echo serve`."""

import pytest

from conformance_peer import (
    CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, GET, GOAWAY, HAS_PRIORITY, HELLO, INITIAL_WINDOW_SIZE,
    PADDED, PING, Cases,
)

case = Cases("generic")


@case("1/1", "RFC 9113 §3.4")
def a_preface(peer):
    assert type(peer.frames[0]).__name__ == "SettingsFrame" and "ACK" not in peer.frames[0].flags
    peer.expect_life()


# 2: streams and multiplexing

@case("2/1", "RFC 9113 §5.1")
def priority_on_an_idle_stream(peer):
    peer.priority(1)
    peer.expect_life()


@case("2/2", "RFC 9113 §5.1")
def a_window_update_on_a_half_closed_stream(peer):
    peer.settings((INITIAL_WINDOW_SIZE, 0))
    peer.get()
    peer.window_update(1, 1)
    peer.expect_data(1, 1)


@case("2/3", "RFC 9113 §5.1")
def priority_on_a_half_closed_stream(peer):
    peer.settings((INITIAL_WINDOW_SIZE, 0))
    peer.get()
    peer.priority(1)
    peer.window_update(1, 1)
    peer.expect_data(1, 1)


@case("2/4", "RFC 9113 §5.1")
def a_reset_of_a_half_closed_stream(peer):
    peer.settings((INITIAL_WINDOW_SIZE, 0))
    peer.get()
    peer.reset(1, CANCEL)
    peer.expect_life()


@case("2/5", "RFC 9113 §5.1")
def priority_on_a_closed_stream(peer):
    peer.get()
    peer.expect_hello()
    peer.priority(1)
    peer.expect_life(b"and then")


# 3: frames

@case("3.1/1", "RFC 9113 §6.1")
def data(peer):
    peer.get()
    peer.expect_hello()


@case("3.1/2", "RFC 9113 §6.1")
def data_in_two_frames(peer):
    peer.open(1, GET)
    peer.frame(DATA, 0, 1, HELLO[:3])
    peer.frame(DATA, END_STREAM, 1, HELLO[3:])
    peer.expect_hello()


@case("3.1/3", "RFC 9113 §6.1")
def data_with_padding(peer):
    peer.open(1, GET)
    peer.frame(DATA, END_STREAM | PADDED, 1, b"\x05" + HELLO + bytes(5))
    peer.expect_hello()


@case("3.2/1", "RFC 9113 §6.2")
def headers(peer):
    peer.headers()
    peer.expect_response()


@case("3.2/2", "RFC 9113 §6.2")
def headers_with_padding(peer):
    peer.headers(flags=END_HEADERS | END_STREAM | PADDED, block=b"\x05" + peer.block() + bytes(5))
    peer.expect_response()


@case("3.2/3", "RFC 9113 §6.2")
def headers_with_priority(peer):
    block = peer.priority_fields() + peer.block()
    peer.headers(flags=END_HEADERS | END_STREAM | HAS_PRIORITY, block=block)
    peer.expect_response()


@case("3.3/1", "RFC 9113 §6.3")
def priority_with_weight_1(peer):
    peer.priority(1, weight=0)
    peer.headers()
    peer.expect_response()


@case("3.3/2", "RFC 9113 §6.3")
def priority_with_weight_256(peer):
    peer.priority(1, weight=255)
    peer.headers()
    peer.expect_response()


@case("3.3/3", "RFC 9113 §6.3")
def priority_with_a_dependency(peer):
    peer.priority(1, depends_on=3)
    peer.headers()
    peer.expect_response()


@case("3.3/4", "RFC 9113 §6.3")
def priority_that_is_exclusive(peer):
    peer.priority(1, depends_on=3, exclusive=True)
    peer.headers()
    peer.expect_response()


@case("3.3/5", "RFC 9113 §6.3")
def priority_on_an_idle_stream_does_not_close_those_below(peer):
    peer.priority(3)
    peer.headers(1)
    peer.expect_response(1)


@case("3.4/1", "RFC 9113 §6.4")
def a_reset(peer):
    peer.open()
    peer.reset(1, CANCEL)
    peer.expect_life()


@case("3.5/1", "RFC 9113 §6.5")
def settings(peer):
    acks = peer.settings_acks
    peer.settings((0x3, 100))
    peer.run_until(lambda: peer.settings_acks > acks)
    assert peer.settings_acks == acks + 1


@case("3.7/1", "RFC 9113 §6.7")
def ping(peer):
    peer.expect_life(b"ABCDEFGH")


@case("3.8/1", "RFC 9113 §6.8")
def goaway(peer):
    peer.frame(GOAWAY, 0, 0, bytes(8))
    peer.frame(PING, 0, 0, b"too late")
    peer.run_until(lambda: peer.is_closed or peer.ping_acks)
    assert peer.is_closed or peer.ping_acks
    assert all(frame.error_code == 0 for frame in peer.goaways)


@case("3.9/1", "RFC 9113 §6.9")
def a_window_update_of_the_connection(peer):
    peer.window_update(0, 1)
    peer.expect_life()


@case("3.9/2", "RFC 9113 §6.9")
def a_window_update_of_a_stream(peer):
    peer.open()
    peer.window_update(1, 1)
    peer.expect_life()


@case("3.10/1", "RFC 9113 §6.10")
def one_continuation(peer):
    block = peer.block()
    peer.headers(flags=END_STREAM, block=block[:5])
    peer.frame(CONTINUATION, END_HEADERS, 1, block[5:])
    peer.expect_response()


@case("3.10/2", "RFC 9113 §6.10")
def two_continuations(peer):
    block = peer.block()
    peer.headers(flags=END_STREAM, block=block[:5])
    peer.frame(CONTINUATION, 0, 1, block[5:10])
    peer.frame(CONTINUATION, END_HEADERS, 1, block[10:])
    peer.expect_response()


# 4: messages of HTTP; gRPC knows POST alone and says so

@case("4/1", "RFC 9113 §8.1")
def a_get_request(peer):
    peer.headers(fields=peer.usual_fields(**{":method": "GET"}))
    peer.expect_response(status="405")


@case("4/2", "RFC 9113 §8.1")
def a_head_request(peer):
    peer.headers(fields=peer.usual_fields(**{":method": "HEAD"}))
    peer.expect_response(status="405")


@case("4/3", "RFC 9113 §8.1")
def a_post_request(peer):
    peer.get()
    peer.expect_hello()


@case("4/4", "RFC 9113 §8.1")
def a_post_request_with_trailers(peer):
    peer.open(1, GET)
    peer.frame(DATA, 0, 1, HELLO)
    peer.headers(1, [("x-test", "ok")])
    peer.expect_hello()


# 5: HPACK, each representation of a field, with a name of the table and with a new one, plain and in Huffman's code

INDEXED = b"\x84"
USER_AGENT, EMPTY_NAME = 58, 0
PLAIN_VALUE, HUFFMAN_VALUE = b"\x04test", b"\x83\x49\x50\x9f"
PLAIN_NAME, HUFFMAN_NAME = b"\x06x-test", b"\x85\xf2\xb2\x4a\x84\xff"


def literal(kind, prefix_bits, huffman, indexed):
    """A literal field: the kind's leading bits, its name by index or in letters, its value."""
    value = HUFFMAN_VALUE if huffman else PLAIN_VALUE
    if not indexed:
        return bytes([kind]) + (HUFFMAN_NAME if huffman else PLAIN_NAME) + value
    most = 2**prefix_bits - 1
    if USER_AGENT < most:
        return bytes([kind | USER_AGENT]) + value
    return bytes([kind | most, USER_AGENT - most]) + value


def add_representations():
    def add(number, section, name, bytes_of_field):
        def run(peer):
            peer.headers(block=peer.block() + bytes_of_field)
            peer.expect_response()
        run.__name__ = name
        case(number, section)(run)

    number = 2
    kinds = [("with incremental indexing", "RFC 7541 §6.2.1", 0x40, 6), ("without indexing", "RFC 7541 §6.2.2", 0, 4),
             ("never indexed", "RFC 7541 §6.2.3", 0x10, 4)]
    for kind, section, bits, prefix_bits in kinds:
        for indexed in (True, False):
            for huffman in (False, True):
                name = f"a literal {kind}, {'indexed' if indexed else 'new'} name{', in Huffman code' * huffman}"
                add(f"5/{number}", section, name, literal(bits, prefix_bits, huffman, indexed))
                number += 1


@case("5/1", "RFC 7541 §6.1")
def an_indexed_field(peer):
    """`:path: /` of the static table, in the place of a literal one."""
    without_path = [field for field in peer.usual_fields() if field[0] != ":path"]
    peer.headers(block=INDEXED + peer.block(without_path))
    # There is no such method, and that is said of the path that the table gave.
    peer.expect_response(code=12)


add_representations()


@case("5/14", "RFC 7541 §6.3")
def a_smaller_dynamic_table(peer):
    peer.encoder.header_table_size = 128
    peer.headers()
    peer.expect_response()


@case("5/15", "RFC 7541 §4.2")
def two_sizes_of_the_dynamic_table(peer):
    peer.headers(block=b"\x3f\x61\x3f\xe1\x1f" + peer.block())
    peer.expect_response()


def test_all_generic_cases_of_h2spec_are_here():
    assert len(case.all) == 44
    assert len(set(case.ids)) == 44


@pytest.mark.parametrize("check", case.all, ids=case.ids)
def test_generic(check, open_conformance_peer):
    check(open_conformance_peer())
