"""Compressed messages as the client gives and takes them (rules 13 and 14): Python's gzip and zlib, and grpcio."""

import concurrent.futures
import gzip
import random
import zlib

import grpc
import pytest

from client_process import not_of_the_reference
from message_encodings import COMPRESS, INFLATE, bomb, text
from raw_connection import message
from scenario_client import SERVICE, parameters
from server_process import wait_until

pytestmark = not_of_the_reference

MIB = 1024 * 1024
KINDS = ["unary", "server", "client", "bidi"]
BOTH_WAYS = pytest.mark.parametrize("blocking", [False, True], ids=["async", "blocking"])
EACH_KIND = pytest.mark.parametrize("kind", KINDS)
EACH_ENCODING = pytest.mark.parametrize("encoding", ["gzip", "deflate"])
PLACES = ["task", "loop", "other-loop", "main", "actor"]


def understood(request):
    """The payloads of a request, those that are compressed inflated as its head says."""
    encoding = request.first("grpc-encoding", "identity")
    return [INFLATE[encoding](payload) if flag else payload for flag, payload in request.answer.flagged_messages]


def flags(request):
    return "".join(str(flag) for flag, _ in request.answer.flagged_messages)


@pytest.fixture
def seen_by(answered_by):
    """Makes a call of a server that answers with one message; what the server saw, and the result."""
    def call(reply=b"reply", options=(), **fields):
        seen = []

        def script(request):
            seen.append((understood(request), flags(request), request.first("grpc-encoding"),
                         request.first("grpc-accept-encoding")))
            request.reply(reply)

        result = answered_by(script, options=options, **fields)
        assert result.code == "OK", result
        return (*seen[0], result)

    return call


# MARK: Requests


@EACH_KIND
@BOTH_WAYS
@EACH_ENCODING
def test_a_call_compresses_its_requests(seen_by, kind, blocking, encoding):
    """The head names the encoding, and those that are accepted back."""
    for size in [1000, 8193, 300_000]:
        payload = text(size)
        payloads, seen_flags, named, accepted, _ = seen_by(
            kind=kind, blocking=blocking, payloads=[payload], compression=encoding)
        assert (payloads, seen_flags, named) == ([payload], "1", encoding)
        assert accepted == "identity,gzip,deflate"


@EACH_KIND
@pytest.mark.parametrize("place", PLACES)
def test_requests_are_compressed_wherever_the_call_is_made(seen_by, kind, place):
    """On a loop's thread a large one is left to another."""
    for size in [100, 500_000]:
        payload = text(size)
        seen = seen_by(kind=kind, payloads=[payload], compression="gzip", on=place)
        assert seen[:3] == ([payload], "1", "gzip")


@EACH_KIND
def test_by_default_nothing_is_compressed_and_nothing_said_of_it(seen_by, kind):
    assert seen_by(kind=kind, payloads=[bytes(1000)])[:4] == ([bytes(1000)], "0", None, None)


@EACH_KIND
def test_a_channel_says_what_it_accepts_when_it_is_told_to(seen_by, kind):
    seen = seen_by(kind=kind, payloads=[bytes(1000)], options=["--accept-compressed"])
    assert seen[1:4] == ("0", None, "identity,gzip,deflate")


@EACH_KIND
@BOTH_WAYS
def test_a_channel_compresses_unless_a_call_says_otherwise(seen_by, kind, blocking):
    options = ["--request-compression", "deflate", "--accept-compressed"]
    for compression, named in [(None, "deflate"), ("gzip", "gzip"), ("identity", None)]:
        fields = {"compression": compression} if compression else {}
        seen = seen_by(kind=kind, blocking=blocking, payloads=[bytes(1000)], options=options, **fields)
        assert seen[:4] == ([bytes(1000)], "1" if named else "0", named, "identity,gzip,deflate")


@pytest.mark.parametrize("kind", ["client", "bidi"])
@BOTH_WAYS
@pytest.mark.parametrize("place", ["task", "loop"])
def test_single_messages_of_a_stream_are_left_uncompressed(seen_by, kind, blocking, place):
    """compression.md: so that secrets are not compressed together with what a stranger chose. The order stays."""
    payloads = [bytes(1000), b"s" * 1000, text(100_000), text(100_001), bytes(10)] * 3
    plain = [number for number in range(len(payloads)) if number % 5 in (1, 3)]
    on = {} if blocking else {"on": place}
    seen = seen_by(kind=kind, blocking=blocking, payloads=payloads, plain=plain, compression="gzip", **on)
    # What has ten bytes would not get smaller.
    assert seen[:2] == (payloads, "10100" * 3)


