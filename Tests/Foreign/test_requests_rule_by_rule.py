"""Requests, frame by frame: what a server accepts and how it refuses (rules 1 to 8)."""

import pytest

from raw_connection import PROTOCOL_ERROR, message
from scenario_client import SERVICE, new_key, parameters

INTERNAL, UNIMPLEMENTED, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED = 13, 12, 8, 4
MALFORMED = {
    "path without a slash": lambda raw: raw.head("Get", path="Get"),
    "empty path": lambda raw: raw.head("Get", path=""),
    "no path": lambda raw: raw.head("Get", path=None),
    "no method": lambda raw: raw.head("Get", http_method=None),
    "no scheme": lambda raw: raw.head("Get", scheme=None),
    "two paths": lambda raw: [(":path", "/a/b"), *raw.head("Get")],
    "two authorities": lambda raw: [(":authority", "one"), *raw.head("Get")],
    "two hosts": lambda raw: raw.head("Get", [("host", "one"), ("host", "two")]),
    "a connection field": lambda raw: raw.head("Get", [("connection", "keep-alive")]),
    "a transfer-encoding field": lambda raw: raw.head("Get", [("transfer-encoding", "chunked")]),
    "te other than trailers": lambda raw: raw.head("Get", te="gzip"),
    "an upper-case name": lambda raw: raw.head("Get", [("X-Upper", "1")]),
    "a pseudo-header after a field": lambda raw: [*raw.head("Get", authority=None), (":authority", "late")],
    "an unknown pseudo-header": lambda raw: [(":unknown", "1"), *raw.head("Get")],
    "a response's pseudo-header": lambda raw: [(":status", "200"), *raw.head("Get")],
    "an empty name": lambda raw: raw.head("Get", [("", "1")]),
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_a_request_that_http2_forbids_is_reset_with_protocol_error(raw, fault):
    """rule 1: RST_STREAM PROTOCOL_ERROR; the connection lives on."""
    stream = raw.new_stream()
    raw.send_head(stream, MALFORMED[fault](raw))
    assert raw.result(stream).reset == PROTOCOL_ERROR
    raw.assert_serves()


@pytest.mark.parametrize("path", ["/", "//", "/a", "/a/", "/a/b/c", "/echo.v1.EchoService", "/echo.v1.EchoService/",
                                  "/echo.v1.EchoService/get", "/echo.v1.EchoService/Get/", "/echo.v1.EchoService/Get?x",
                                  "//echo.v1.EchoService/Get", "/ECHO.v1.EchoService/Get", "/" + "x" * 3000,
                                  "/\u00e4/\u00f6", "/%2e/Get"])
def test_a_path_that_names_no_method_is_unimplemented(raw, path):
    """rule 1: well formed but not served: UNIMPLEMENTED, without waiting for the body."""
    stream = raw.open(path, path=path.encode())
    answer = raw.result(stream)
    assert (answer.http_status, answer.status) == ("200", UNIMPLEMENTED)
    assert answer.text
    raw.assert_serves()


@pytest.mark.parametrize("content_type", ["application/grpc", "application/grpc+proto", "application/grpc+json",
                                          "application/grpc;charset=utf-8", "application/grpc; charset=utf-8",
                                          "application/grpc+proto;x=y"])
def test_every_content_type_of_grpc_is_accepted(raw, content_type):
    """rule 2: application/grpc, +subtype and ;params."""
    answer = raw.call("Get", b"hi", content_type=content_type)
    assert (answer.http_status, answer.status, answer.messages) == ("200", 0, [b"hi"])
    assert answer.first("content-type").startswith("application/grpc")


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "application/json", "application/grp",
                                          "application/grpc-web", "application/grpc-web+proto",
                                          "application/grpc-web-text", "application/grpcx"])
def test_any_other_content_type_is_415(raw, content_type):
    """rule 2: HTTP 415; grpc-web belongs to its gateway."""
    stream = raw.open("Get", content_type=content_type)
    answer = raw.result(stream)
    assert answer.http_status == "415"
    raw.assert_serves()


@pytest.mark.parametrize("http_method", ["GET", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "post", "X"])
def test_a_method_other_than_post_is_405_with_allow(raw, http_method):
    """rule 3: HTTP 405 with `allow: POST`."""
    stream = raw.open("Get", end_stream=True, http_method=http_method)
    answer = raw.result(stream)
    assert answer.http_status == "405"
    assert answer.first("allow") == "POST"
    raw.assert_serves()


