"""What the client makes of responses, each sent frame by frame (rules 7, 8, 10 to 21, 30)."""

import os
import struct

import pytest
from hyperframe.frame import RstStreamFrame

from client_process import USES_REFERENCE, not_of_the_reference
from raw_connection import CANCEL, NO_ERROR, message
from raw_server import HEAD

KINDS = ["unary", "server", "client", "bidi"]
BOTH_WAYS = pytest.mark.parametrize("blocking", [False, True])
EACH_KIND = pytest.mark.parametrize("kind", KINDS)
MIB = 1024 * 1024


@pytest.fixture
def call_beside(start_raw_server, open_client_process):
    """Makes a call that a script answers and then another one, which has to go well on the same connection."""

    def call(script, settings=None, options=(), whole=True, **fields):
        def serve(connection):
            script(connection.request(whole=whole))
            connection.serve()

        server = start_raw_server(serve, settings=settings)
        client = open_client_process(server, *options)
        result = client.call(**fields)
        assert client.call().messages == [b"served"]
        assert server.accepted == 1, "the connection was given up for one call"
        return result

    return call


# Rule 7: how many messages

@BOTH_WAYS
@pytest.mark.parametrize("kind", ["unary", "client"])
@pytest.mark.parametrize("count", [0, 2, 5])
@not_of_the_reference
def test_other_than_one_response_with_ok_is_unimplemented(call_beside, kind, count, blocking):
    """rule 7."""
    def script(request):
        request.head()
        for number in range(count):
            request.message(b"%d" % number)
        request.trailers()

    result = call_beside(script, kind=kind, blocking=blocking)
    assert (result.code, result.origin) == ("UNIMPLEMENTED", "local"), result


@pytest.mark.parametrize("count", [0, 1] if USES_REFERENCE else [0, 1, 2])
@pytest.mark.parametrize("kind", ["unary", "client"])
def test_with_an_error_the_number_of_responses_does_not_matter(call_beside, kind, count):
    """rule 7: is about the status OK; otherwise the server's status is what counts."""
    def script(request):
        request.head()
        for _ in range(count):
            request.message(b"m")
        request.trailers(status=5, text="gone")

    result = call_beside(script, kind=kind)
    assert (result.code, result.text) == ("NOT_FOUND", "gone")
    assert USES_REFERENCE or result.origin == "peer"


@pytest.mark.parametrize("kind", ["unary", "client"])
@not_of_the_reference
def test_trailers_only_with_ok_is_unimplemented_for_a_unary_response(call_beside, kind):
    """rules 7 and 16."""
    assert call_beside(lambda request: request.fail(0), kind=kind).code == "UNIMPLEMENTED"


@EACH_KIND
@BOTH_WAYS
def test_a_message_of_length_zero_is_a_message(call_beside, kind, blocking):
    """rule 7."""
    result = call_beside(lambda request: request.reply(b""), kind=kind, blocking=blocking)
    assert (result.code, result.messages) == ("OK", [b""])


@pytest.mark.parametrize("kind", ["server", "bidi"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_stream_of_responses_has_any_number_of_them(call_beside, kind, count):
    def script(request):
        request.head()
        for number in range(count):
            request.message(b"%d" % number)
        request.trailers()

    result = call_beside(script, kind=kind)
    assert (result.code, result.messages) == ("OK", [b"%d" % number for number in range(count)])


# Rules 12 to 15: messages

def frame_by_frame(size):
    def script(request):
        request.head()
        data = message(b"first") + message(b"") + message(b"third")
        for start in range(0, len(data), size):
            request.data(data[start:start + size])
        request.trailers()
    return script


@BOTH_WAYS
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 9, 11, 100])
def test_messages_have_no_relation_to_data_frames(call_beside, size, blocking):
    """rule 12."""
    result = call_beside(frame_by_frame(size), kind="server", blocking=blocking)
    assert (result.code, result.messages) == ("OK", [b"first", b"", b"third"])


def test_empty_data_frames_mean_nothing(call_beside):
    """rule 12."""
    def script(request):
        whole = message(b"split")
        request.head().data().data(whole[:6]).data().data(whole[6:]).data().trailers()

    assert call_beside(script).messages == [b"split"]


