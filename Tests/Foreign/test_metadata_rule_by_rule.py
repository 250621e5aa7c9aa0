"""Metadata on the wire (rules 9 to 11)."""

import base64

import pytest

from raw_connection import PROTOCOL_ERROR, message

INTERNAL = 13


def echoed(raw, fields):
    """The answer of a method that sends all metadata back, twice."""
    return raw.call("EchoMetadata", fields=fields)


def listed(answer):
    """The metadata that the handler saw, as (key, bytes)."""
    pairs = [line.split(":", 1) for line in answer.messages[0].decode().splitlines()]
    return [(key, bytes.fromhex(value)) for key, value in pairs]


@pytest.mark.parametrize("name", ["grpc-made-up", "grpc-accept-encoding", "grpc-message-type", "grpc-status"])
def test_what_is_reserved_is_not_shown_to_the_application(raw, name):
    """rule 9: grpc-* is not the application's."""
    answer = echoed(raw, [(name, "identity"), ("x-kept", "1")])
    assert answer.status == 0
    assert listed(answer) == [("x-kept", b"1")]


@pytest.mark.parametrize("name", ["grpc-previous-rpc-attempts", "grpc-retry-pushback-ms", "grpc-status-details-bin",
                                  "grpc-trace-bin", "grpc-tags-bin"])
def test_the_reserved_names_that_applications_use_are_shown(raw, name):
    """rule 9: these five are."""
    answer = echoed(raw, [(name, "MTI")])
    assert listed(answer) == [(name, b"12" if name.endswith("-bin") else b"MTI")]
    assert answer.all(name) == ["MTI", "MTI"]


def test_what_http_needs_is_not_shown_as_metadata(raw):
    """rule 9: content-type, te and the pseudo-headers belong to the transport."""
    assert listed(echoed(raw, [("x-kept", "1")])) == [("x-kept", b"1")]


def test_names_of_every_legal_character_are_kept(raw):
    """rule 9: 0-9 a-z _ - ."""
    name = "0123456789abcdefghijklmnopqrstuvwxyz_-."
    assert echoed(raw, [(name, "1")]).all(name) == ["1", "1"]


@pytest.mark.parametrize("value, parts", [
    (b"AAEC", [b"\x00\x01\x02"]),
    (b"AAE=", [b"\x00\x01"]),
    (b"AAE", [b"\x00\x01"]),
    (b"AA==", [b"\x00"]),
    (b"AA", [b"\x00"]),
    (b"", [b""]),
    (b"AAE=,AA==,AAEC", [b"\x00\x01", b"\x00", b"\x00\x01\x02"]),
    (b"AAE,AA,AAEC", [b"\x00\x01", b"\x00", b"\x00\x01\x02"]),
    (b"AAE, AA , AAEC", [b"\x00\x01", b"\x00", b"\x00\x01\x02"]),
    (b"AA,,AA", [b"\x00", b"", b"\x00"]),
    (b"+/+/", [b"\xfb\xff\xbf"]),
])
def test_bytes_come_with_padding_or_without_and_several_joined_by_commas(raw, value, parts):
    """rule 10: split first, accept both forms, emit without padding."""
    answer = echoed(raw, [("x-data-bin", value)])
    assert listed(answer) == [("x-data-bin", part) for part in parts]
    expected = [base64.b64encode(part).decode().rstrip("=") for part in parts]
    assert answer.all("x-data-bin") == expected * 2


@pytest.mark.parametrize("value", [b"A", b"AAAAA", b"A===", b"AA=A", b"!!!!", b"AA AA", b"=", b"AAE=,%%%", b"AA\tAA",
                                   b"\xc3\xa4aa"])
def test_bad_base64_fails_its_stream_alone(raw, value):
    """rule 10."""
    running = raw.open("Update")
    stream = raw.open("Get", [("x-data-bin", value)])
    raw.data(stream, message(b"hi"), end_stream=True)
    answer = raw.result(stream)
    assert answer.status not in (None, 0) or answer.reset is not None
    raw.data(running, message(b"undisturbed"), end_stream=True)
    assert raw.result(running).messages == [b"undisturbed"]
    raw.assert_serves()