@pytest.mark.parametrize("authority, host, seen", [("a.example", None, "a.example"), (None, "h.example", "h.example"),
                                                   ("a.example", "h.example", "a.example")])
def test_authority_wins_over_host_and_host_takes_its_place(raw, authority, host, seen):
    """rule 3, gRFC A41."""
    fields = [("host", host)] if host else []
    answer = raw.call("Describe", fields=fields, authority=authority)
    assert f"authority={seen}" in answer.messages[0].decode().splitlines()


def test_host_is_not_shown_as_metadata(raw):
    """rule 3: `host` is dropped."""
    answer = raw.call("EchoMetadata", fields=[("host", "h.example"), ("x-kept", "1")])
    assert answer.first("host") is None
    assert answer.all("x-kept") == ["1", "1"]


def test_a_request_without_te_is_logged_and_accepted(start_scenarios, open_raw):
    """rule 4: missing on a request: logged, accepted."""
    server = start_scenarios()
    answer = open_raw(server).call("Get", b"hi", te=None)
    assert (answer.status, answer.messages) == (0, [b"hi"])
    assert server.log_has(r"\bte\b"), server.log


def test_white_space_around_what_is_grpcs_own_is_no_part_of_it(raw):
    """rule 11: as around any other value."""
    stream = raw.open("Get", [("grpc-timeout", b" 5S\t"), ("grpc-encoding", b"identity "), ("x-a", b" b ")])
    raw.data(stream, message(b"hi"), end_stream=True)
    answer = raw.result(stream)
    assert (answer.status, answer.messages) == (0, [b"hi"])


@pytest.mark.parametrize("timeout", ["", "S", "1", "1s", "1x", "123456789S", "-1S", "+1S", "1.5S", "0x1S", "1SS", "1 S",
                                     "\u0661S", "1S,1S"])
def test_a_malformed_timeout_is_internal(raw, timeout):
    """rule 5: one to eight digits and a unit; anything else is INTERNAL."""
    stream = raw.open("Get", [("grpc-timeout", timeout.encode())])
    raw.data(stream, message(b""), end_stream=True)
    assert raw.result(stream).status == INTERNAL
    raw.assert_serves()


@pytest.mark.parametrize("timeout, milliseconds", [("1H", 3.6e6), ("2M", 1.2e5), ("3S", 3e3), ("4000m", 4e3),
                                                   ("5000000u", 5e3), ("99999999n", 99.999999), ("00000005S", 5e3)])
def test_every_unit_of_time_is_understood(raw, timeout, milliseconds):
    """rule 5: H, M, S, m, u and n."""
    answer = raw.call("Describe", fields=[("grpc-timeout", timeout)])
    lines = dict(line.split("=", 1) for line in answer.messages[0].decode().splitlines())
    assert milliseconds - 3000 <= float(lines["remaining_ms"]) <= milliseconds
    assert float(lines["remaining_ms"]) > 0


def test_a_timeout_that_overflows_is_clamped(raw):
    """rule 5: 99,999,999 hours are more nanoseconds than 64 bits hold."""
    for timeout in ["99999999H", "99999999M"]:
        assert raw.call("Get", b"far", fields=[("grpc-timeout", timeout)]).messages == [b"far"]


@pytest.mark.parametrize("timeout", ["0S", "0n", "00000000H"])
@pytest.mark.parametrize("method", ["Sleep", "Listen", "Pour"])
def test_a_deadline_that_has_passed_keeps_the_handler_from_starting(raw, timeout, method):
    """rule 5: already expired: DEADLINE_EXCEEDED, the handler never starts."""
    key = new_key()
    stream = raw.open(method, [("grpc-timeout", timeout), *parameters(key=key, ms=1)])
    raw.data(stream, message(b""), end_stream=True)
    assert raw.result(stream).status == DEADLINE_EXCEEDED
    assert raw.stats[f"started.{key}"] == 0


def test_a_deadline_that_passes_at_once_ends_the_call(raw):
    """rule 5: one nanosecond."""
    stream = raw.open("Hold", [("grpc-timeout", "1n"), *parameters(key="never")])
    raw.data(stream, message(b""), end_stream=True)
    answer = raw.result(stream, 3)
    assert answer.status == DEADLINE_EXCEEDED or answer.reset == 8
    raw.assert_serves()