@EACH_KIND
@pytest.mark.parametrize("flag", [2, 3, 128, 255])
@not_of_the_reference
def test_a_flag_that_is_neither_zero_nor_one_is_internal(call_beside, kind, flag):
    """rule 12: and the client gives the stream up."""
    resets = []

    def script(request):
        request.head().data(message(b"strange", flag))
        resets.append(request.wait_reset())

    result = call_beside(script, kind=kind)
    assert result.code == "INTERNAL", result
    assert len(resets) == 1


@EACH_KIND
@pytest.mark.parametrize("encoding", [None, "identity", "gzip", "unheard-of"])
def test_a_compressed_message_that_was_not_asked_for_is_internal(call_beside, kind, encoding):
    """rule 13: with no encoding, with `identity`, and with one that the client did not accept."""
    def script(request):
        request.head(*([("grpc-encoding", encoding)] if encoding else []))
        request.data(message(b"\x1f\x8b rubbish", 1)).trailers()

    result = call_beside(script, kind=kind)
    assert result.code == "INTERNAL" or USES_REFERENCE and encoding == "gzip", result
    if encoding not in (None, "identity") and not USES_REFERENCE:
        assert encoding in result.text


@EACH_KIND
@pytest.mark.parametrize("announced", [4 * MIB + 1, 2**31, 2**32 - 1])
def test_a_message_over_the_limit_fails_by_its_length_alone(call_beside, kind, announced):
    """rule 14: before its bytes come, and the server is told not to send them."""
    def script(request):
        request.head().data(struct.pack(">BI", 0, announced))
        request.wait_reset()

    result = call_beside(script, kind=kind)
    assert result.code == "RESOURCE_EXHAUSTED", result
    assert USES_REFERENCE or str(announced) in result.text and str(4 * MIB) in result.text


@BOTH_WAYS
def test_messages_at_the_limit_pass(call_beside, blocking):
    """rule 14."""
    result = call_beside(lambda request: request.reply(b"m" * (4 * MIB)), keep=False, blocking=blocking)
    assert (result.code, result.bytes) == ("OK", 4 * MIB), result


def test_the_limit_of_responses_can_be_set_for_a_channel(call_beside):
    """rule 14."""
    def script(request):
        request.head().data(message(b"1234567"))
        request.wait_reset()

    result = call_beside(script, options=["--max-response-bytes", 6])
    assert result.code == "RESOURCE_EXHAUSTED" and "7" in result.text and "6" in result.text, result


@not_of_the_reference
@pytest.mark.parametrize("kind", KINDS)
def test_the_limits_can_be_set_for_a_call(start_raw_server, open_client_process, kind):
    """rule 14: of what it sends and of what it gets; a request that is too large is not sent."""
    client = open_client_process(start_raw_server(
        lambda connection: connection.serve(lambda request: request.reply(b"1234567"))))
    assert client.call(kind=kind, max_response_bytes=7).code == "OK"
    assert client.call(kind=kind, max_response_bytes=6).code == "RESOURCE_EXHAUSTED"
    assert client.call(kind=kind, payloads=[b"1234567"], max_request_bytes=7).code == "OK"
    result = client.call(kind=kind, payloads=[b"1234567"], max_request_bytes=6)
    assert "RESOURCE_EXHAUSTED" in (result.code, (result.write_error or "").split(":")[0]), result


@EACH_KIND
@pytest.mark.parametrize("kept", [1, 4, 5, 8])
@not_of_the_reference
def test_a_last_message_cut_short_is_internal(call_beside, kind, kept):
    """rule 15: within its prefix and within its bytes."""
    result = call_beside(lambda request: request.head().data(message(b"cut short")[:kept]).trailers(), kind=kind)
    assert result.code == "INTERNAL", result


@not_of_the_reference
def test_messages_before_the_one_cut_short_arrive(call_beside):
    """rule 15."""
    result = call_beside(
        lambda request: request.head().data(message(b"whole") + message(b"part")[:-1]).trailers(), kind="server")
    assert (result.code, result.messages) == ("INTERNAL", [b"whole"])


# Rules 16 to 18: heads and trailers