def test_bytes_of_every_length_and_value_survive_the_way_there_and_back(raw):
    """rule 10."""
    for length in list(range(0, 20)) + [255, 256, 1000]:
        data = bytes((length + index * 7) % 256 for index in range(length))
        assert listed(echoed(raw, [("x-data-bin", base64.b64encode(data).rstrip(b"="))])) == [("x-data-bin", data)]


def test_the_order_of_duplicate_keys_is_kept(raw):
    """rule 11."""
    fields = [("x-a", "1"), ("x-b", "2"), ("x-a", "3"), ("x-a", "1"), ("x-b", "0")]
    answer = echoed(raw, fields)
    assert listed(answer) == [(name, value.encode()) for name, value in fields]
    for block in answer.blocks:
        received = [(name.decode(), value.decode()) for name, value in block if name.startswith(b"x-")]
        assert received == fields


@pytest.mark.parametrize("value", [b"a\tb", b"\x80\xff", "grüezi 世界".encode(), bytes(range(0x80, 0x100)),
                                   bytes(range(0x21, 0x7F))])
def test_tab_and_what_is_not_ascii_never_fail_a_call_and_come_back_as_they_were(raw, value):
    """rule 11: what was received can be echoed back."""
    answer = echoed(raw, [("x-odd", value)])
    assert answer.status == 0, answer.text
    assert answer.raw("x-odd") == [value, value]


@pytest.mark.parametrize("byte", [b"\x00", b"\r", b"\n"])
@pytest.mark.parametrize("place", ["start", "middle", "end"])
@pytest.mark.parametrize("name", ["x-bad", "x-bad-bin", "grpc-made-up", "user-agent"])
def test_nul_cr_and_lf_are_a_stream_error(raw, byte, place, name):
    """rule 11, RFC 9113 §8.2.1: the stream fails, the connection lives on."""
    value = {"start": byte + b"ab", "middle": b"a" + byte + b"b", "end": b"ab" + byte}[place]
    stream = raw.open("Get", [(name, value)])
    assert raw.result(stream).reset == PROTOCOL_ERROR
    raw.assert_serves()


@pytest.mark.parametrize("name", [b"x\x00y", b"x y", b"x\x7fy", b"x\xc3\xa4"])
def test_names_that_http2_forbids_are_a_stream_error(raw, name):
    """rule 11, RFC 9113 §8.2.1."""
    stream = raw.open("Get", [(name, b"1")])
    assert raw.result(stream).reset == PROTOCOL_ERROR
    raw.assert_serves()


@pytest.mark.parametrize("value", [b" v", b"v ", b"\tv\t", b"  v  ", b" \t v \t "])
def test_white_space_at_the_edges_is_trimmed(raw, value):
    """rule 11: the field is neither dropped nor refused."""
    answer = echoed(raw, [("x-edge", value)])
    assert answer.status == 0
    assert listed(answer) == [("x-edge", b"v")]
    assert answer.raw("x-edge") == [b"v", b"v"]


def test_values_of_nothing_but_white_space_and_empty_values_are_kept(raw):
    """rule 11."""
    answer = echoed(raw, [("x-blank", b" \t "), ("x-empty", b""), ("x-after", b"1")])
    assert listed(answer) == [("x-blank", b""), ("x-empty", b""), ("x-after", b"1")]


def test_metadata_of_one_call_does_not_show_in_the_next(raw):
    """Requests with equal metadata share it, and others do not."""
    for number in range(20):
        fields = [("x-number", str(number // 3))]
        assert listed(echoed(raw, fields)) == [("x-number", str(number // 3).encode())]
    assert listed(raw.call("EchoMetadata")) == [] if raw.call("EchoMetadata").messages[0] else True


def test_bad_metadata_is_internal_and_says_so(raw):
    """rule 10: the client learns what was wrong."""
    stream = raw.open("Get", [("x-data-bin", b"!!!!")])
    raw.data(stream, message(b"hi"), end_stream=True)
    answer = raw.result(stream)
    assert answer.status == INTERNAL
    assert "base64" in answer.text