@EACH_KIND
@BOTH_WAYS
@pytest.mark.parametrize("size", [0, 1, 19, 1000, 50_000])
def test_what_would_not_get_smaller_is_sent_as_it_is(seen_by, kind, blocking, size):
    payload = random.Random(size).randbytes(size)
    seen = seen_by(kind=kind, blocking=blocking, payloads=[payload], compression="deflate")
    assert seen[:2] == ([payload], "0")


@EACH_KIND
@BOTH_WAYS
def test_an_algorithm_without_a_codec_fails_before_anything_is_sent(start_raw_server, open_client_process, kind,
                                                                    blocking):
    server = start_raw_server(lambda connection: connection.serve())
    result = open_client_process(server).call(kind=kind, blocking=blocking, compression="br", payloads=[b"x"])
    assert (result.code, result.origin) == ("INTERNAL", "local") and "br" in result.text
    assert not server.accepted


@EACH_KIND
def test_a_compressed_request_that_was_refused_is_sent_again_as_it_was(start_raw_server, open_client_process, kind):
    """rule 26: the transparent retry has the same bytes, the same flag and the same fields."""
    bodies = []

    def serve(connection):
        refused = connection.request()
        bodies.append((bytes(refused.answer.data), refused.first("grpc-encoding")))
        refused.reset_with(7)
        request = connection.request()
        bodies.append((bytes(request.answer.data), request.first("grpc-encoding")))
        request.reply(b"at last")

    result = open_client_process(start_raw_server(serve)).call(
        kind=kind, payloads=[text(20_000)], compression="gzip")
    assert result.code == "OK" and len(bodies) == 2, result
    assert bodies[0] == bodies[1] and bodies[0][0][0] == 1 and bodies[0][1] == "gzip"


# MARK: Responses


@EACH_KIND
@BOTH_WAYS
@EACH_ENCODING
def test_a_compressed_response_is_understood(answered_by, kind, blocking, encoding):
    """rule 13: also by a client that has not said that it accepts any."""
    for size in [0, 1, 1000, 16_384, 300_000, 4 * MIB]:
        payload = text(size)

        def script(request):
            request.head(("grpc-encoding", encoding)).message(COMPRESS[encoding](payload), 1).trailers()

        result = answered_by(script, kind=kind, blocking=blocking, watch_compression=True)
        assert (result.code, result.messages) == ("OK", [payload]), size
        if kind != "client":
            assert result.compressed == [1]


@EACH_KIND
@pytest.mark.parametrize("place", PLACES)
def test_responses_are_inflated_wherever_the_call_is_made(answered_by, kind, place):
    for payload in [bytes(100), bytes(3 * MIB), text(500_000)]:
        def script(request):
            request.head(("grpc-encoding", "gzip")).message(gzip.compress(payload), 1).trailers()

        assert answered_by(script, kind=kind, on=place).messages == [payload]


@pytest.mark.parametrize("kind", ["server", "bidi"])
@BOTH_WAYS
@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("place", ["task", "loop"])
def test_messages_of_one_stream_come_compressed_or_not_and_keep_their_order(answered_by, kind, blocking, watched,
                                                                           place):
    """rule 13."""
    payloads = [text(size) for size in [5, 200_000, 7, 30_000, 9, 0, 100_000, 1, 50, 400_000, 3]]

    def script(request):
        request.head(("grpc-encoding", "deflate"))
        for number, payload in enumerate(payloads):
            request.message(zlib.compress(payload) if number % 3 else payload, 1 if number % 3 else 0)
        request.trailers()

    on = {} if blocking else {"on": place}
    result = answered_by(script, kind=kind, blocking=blocking, watch_compression=watched, **on)
    assert result.messages == payloads
    assert result.compressed == ([1 if number % 3 else 0 for number in range(len(payloads))] if watched else [])


@EACH_KIND
@BOTH_WAYS
@pytest.mark.parametrize("encoding", [None, "identity", "unheard-of"])
def test_a_compressed_message_without_a_codec_is_internal(answered_by, kind, blocking, encoding):
    """rule 13."""
    def script(request):
        request.head(*([("grpc-encoding", encoding)] if encoding else []))
        request.message(gzip.compress(b"message"), 1).trailers()

    result = answered_by(script, kind=kind, blocking=blocking)
    assert result.code == "INTERNAL" and not result.messages, result
    assert encoding in (None, "identity") or encoding in result.text