@EACH_KIND
@BOTH_WAYS
def test_trailers_only_is_the_status(call_beside, kind, blocking):
    """rule 16: its other fields are trailers."""
    result = call_beside(lambda request: request.fail(5, "no such%20thing", ("x-why", "gone"), ("x-bin", "AAE")),
                         kind=kind, blocking=blocking)
    assert (result.code, result.text) == ("NOT_FOUND", "no such thing")
    assert result.all_trailers("x-why") == ["gone"]
    assert USES_REFERENCE or result.origin == "peer"


@pytest.mark.parametrize("kind", ["server", "bidi"])
def test_trailers_only_with_ok_is_an_empty_stream(call_beside, kind):
    """rule 16."""
    result = call_beside(lambda request: request.fail(0, None, ("x-why", "nothing to say")), kind=kind)
    assert (result.code, result.count) == ("OK", 0)
    assert ("x-why", "nothing to say") in result.trailers


@EACH_KIND
def test_a_status_in_the_first_headers_is_ignored_when_more_follows(call_beside, kind):
    """rule 16: and not shown as metadata."""
    result = call_beside(
        lambda request: request.head(("grpc-status", "5"), ("grpc-message", "no"), ("x-a", "b")).message(b"yes")
        .trailers(), kind=kind)
    assert (result.code, result.messages) == ("OK", [b"yes"])
    if not USES_REFERENCE:
        assert [pair for pair in result.initial if pair[0] != "content-type"] == [("x-a", "b")]


def test_a_status_in_the_first_headers_is_ignored_when_trailers_follow_at_once(call_beside):
    """rule 16."""
    result = call_beside(lambda request: request.head(("grpc-status", "0")).trailers(status=7, text="denied"))
    assert (result.code, result.text) == ("PERMISSION_DENIED", "denied")


@EACH_KIND
def test_a_second_head_that_does_not_end_the_stream_is_internal(answered_by, kind):
    """rule 16."""
    def script(request):
        request.head().trailers(end_stream=False)
        request.wait_reset()

    result = answered_by(script, kind=kind)
    assert result.code == "INTERNAL" or USES_REFERENCE, result


@EACH_KIND
@pytest.mark.parametrize("statuses", [["103"], ["100", "103", "103"]])
@not_of_the_reference
def test_informational_responses_are_skipped(call_beside, kind, statuses):
    """rule 16."""
    def script(request):
        for status in statuses:
            request.head(("x-early", "hint"), usual=[(":status", status)])
        request.head(("x-late", "fact")).message(b"then").trailers()

    result = call_beside(script, kind=kind)
    assert (result.code, result.messages) == ("OK", [b"then"])
    assert ("x-late", "fact") in result.initial
    assert "x-early" not in dict(result.initial)


@EACH_KIND
@not_of_the_reference
def test_an_informational_response_that_ends_the_stream_is_internal(answered_by, kind):
    """rule 16."""
    assert answered_by(lambda request: request.head(usual=[(":status", "103")], end_stream=True), kind=kind) \
        .code == "INTERNAL"


@EACH_KIND
@pytest.mark.parametrize("payloads", [[], [b"whole"]])
def test_data_that_ends_the_stream_without_trailers_is_internal(call_beside, kind, payloads):
    """rule 17."""
    result = call_beside(
        lambda request: request.head().data(b"".join(map(message, payloads)), end_stream=True), kind=kind)
    assert result.code == "INTERNAL" or USES_REFERENCE and result.code == "UNKNOWN", result
    if kind in ("server", "bidi"):
        assert result.messages == payloads


@EACH_KIND
def test_trailers_without_a_status_are_unknown(call_beside, kind):
    """rule 17."""
    result = call_beside(lambda request: request.head().message(b"m").trailers(("x-t", "u"), status=None), kind=kind)
    assert result.code == "UNKNOWN", result


def test_a_response_of_headers_alone_without_a_status_is_unknown(call_beside):
    """rule 17."""
    assert call_beside(lambda request: request.head(end_stream=True)).code == "UNKNOWN"