@pytest.mark.parametrize("method", ["Get", "SynchronousGet", "GlobalGet", "Collect", "Update", "Expand"])
def test_a_request_ends_with_an_empty_data_frame(raw, method):
    """rule 6: END_STREAM may come on a DATA frame of its own."""
    stream = raw.open(method)
    raw.data(stream, message(b"hi"))
    raw.data(stream, b"", end_stream=True)
    answer = raw.result(stream)
    assert (answer.status, answer.messages) == (0, [b"hi"])


@pytest.mark.parametrize("method", ["Get", "SynchronousGet", "Collect", "Update", "Expand"])
def test_a_request_ends_with_trailers(raw, method):
    """rule 6: HEADERS with END_STREAM after the body end a request as well."""
    stream = raw.open(method)
    raw.data(stream, message(b"hi"))
    raw.trailers(stream, [("x-trailer", "of the request")])
    answer = raw.result(stream)
    assert (answer.status, answer.messages) == (0, [b"hi"])


def test_trailers_of_a_request_are_no_metadata_of_another(raw):
    """rule 6: what comes in them is not mixed into the head of a later request."""
    stream = raw.open("Get")
    raw.data(stream, message(b"hi"))
    raw.trailers(stream, [("x-trailer", "1"), ("grpc-timeout", "1n"), ("content-type", "text/plain")])
    assert raw.result(stream).status == 0
    answer = raw.call("EchoMetadata")
    assert answer.first("x-trailer") is None


def test_a_second_head_without_end_of_stream_is_a_protocol_error(raw):
    """rule 6: the body cannot begin anew."""
    stream = raw.open("Collect")
    raw.data(stream, message(b"hi"))
    raw.send_head(stream, [("x-again", "1")])
    assert raw.result(stream).reset == PROTOCOL_ERROR
    raw.assert_serves()


@pytest.mark.parametrize("method", ["Collect", "Update"])
def test_a_stream_of_no_message_may_end_with_its_head(raw, method):
    """rule 6: a server also accepts END_STREAM on HEADERS."""
    stream = raw.open(method, end_stream=True)
    answer = raw.result(stream)
    assert answer.status == 0
    assert answer.messages == ([b""] if method == "Collect" else [])


@pytest.mark.parametrize("method", ["Get", "SynchronousGet", "GlobalGet", "Expand"])
@pytest.mark.parametrize("ending", ["head", "data", "trailers"])
def test_a_method_that_takes_one_message_and_gets_none_is_unimplemented(raw, method, ending):
    """rule 7: 0 request messages."""
    stream = raw.open(method, end_stream=ending == "head")
    if ending == "data":
        raw.data(stream, b"", end_stream=True)
    if ending == "trailers":
        raw.trailers(stream, [("x-trailer", "1")])
    assert raw.result(stream).status == UNIMPLEMENTED
    raw.assert_serves()


@pytest.mark.parametrize("method", ["Get", "SynchronousGet", "GlobalGet", "Expand"])
@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("payload", [b"hi", b""])
def test_a_method_that_takes_one_message_and_gets_two_is_unimplemented(raw, method, frames, payload):
    """rule 7: more than 1 request message, in one DATA frame or in two, of length zero as well."""
    stream = raw.open(method)
    if frames == 1:
        raw.data(stream, message(payload) * 2, end_stream=True)
    else:
        raw.data(stream, message(payload))
        raw.data(stream, message(payload), end_stream=True)
    assert raw.result(stream).status == UNIMPLEMENTED
    raw.assert_serves()


def test_a_second_message_is_refused_without_waiting_for_the_end(raw):
    """rule 7: the call is decided with the second message; rule 21 tells the client to stop."""
    stream = raw.open("Get")
    raw.data(stream, message(b"hi") * 2)
    answer = raw.result(stream)
    assert answer.status == UNIMPLEMENTED
    raw.run_until(lambda: answer.reset is not None, 2)
    assert answer.reset == 0


@pytest.mark.parametrize("method", ["Get", "SynchronousGet", "Collect", "Update"])
def test_a_message_of_length_zero_is_a_message(raw, method):
    """rule 7."""
    assert raw.call(method, b"").messages == [b""]


def list_bytes(fields):
    return sum(len(name) + len(value) + 32 for name, value in fields)