WHOLE = gzip.compress(b"a message that is long enough to be cut short", mtime=0)
BROKEN = {
    "nothing": ("gzip", b""),
    "rubbish": ("gzip", b"\x1f\x8b rubbish, and more of it than a header has"),
    "cut short": ("gzip", WHOLE[:-1]),
    "bytes behind it": ("gzip", WHOLE + b"x"),
    "zlib for gzip": ("gzip", zlib.compress(b"zlib")),
    "gzip for zlib": ("deflate", WHOLE),
    "much, cut short": ("gzip", gzip.compress(text(200_000))[:-1]),
}


@EACH_KIND
@BOTH_WAYS
@pytest.mark.parametrize("broken", BROKEN)
def test_what_does_not_inflate_is_internal(answered_by, kind, blocking, broken):
    """rule 13: whatever the status says; and what came before it is given out."""
    encoding, data = BROKEN[broken]

    def script(request):
        request.head(("grpc-encoding", encoding))
        if kind in ("server", "bidi"):
            request.message(b"before")
        request.message(data, 1)
        if kind in ("server", "bidi"):
            request.message(b"after")
        request.trailers()

    result = answered_by(script, kind=kind, blocking=blocking)
    assert result.code == "INTERNAL" and encoding in result.text and "inflated" in result.text, result
    assert result.messages == ([b"before"] if kind in ("server", "bidi") else [])


@pytest.mark.parametrize("kind", ["server", "bidi"])
@BOTH_WAYS
def test_a_server_is_told_that_the_rest_is_of_no_use(answered_by, kind, blocking):
    """A message that does not inflate cancels the call."""
    resets = []

    def script(request):
        request.head(("grpc-encoding", "gzip")).message(b"rubbish", 1)
        resets.append(request.wait_reset())

    assert answered_by(script, kind=kind, blocking=blocking).code == "INTERNAL"
    assert wait_until(lambda: resets == [8])


@EACH_KIND
@BOTH_WAYS
@EACH_ENCODING
def test_a_response_is_limited_by_what_it_inflates_to(answered_by, kind, blocking, encoding):
    """rule 14: over the limit after inflation is RESOURCE_EXHAUSTED, exactly the limit is not."""
    limit = 150_000
    for size, code in [(limit, "OK"), (limit + 1, "RESOURCE_EXHAUSTED"), (100 * limit, "RESOURCE_EXHAUSTED")]:
        def script(request):
            request.head(("grpc-encoding", encoding)).message(COMPRESS[encoding](bytes(size)), 1).trailers()

        result = answered_by(script, kind=kind, blocking=blocking, max_response_bytes=limit, keep=False)
        assert result.code == code, (size, result)
        assert code == "OK" or str(limit) in result.text


@EACH_KIND
@BOTH_WAYS
@EACH_ENCODING
def test_a_bomb_takes_no_more_memory_than_the_limit(start_raw_server, open_client_process, kind, blocking, encoding):
    """rule 14: half a MiB that inflates to half a GiB."""
    data = bomb(encoding, 512)
    assert len(data) < MIB

    def serve(connection):
        for request in connection.requests(1):
            request.reply(b"warm")
        for _ in range(5):
            request = connection.request()
            request.head(("grpc-encoding", encoding)).message(data, 1).trailers()

    client = open_client_process(start_raw_server(serve))
    assert client.call(kind=kind, blocking=blocking).code == "OK"
    for _ in range(5):
        assert client.call(kind=kind, blocking=blocking, seconds=30).code == "RESOURCE_EXHAUSTED"
    assert client.figures["peak_bytes"] < 100 * MIB


def test_responses_that_wait_to_be_read_are_held_as_they_came(start_raw_server, open_client_process):
    """rule 14: what is not read is not inflated, and flow control counts what came over the wire."""
    data = bomb("gzip", 4)
    count = 200

    def serve(connection):
        request = connection.request()
        request.head(("grpc-encoding", "gzip"))
        for _ in range(count + 1):
            request.message(data, 1)
        request.trailers()

    client = open_client_process(start_raw_server(serve), "--stream-window-bytes", MIB)
    call = client.start("Expand", kind="server", pause_after=1, keep=False, payloads=[b""])
    call.paused()
    # Inflated, what the window lets through would be a GiB.
    assert client.figures["rss_bytes"] < 100 * MIB
    call.resume()
    result = call.result(60)
    assert (result.code, result.count, result.bytes) == ("OK", count + 1, (count + 1) * 4 * MIB)


# MARK: grpcio