@pytest.mark.parametrize("value", ["", "abc", "-1", "17", "99", "1x", "999999999999999999999", "0.0", "٣"])
@not_of_the_reference
def test_a_status_that_cannot_be_read_is_unknown(call_beside, value):
    """rule 17: also a number outside of the table."""
    result = call_beside(lambda request: request.head().message(b"m").trailers(("grpc-status", value), status=None))
    assert result.code == "UNKNOWN", result


HTTP_STATUSES = [
    ("400", "INTERNAL"), ("401", "UNAUTHENTICATED"), ("403", "PERMISSION_DENIED"), ("404", "UNIMPLEMENTED"),
    ("429", "UNAVAILABLE"), ("502", "UNAVAILABLE"), ("503", "UNAVAILABLE"), ("504", "UNAVAILABLE"),
    ("200", "UNKNOWN"), ("204", "UNKNOWN"), ("302", "UNKNOWN"), ("405", "UNKNOWN"), ("415", "UNKNOWN"),
    ("500", "UNKNOWN"), ("599", "UNKNOWN"),
]


@pytest.mark.parametrize("content_type", ["application/grpc", "text/html", None])
@pytest.mark.parametrize("http, code", HTTP_STATUSES)
def test_without_a_status_the_http_status_decides(call_beside, http, code, content_type):
    """rule 18."""
    usual = [(":status", http)] + ([("content-type", content_type)] if content_type else [])
    result = call_beside(lambda request: request.head(usual=usual, end_stream=True))
    assert result.code == code, result
    assert USES_REFERENCE or http == "200" or http in result.text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("http, code", [("200", "UNKNOWN"), ("503", "UNAVAILABLE"), ("404", "UNIMPLEMENTED")])
@not_of_the_reference
def test_a_page_instead_of_a_response_is_told_by_its_http_status(start_raw_server, open_client_process, kind, http,
                                                                 code):
    """rule 18: whatever is in its body, which is no message."""
    def serve(connection):
        request = connection.request()
        request.head(usual=[(":status", http), ("content-type", "text/html; charset=utf-8")])
        try:
            request.data(b"<html>" + b"x" * 10_000).data(b"</html>", end_stream=True)
        except AssertionError:
            pass
        connection.serve()

    client = open_client_process(start_raw_server(serve))
    result = client.call(kind=kind)
    assert (result.code, result.count) == (code, 0), result
    assert "text/html" in result.text
    assert client.call().code == "OK"


@pytest.mark.parametrize("content_type", ["application/grpc", "application/grpc+proto", "application/grpc;a=b",
                                          "application/grpc+json; charset=utf-8"])
def test_the_content_types_of_grpc_are_accepted(call_beside, content_type):
    """rules 2 and 18."""
    usual = [(":status", "200"), ("content-type", content_type)]
    result = call_beside(lambda request: request.head(usual=usual).message(b"m").trailers())
    assert (result.code, result.messages) == ("OK", [b"m"])


def test_with_a_status_of_grpc_the_http_status_does_not_count(call_beside):
    """rule 18."""
    usual = [(":status", "503"), ("content-type", "application/grpc")]
    result = call_beside(lambda request: request.head(("grpc-status", "5"), usual=usual, end_stream=True))
    assert result.code == "NOT_FOUND"


# Rule 19: the message of a status

@pytest.mark.parametrize("sent, expected", [
    ("plain text", "plain text"),
    ("100%25 of %C3%A4", "100% of ä"),
    ("%E4%BD%A0%e5%a5%bd%20%F0%9F%90%A6", "你好 🐦"),
    ("%0A%09%22", "\n\t\""),
    ("broken %zz %4 %", "broken %zz %4 %"),
    ("%", "%"),
    ("%%41", "%A"),
    ("%C3", "\ufffd"),
    ("a%FFb", "a\ufffdb"),
    ("", ""),
])
def test_the_message_of_a_status_is_decoded_and_never_fails(call_beside, sent, expected):
    """rule 19."""
    result = call_beside(lambda request: request.fail(9, sent))
    assert result.code == "FAILED_PRECONDITION"
    if not (USES_REFERENCE and "\ufffd" in expected):
        assert result.text == expected