@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize("name", ["x-filler", "x-filler-bin"])
def test_the_header_list_is_limited_by_name_and_value_and_32_for_each_field(raw, name, over):
    """rule 8: the sum decides, with -bin values as on the wire: 8 KiB to the byte, and not one more."""
    fields = raw.head("SynchronousGet", [(name, "")])
    room = 8192 - list_bytes(fields) + over
    # Base64 of any length: a single character too many would make it malformed.
    extra = room % 4 if name.endswith("-bin") else 0
    fields = raw.head("SynchronousGet", [(name, "A" * (room - extra))], authority="localhost" + "x" * extra)
    assert list_bytes(fields) == 8192 + over
    stream = raw.new_stream()
    raw.send_head(stream, fields)
    raw.data(stream, message(b"hi"), end_stream=True)
    answer = raw.result(stream)
    if over:
        assert (answer.http_status, answer.status) == ("431", RESOURCE_EXHAUSTED)
    else:
        assert (answer.http_status, answer.status) == ("200", 0)
    raw.assert_serves()


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("filler", [9_000, 60_000])
def test_a_header_list_over_the_limit_is_431_while_the_connection_lives_on(raw, filler, pieces):
    """rule 8: with CONTINUATION frames or without; header compression stays in step."""
    running = raw.open("Update")
    stream = raw.new_stream()
    raw.send_head(stream, raw.head("Get", [("x-filler", "v" * filler), ("x-indexed", "later")]), pieces=pieces)
    answer = raw.result(stream)
    assert (answer.http_status, answer.status) == ("431", RESOURCE_EXHAUSTED)
    raw.data(running, message(b"undisturbed"), end_stream=True)
    assert raw.result(running).messages == [b"undisturbed"]
    assert raw.call("EchoMetadata", fields=[("x-indexed", "later")]).all("x-indexed") == ["later"] * 2


def test_more_fields_than_the_limit_are_431(raw):
    """rule 8: many small fields, as an indexed reference multiplies them."""
    stream = raw.open("Get", [("x", "")] * 130)
    answer = raw.result(stream)
    assert (answer.http_status, answer.status) == ("431", RESOURCE_EXHAUSTED)
    raw.assert_serves()


def test_the_limit_of_the_header_list_is_configurable_and_told(start_scenarios, open_raw):
    """rule 8: SETTINGS_MAX_HEADER_LIST_SIZE says it."""
    raw = open_raw(start_scenarios("--max-header-list-bytes", 20_000))
    answer = raw.call("EchoMetadata", fields=[("x-large", "v" * 15_000)])
    assert answer.all("x-large") == ["v" * 15_000] * 2
    assert raw.server_settings[6] == 20_000


def test_the_peers_limit_of_the_header_list_shortens_the_message_then_drops_details(open_raw, scenario_server):
    """rule 8: the peer's MAX_HEADER_LIST_SIZE is respected."""
    raw = open_raw(scenario_server, settings={6: 600})
    metadata = [("x-code", "5"), ("x-detail", "d" * 500)]
    for text in [b"m" * 5000, "\u4f60\u597d".encode() * 500]:
        answer = raw.call("Fail", text, fields=metadata)
        assert answer.status == 5
        for block in answer.blocks:
            assert list_bytes(block) <= 600
        assert answer.text, "the message was dropped rather than shortened"
        assert answer.first("x-detail") is None
        assert len(answer.text) % 9 == 0 if "%" in answer.text else True, "a character was cut"
    raw.assert_serves()


def test_metadata_too_large_for_the_peer_ends_the_call_and_not_the_connection(open_raw, scenario_server):
    """rule 8: initial metadata and trailers that the peer would not take."""
    raw = open_raw(scenario_server, settings={6: 600})
    stream = raw.open("EchoMetadata", [("x-large", "v" * 2000)])
    raw.data(stream, message(b""), end_stream=True)
    answer = raw.result(stream)
    for block in answer.blocks:
        assert list_bytes(block) <= 600
    assert answer.status not in (None, 0) or answer.reset is not None
    raw.assert_serves()


def test_a_served_path_is_found_among_paths_that_are_not(raw):
    """rule 1: the method found last does not answer for another."""
    for _ in range(3):
        assert raw.call("Get", b"a").messages == [b"a"]
        stream = raw.open(SERVICE + "Gett")
        assert raw.result(stream).status == UNIMPLEMENTED
        assert raw.call("Length", b"abc").messages == [b"3"]