@pytest.fixture
def grpcio_server():
    """Servers of grpcio in this process, which send back what they get."""
    servers = []

    def start(compression, unary_compression=None, plain_every=None):
        def unary(request, context):
            if unary_compression is not None:
                context.set_compression(unary_compression)
            return request

        def stream(requests, context):
            for number, request in enumerate(requests):
                if plain_every and number % plain_every == 0:
                    context.disable_next_message_compression()
                yield request

        handlers = grpc.method_handlers_generic_handler(SERVICE.strip("/"), {
            "Get": grpc.unary_unary_rpc_method_handler(unary),
            "Collect": grpc.stream_unary_rpc_method_handler(lambda requests, context: b"".join(requests)),
            "Expand": grpc.unary_stream_rpc_method_handler(lambda request, context: iter([request] * 3)),
            "Update": grpc.stream_stream_rpc_method_handler(stream),
        })
        server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), compression=compression,
                             options=[("grpc.max_receive_message_length", -1)])
        server.add_generic_rpc_handlers([handlers])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(None).wait()


@pytest.mark.parametrize("theirs", [grpc.Compression.NoCompression, grpc.Compression.Gzip, grpc.Compression.Deflate])
@pytest.mark.parametrize("ours", [None, "gzip", "deflate"])
@BOTH_WAYS
def test_grpcio_in_all_shapes(grpcio_server, open_client_process, theirs, ours, blocking):
    client = open_client_process(grpcio_server(theirs), "--accept-compressed")
    fields = {"blocking": blocking, "seconds": 30, **({"compression": ours} if ours else {})}
    came = 1 if theirs != grpc.Compression.NoCompression else 0
    for payload in [b"", text(1000), text(100_000), text(3_000_000)]:
        result = client.call("Get", payloads=[payload], **fields)
        assert (result.code, result.messages) == ("OK", [payload]), result
        assert result.compressed == [came if payload else 0]
        assert client.call("Expand", kind="server", payloads=[payload], **fields).messages == [payload] * 3
    payloads = [text(size) for size in [5000, 0, 200_000, 40_000, 1_000_000]]
    assert client.call("Collect", kind="client", payloads=payloads, **fields).message == b"".join(payloads)
    result = client.call("Update", kind="bidi", payloads=payloads, watch_compression=True, **fields)
    assert result.messages == payloads
    assert result.compressed == [came if payload else 0 for payload in payloads]


@EACH_ENCODING
def test_grpcio_leaves_single_messages_uncompressed(grpcio_server, open_client_process, encoding):
    algorithm = grpc.Compression.Gzip if encoding == "gzip" else grpc.Compression.Deflate
    client = open_client_process(grpcio_server(algorithm, plain_every=2), "--accept-compressed")
    payloads = [bytes(5000)] * 6
    result = client.call("Update", kind="bidi", payloads=payloads, watch_compression=True)
    assert (result.messages, result.compressed) == (payloads, [0, 1] * 3)


@EACH_ENCODING
@pytest.mark.parametrize("accept", [True, False])
def test_a_grpcio_handler_compresses_its_response(grpcio_server, open_client_process, encoding, accept):
    """It does so whatever the client said that it accepts."""
    algorithm = grpc.Compression.Gzip if encoding == "gzip" else grpc.Compression.Deflate
    server = grpcio_server(grpc.Compression.NoCompression, unary_compression=algorithm)
    client = open_client_process(server, *(["--accept-compressed"] if accept else []))
    result = client.call("Get", payloads=[bytes(5000)])
    assert (result.message, result.compressed) == (bytes(5000), [1])


# MARK: Ours with ours


@pytest.mark.parametrize("method, kind", [
    ("CompressedUnary", "unary"), ("CompressedSynchronously", "unary"), ("GlobalCompressedUnary", "unary"),
    ("CompressedCollect", "client"), ("CompressedStream", "bidi"), ("GlobalCompressedStream", "bidi")])
@BOTH_WAYS
def test_an_encoding_of_the_applications_own_is_refused_by_name(start_our_peer, open_client_process, method, kind,
                                                               blocking):
    """The scenario server has one that this client has not."""
    client = open_client_process(start_our_peer(), "--accept-compressed")
    result = client.call(method, kind=kind, blocking=blocking, payloads=[bytes(5000)],
                         metadata=parameters(compress="x-reversed-runs"), compression="gzip")
    # Not accepted, so not used.
    assert (result.code, result.messages) == ("OK", [bytes(5000)])
    assert dict(result.initial).keys().isdisjoint({"grpc-encoding"})