@not_of_the_reference
def test_white_space_at_the_edges_of_a_message_is_kept(call_beside):
    """rules 11 and 19: of other values it is trimmed."""
    result = call_beside(lambda request: request.fail(9, "  two  ", ("x-edge", "  one  ")))
    assert result.text == "  two  "
    assert result.all_trailers("x-edge") == ["one"]


def test_a_message_in_raw_utf8_arrives(call_beside):
    """rule 19: what a careless server sends."""
    result = call_beside(lambda request: request.fail(9, "käse".encode()))
    assert result.code == "FAILED_PRECONDITION"
    assert USES_REFERENCE or result.text == "käse"


# Rule 20: resets

RESETS = {0: "INTERNAL", 1: "INTERNAL", 2: "INTERNAL", 3: "INTERNAL", 4: "INTERNAL", 6: "INTERNAL", 8: "CANCELLED",
          9: "INTERNAL", 10: "INTERNAL", 11: "RESOURCE_EXHAUSTED", 12: "PERMISSION_DENIED", 5: "UNKNOWN",
          13: "UNKNOWN", 14: "UNKNOWN", 4_000_000_000: "UNKNOWN"}
# STREAM_CLOSED and HTTP_1_1_REQUIRED have no place in the table of the specification; grpcio has its own.
REFERENCE_DIFFERS = (5, 13, 14, 4_000_000_000)


@pytest.mark.parametrize("after", ["nothing", "the head", "a message"])
@pytest.mark.parametrize("code", RESETS)
def test_a_reset_becomes_the_status_of_its_code(call_beside, code, after):
    """rule 20."""
    def script(request):
        if after != "nothing":
            request.head()
        if after == "a message":
            request.message(b"before")
        request.reset_with(code)

    result = call_beside(script, kind="server")
    if not (USES_REFERENCE and code in REFERENCE_DIFFERS):
        assert result.code == RESETS[code], result
    assert result.messages == ([b"before"] if after == "a message" else [])


@BOTH_WAYS
@EACH_KIND
def test_a_reset_ends_calls_of_every_kind(call_beside, kind, blocking):
    """rule 20."""
    result = call_beside(lambda request: request.reset_with(11), kind=kind, blocking=blocking, whole=False)
    assert result.code == "RESOURCE_EXHAUSTED"


def test_refused_stream_after_the_head_is_unavailable(call_beside):
    """rules 20 and 26: what has begun to be answered is not tried again."""
    assert call_beside(lambda request: request.head().reset_with(7)).code == "UNAVAILABLE"


# Rule 21: a server that finishes first

@pytest.mark.parametrize("kind", ["client", "bidi"])
@pytest.mark.parametrize("code", [NO_ERROR] if USES_REFERENCE else [NO_ERROR, CANCEL])
@BOTH_WAYS
def test_trailers_and_then_a_reset_are_a_success(call_beside, kind, code, blocking):
    """rule 21: the client has not half-closed and never will; all data arrives."""
    large = os.urandom(100_000)
    result = call_beside(lambda request: request.reply(large).reset_with(code), kind=kind, whole=False,
                         hold=kind == "bidi", blocking=blocking)
    assert (result.code, result.messages) == ("OK", [large])


@pytest.mark.parametrize("status", [0, 5])
def test_a_client_that_gets_trailers_before_it_is_done_resets_the_stream(call_beside, status):
    """rule 21: with NO_ERROR, so that the server can forget the stream."""
    codes = []

    def script(request):
        request.head().message(b"early").trailers(status=status)
        codes.append(request.wait_reset())

    result = call_beside(script, kind="bidi", whole=False, hold=True)
    assert (result.code, result.messages) == ("OK" if status == 0 else "NOT_FOUND", [b"early"])
    assert codes == [NO_ERROR] or USES_REFERENCE


@pytest.mark.parametrize("kind", ["client", "bidi"])
def test_a_writer_that_goes_on_after_the_end_learns_of_it(call_beside, kind):
    """rule 21: it writes without end, the server answers after the first messages."""
    def script(request):
        request.wait_messages(3)
        request.reply(b"enough").reset_with(NO_ERROR)

    result = call_beside(script, kind=kind, whole=False, count=10**7, bytes=100, seconds=30)
    assert (result.code, result.messages) == ("OK", [b"enough"])
    assert 3 <= result.written < 10**7


