"""Header blocks that no decoder may take: the HPACK cases of h2spec, against `apus-echo serve`.

Each is a COMPRESSION_ERROR of the connection (RFC 9113 §4.3), because what both ends remember has come apart.
"""

import pytest

from conformance_peer import COMPRESSION_ERROR, Cases

case = Cases("hpack")


def broken(peer, before=b"", after=b""):
    peer.headers(block=before + peer.block() + after)
    peer.expect_connection_error(COMPRESSION_ERROR)


@case("2.3.3/1", "RFC 7541 §2.3.3")
def an_indexed_field_beyond_the_tables(peer):
    # Index 127, of tables that have 61 entries and a handful.
    broken(peer, after=b"\xff\x00")


@case("2.3.3/2", "RFC 7541 §2.3.3")
def a_name_beyond_the_tables(peer):
    # A literal with incremental indexing whose name is entry 127.
    broken(peer, after=b"\x7f\x40\x01x")


@case("4.2/1", "RFC 7541 §4.2")
def a_table_size_update_at_the_end_of_a_block(peer):
    broken(peer, after=b"\x21")


@case("5.2/1", "RFC 7541 §5.2")
def huffman_padding_longer_than_seven_bits(peer):
    # "x-test: test", with a byte of ones behind the padding of the value.
    broken(peer, after=b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff")


@case("5.2/2", "RFC 7541 §5.2")
def huffman_padding_of_zeros(peer):
    broken(peer, after=b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90")


@case("5.2/3", "RFC 7541 §5.2")
def huffman_code_with_the_end_of_string_in_it(peer):
    broken(peer, after=b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f")


@case("6.1/1", "RFC 7541 §6.1")
def index_zero(peer):
    broken(peer, after=b"\x80")


@case("6.3/1", "RFC 7541 §6.3")
def a_table_size_over_the_limit(peer):
    limit = peer.server_settings.get(0x1, 4096)
    rest = limit + 1 - 31
    encoded = bytearray([0x3f])
    while rest >= 128:
        encoded.append(0x80 | rest & 0x7f)
        rest >>= 7
    broken(peer, before=bytes(encoded) + bytes([rest]))


def test_all_hpack_cases_of_h2spec_are_here():
    assert len(case.all) == 8
    assert len(set(case.ids)) == 8


@pytest.mark.parametrize("check", case.all, ids=case.ids)
def test_hpack(check, open_conformance_peer):
    check(open_conformance_peer())
