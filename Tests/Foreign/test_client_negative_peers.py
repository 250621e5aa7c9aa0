"""The client with servers that misbehave as those of gRPC's negative HTTP/2 interoperability tests do.

The cases are those of doc/negative-http2-interop-test-descriptions.md and test/http2_test in grpc/grpc; what they leave
open (which code a call fails with) rule 20 decides here. Requests are of 271,828 bytes and responses of 314,159, as
there, so that both need several frames and more than one window.
"""

import pytest
from hyperframe.frame import PingFrame, SettingsFrame

from raw_connection import FRAME_BYTES_MAX, NO_ERROR, message
from raw_server import MAX_CONCURRENT_STREAMS

KINDS = ["unary", "server", "client", "bidi"]
BOTH_WAYS = pytest.mark.parametrize("blocking", [False, True])
EACH_KIND = pytest.mark.parametrize("kind", KINDS)
REQUEST = bytes(271_828)
RESPONSE = b"r" * 314_159


def receives_whole(request):
    """The request arrived as it was sent."""
    assert request.messages == [REQUEST]
    return request


@EACH_KIND
@BOTH_WAYS
def test_goaway(start_raw_server, open_client_process, kind, blocking):
    """goaway: sent when the first call has come, which ends well all the same; the second takes a new connection."""
    def first(connection):
        request = receives_whole(connection.request())
        connection.go_away(request.stream)
        request.reply(RESPONSE)
        assert connection.no_request(0.2), "a call came after GOAWAY"

    def second(connection):
        receives_whole(connection.request()).reply(RESPONSE)

    server = start_raw_server([first, second])
    client = open_client_process(server)
    for _ in range(2):
        result = client.call(kind=kind, payloads=[REQUEST], blocking=blocking)
        assert (result.code, result.messages) == ("OK", [RESPONSE]), result
    assert server.accepted == 2


def resetting_after(count):
    """A script that resets the stream with NO_ERROR after a head and so many bytes of the response."""
    def script(request):
        receives_whole(request).head()
        payload = message(RESPONSE)[:count]
        if payload:
            assert request.connection.body(request.stream, payload, end_stream=False)
        request.reset_with(NO_ERROR)
    return script


@EACH_KIND
@BOTH_WAYS
@pytest.mark.parametrize("name, count", [
    ("rst_after_header", 0), ("rst_during_data", len(RESPONSE) // 2), ("rst_after_data", len(RESPONSE) + 5),
])
def test_a_reset_instead_of_trailers(start_raw_server, open_client_process, kind, blocking, name, count):
    """rst_after_header, rst_during_data, rst_after_data, all with error code 0: the call fails, with INTERNAL by
    rule 20, and says with what; the connection is as good as before. Whole messages that came first are delivered to a
    reader of a stream."""
    def script(connection):
        resetting_after(count)(connection.request())
        connection.serve()

    server = start_raw_server(script)
    client = open_client_process(server)
    result = client.call(kind=kind, payloads=[REQUEST], blocking=blocking)
    assert (result.code, result.origin) == ("INTERNAL", "peer"), result
    assert "NO_ERROR" in result.text
    if kind in ("server", "bidi"):
        assert result.messages == ([RESPONSE] if name == "rst_after_data" else [])
    assert client.call().messages == [b"served"]
    assert server.accepted == 1


@EACH_KIND
def test_ping(start_raw_server, open_client_process, kind):
    """ping: before and after the head and each frame of data; all are answered, in order, and the call goes well."""
    unanswered = []

    def script(connection):
        request = receives_whole(connection.request())
        sent = []

        def ping():
            sent.append(b"ping%04d" % len(sent))
            connection.send(PingFrame(0, opaque_data=sent[-1]))

        ping()
        request.head()
        ping()
        payload = message(RESPONSE)
        for start in range(0, len(payload), FRAME_BYTES_MAX):
            assert connection.body(request.stream, payload[start:start + FRAME_BYTES_MAX], end_stream=False)
            ping()
        request.trailers()
        ping()
        connection.run_until(lambda: len(connection.ping_acks) == len(sent))
        assert connection.ping_acks == sent
        unanswered.append(len(sent) - len(connection.ping_acks))

    client = open_client_process(start_raw_server(script))
    result = client.call(kind=kind, payloads=[REQUEST])
    assert (result.code, result.messages) == ("OK", [RESPONSE]), result
    client.close_channel()
    assert unanswered == [0]


@EACH_KIND
@BOTH_WAYS
def test_max_streams(start_raw_server, open_client_process, kind, blocking):
    """max_streams: the server allows one stream once the first call has shown that it is there; of ten calls at once
    all go well, and never are two of them open together."""
    count = 10
    open_at_once = []

    def script(connection):
        request = connection.request()
        connection.send(SettingsFrame(0, settings={MAX_CONCURRENT_STREAMS: 1}))
        connection.wait_settings_acks(2)
        request.reply(b"first")
        for _ in range(count):
            request = connection.request()
            assert connection.no_request(0.02), "two calls are open at once"
            open_at_once.append(len(connection.waiting) + 1)
            receives_whole(request).reply(RESPONSE)

    client = open_client_process(start_raw_server(script))
    assert client.call().messages == [b"first"]
    calls = [client.start("Get", kind, payloads=[REQUEST], blocking=blocking) for _ in range(count)]
    for call in calls:
        result = call.result(30)
        assert (result.code, result.messages) == ("OK", [RESPONSE]), result
    assert open_at_once == [1] * count


@EACH_KIND
@BOTH_WAYS
@pytest.mark.parametrize("padding", [0, 1, 255])
def test_data_frame_padding(start_raw_server, open_client_process, kind, blocking, padding):
    """data_frame_padding: every DATA frame has 5 bytes and as much padding; the windows are credited for it (rule 30),
    or else the response would stop when they are used up."""
    payload = message(RESPONSE[:20_000])

    def script(connection):
        request = receives_whole(connection.request()).head()
        for start in range(0, len(payload), 5):
            piece = payload[start:start + 5]
            needed = len(piece) + 1 + padding
            assert connection.run_until(lambda: connection.room(request.stream) >= needed), "no credit came"
            request.data(piece, padding=padding)
        request.trailers()

    client = open_client_process(start_raw_server(script))
    result = client.call(kind=kind, payloads=[REQUEST], blocking=blocking, seconds=60)
    assert (result.code, result.messages) == ("OK", [payload[5:]]), result


@pytest.mark.parametrize("size", [1, 100, FRAME_BYTES_MAX])
@EACH_KIND
def test_no_df_padding_sanity_test(start_raw_server, open_client_process, kind, size):
    """no_df_padding_sanity_test: the same without padding, in frames of any size."""
    payload = message(RESPONSE if size > 1 else RESPONSE[:5000])

    def script(connection):
        request = receives_whole(connection.request()).head()
        for start in range(0, len(payload), size):
            assert connection.body(request.stream, payload[start:start + size], end_stream=False)
        request.trailers()

    client = open_client_process(start_raw_server(script))
    result = client.call(kind=kind, payloads=[REQUEST], seconds=60)
    assert (result.code, result.messages) == ("OK", [payload[5:]]), result