# Rules 8, 10, 11: metadata

@BOTH_WAYS
@EACH_KIND
def test_metadata_arrives_in_order_and_bytes_are_decoded(call_beside, kind, blocking):
    """rules 9, 10 and 11: with padding and without; nothing of gRPC's own is shown."""
    fields = [("x-a", "1"), ("x-b", "2"), ("x-a", "3"), ("x-a", ""), ("x-bin", "AAH/"), ("x-bin", "AA=="),
              ("x-bin", "AA"), ("x-tab", "a\tb")]
    result = call_beside(
        lambda request: request.head(*fields, ("grpc-accept-encoding", "gzip")).message(b"m").trailers(*fields),
        kind=kind, blocking=blocking)
    assert result.code == "OK", result
    expected = [("x-a", "1"), ("x-b", "2"), ("x-a", "3"), ("x-a", ""), ("x-bin", b"\x00\x01\xff"), ("x-bin", b"\x00"),
                ("x-bin", b"\x00"), ("x-tab", "a\tb")]
    for metadata in [result.initial, result.trailers]:
        assert [pair for pair in metadata if pair[0].startswith("x-")] == expected
        if not USES_REFERENCE:
            assert not [key for key, _ in metadata if key.startswith((":", "grpc-"))]


@not_of_the_reference
def test_binary_values_are_split_at_commas(call_beside):
    """rule 10."""
    result = call_beside(
        lambda request: request.head(("x-bin", "AAE=,AAI")).message(b"m").trailers(("x-bin", "AA,,AQ")))
    assert [value for key, value in result.initial if key == "x-bin"] == [b"\x00\x01", b"\x00\x02"]
    assert [value for key, value in result.trailers if key == "x-bin"] == [b"\x00", b"", b"\x01"]


@pytest.mark.parametrize("place", ["initial", "trailing", "alone"])
@pytest.mark.parametrize("value", ["AA?", "A", "****"])
@not_of_the_reference
def test_bad_base64_fails_the_call_alone(call_beside, value, place):
    """rule 10."""
    def script(request):
        if place == "alone":
            return request.fail(0, None, ("x-bin", value))
        request.head(*[("x-bin", value)] * (place == "initial")).message(b"m")
        request.trailers(*[("x-bin", value)] * (place == "trailing"))

    result = call_beside(script)
    assert result.code in ("INTERNAL", "UNKNOWN"), result


def test_bytes_above_ascii_in_a_value_never_fail_the_call(call_beside):
    """rule 11: also such as are no UTF-8."""
    fields = [("x-utf8", "käse".encode()), ("x-latin1", b"k\xe4se"), ("x-last", "1")]
    result = call_beside(lambda request: request.head(*fields).message(b"m").trailers(*fields))
    assert result.code == "OK", result
    for metadata in [result.initial, result.trailers]:
        assert ("x-last", "1") in metadata
        assert USES_REFERENCE or ("x-utf8", "käse") in metadata and ("x-latin1", "k\ufffdse") in metadata


@pytest.mark.parametrize("field", [("x-bad", b"nul\x00"), ("X-Upper", "u"), ("connection", "close"), (":path", "/"),
                                   ("x bad", "space")])
@not_of_the_reference
def test_a_malformed_response_is_internal(call_beside, field):
    """rule 11, RFC 9113 §8.2: a stream error; the connection lives on."""
    result = call_beside(lambda request: request.head(field).message(b"m").trailers())
    assert result.code == "INTERNAL", result


@pytest.mark.parametrize("place", ["initial", "trailing", "alone"])
@pytest.mark.parametrize("fields", [[("x-large", "v" * 9000)], [("x-large", "v" * 1000)] * 40,
                                    [("x", "y")] * 300], ids=["one", "many", "small"])
def test_a_header_list_over_the_limit_fails_the_call_alone(call_beside, fields, place):
    """rule 8: clients limit headers and trailers as servers do; the connection lives on."""
    def script(request):
        if place == "alone":
            return request.fail(5, None, *fields)
        request.head(*(fields if place == "initial" else [])).message(b"m")
        request.trailers(*(fields if place == "trailing" else []))

    result = call_beside(script)
    if not USES_REFERENCE or result.code != "OK":
        assert result.code == "RESOURCE_EXHAUSTED", result


@pytest.mark.parametrize("place", ["initial", "trailing"])
def test_a_header_list_within_the_limit_arrives(call_beside, place):
    """rule 8: a little under 8 KiB, and under 128 fields."""
    fields = [("x-some", "v" * 60)] * 75 + [("x-last", "1")]
    result = call_beside(lambda request: request.head(*(fields if place == "initial" else [])).message(b"m")
                         .trailers(*(fields if place == "trailing" else [])))
    assert result.code == "OK", result
    metadata = result.initial if place == "initial" else result.trailers
    assert [pair for pair in metadata if pair[0].startswith("x-")] == fields


@pytest.mark.parametrize("options", [["--max-header-list-bytes", 65_536]])
def test_the_limit_of_header_lists_can_be_raised(call_beside, options):
    """rule 8: then blocks of several frames arrive too."""
    value = "v" * 40_000
    result = call_beside(lambda request: request.head().message(b"m").trailers(("x-large", value)), options=options)
    assert result.code == "OK" and ("x-large", value) in result.trailers, result


def test_a_head_in_many_continuation_frames_arrives(call_beside):
    def script(request):
        connection = request.connection
        connection.send_head(request.stream, [*HEAD, ("x-a", "b" * 100)], pieces=5)
        request.message(b"m")
        connection.send_head(request.stream, [("grpc-status", "0"), ("x-c", "d" * 100)], end_stream=True, pieces=5)

    result = call_beside(script)
    assert result.code == "OK" and ("x-a", "b" * 100) in result.initial and ("x-c", "d" * 100) in result.trailers


# Rule 30: padding

@not_of_the_reference
def test_padding_counts_towards_flow_control(call_beside):
    """rule 30: the client gives it back as credit, several windows of it."""
    count = 3000

    def script(request):
        connection = request.connection
        request.head()
        for number in range(count):
            def has_room():
                return min(connection.send_window, connection.stream_windows[request.stream]) > 300
            assert connection.run_until(has_room, 10), f"no credit came after {number} frames of padding"
            request.data(message(b"%d" % number), padding=255)
        request.trailers()

    result = call_beside(script, kind="server", seconds=30, keep=False)
    assert (result.code, result.count) == ("OK", count), result


# Order of bytes within a stream

@pytest.mark.parametrize("kind", KINDS)
@not_of_the_reference
def test_data_before_the_head_is_internal(answered_by, kind):
    """RFC 9113 §8.1: a stream or a connection error, and an end in either case."""
    result = answered_by(lambda request: request.data(message(b"m")), kind=kind)
    assert result.code in ("INTERNAL", "UNAVAILABLE"), result


def test_a_response_before_the_request_is_whole_is_used(call_beside):
    """rule 21: the client is held up by the window when the status comes."""
    def script(request):
        request.fail(8, "too much").reset_with(NO_ERROR)

    result = call_beside(script, payloads=[b"x" * MIB], whole=False)
    assert (result.code, result.text) == ("RESOURCE_EXHAUSTED", "too much")


def test_a_reset_of_a_stream_that_is_over_changes_nothing(call_beside):
    def script(request):
        request.reply(b"m")
        request.connection.send(RstStreamFrame(request.stream, error_code=2))

    assert call_beside(script).messages == [b"m"]


# Rule 32: what a codec cannot read

@pytest.mark.parametrize("kind", KINDS)
@BOTH_WAYS
def test_a_response_that_does_not_parse_is_internal(start_raw_server, open_client_process, kind, blocking):
    """rule 32: of a stub's call, whose codec is that of Protocol Buffers; the connection lives on."""
    def script(connection):
        # Field 1 of eleven bytes, of which two are there.
        connection.request().head().message(b"\x0a\x0bab").trailers()
        connection.request().head().message(b"\x0a\x02ab").trailers()

    server = start_raw_server(script)
    client = open_client_process(server)
    assert client.echo(["a"], kind, blocking=blocking) == "INTERNAL"
    assert client.echo(["a"], kind, blocking=blocking) == ["ab"]
    assert server.accepted == 1
