"""Compressed messages as the server takes and gives them (rules 13 and 14): Python's gzip and zlib, and grpcio."""

import gzip
import itertools
import random
import zlib

import grpc
import pytest
from hyperframe.frame import HeadersFrame

from message_encodings import COMPRESS, INFLATE, REVERSED_RUNS, bomb, text
from raw_connection import LARGEST_WINDOW, message
from scenario_client import SERVICE, new_key, parameters

INTERNAL, UNIMPLEMENTED, RESOURCE_EXHAUSTED = 13, 12, 8
MIB = 1024 * 1024
ONE_REQUEST = ["CompressedUnary", "GlobalCompressedUnary", "CompressedSynchronously"]
MANY_REQUESTS = ["CompressedCollect", "GlobalCompressedCollect", "CompressedStream", "GlobalCompressedStream"]
ENCODINGS = ["gzip", "deflate", REVERSED_RUNS]
# Below and above what a loop compresses and inflates itself.
SIZES = [1, 100, 8192, 8193, 20_000, 300_000, 4 * MIB]


def encoded(encoding, accept=None, compress=None):
    """Fields of a request whose messages are in an encoding."""
    fields = [("grpc-encoding", encoding)] if encoding else []
    fields += [("grpc-accept-encoding", accept)] if accept else []
    return fields + (parameters(compress=compress) if compress else [])


def inflated(answer):
    """The payloads of an answer, those that are compressed inflated as its head says."""
    encoding = answer.first("grpc-encoding", "identity")
    return [INFLATE[encoding](payload) if flag else payload for flag, payload in answer.flagged_messages]


def flags(answer):
    return "".join(str(flag) for flag, _ in answer.flagged_messages)


@pytest.fixture
def wide(open_raw, scenario_server):
    """A raw connection with windows that large answers fit into."""
    return open_raw(scenario_server, settings={4: LARGEST_WINDOW}, connection_window=LARGEST_WINDOW)


# MARK: What comes compressed


@pytest.mark.parametrize("method", ONE_REQUEST + MANY_REQUESTS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_compressed_request_is_understood(wide, method, encoding):
    """rule 13; each message stands for itself, be it compressed or not."""
    for size in SIZES:
        # Text has no runs of a byte, which would make twice as much of it.
        payload = text(size) if encoding != REVERSED_RUNS else b"a" * (size // 2) + b"b" * (size - size // 2)
        stream = wide.open(method, encoded(encoding))
        wide.body(stream, message(COMPRESS[encoding](payload), 1))
        answer = wide.result(stream, 30)
        assert answer.status == 0, (size, answer.text)
        assert answer.messages == [payload]
        assert (answer.first("x-flags"), answer.first("x-request-compression")) == ("1", encoding)


@pytest.mark.parametrize("method", MANY_REQUESTS)
def test_messages_of_one_stream_come_compressed_or_not_and_keep_their_order(wide, method):
    """rule 13: small ones are inflated on the loop and large ones elsewhere, and none overtakes another."""
    payloads = [text(size) for size in [5, 200_000, 7, 30_000, 9, 0, 100_000, 1, 50, 400_000, 3]]
    compressed = [number % 3 != 2 for number in range(len(payloads))]
    body = b"".join(message(gzip.compress(payload), 1) if flag else message(payload)
                    for payload, flag in zip(payloads, compressed))
    stream = wide.open(method, encoded("gzip"))
    wide.body(stream, body)
    answer = wide.result(stream, 30)
    assert b"".join(answer.messages) == b"".join(payloads)
    assert answer.first("x-flags") == "".join("1" if flag else "0" for flag in compressed)


@pytest.mark.parametrize("method", ONE_REQUEST + MANY_REQUESTS)
def test_an_uncompressed_message_under_an_encoding_is_one(raw, method):
    stream = raw.open(method, encoded("gzip"))
    raw.data(stream, message(b"plain"), end_stream=True)
    answer = raw.result(stream)
    assert (answer.status, answer.messages, answer.first("x-flags")) == (0, [b"plain"], "0")


@pytest.mark.parametrize("method", ["CompressedUnary", "CompressedStream"])
def test_members_of_gzip_one_after_another_are_one_message(raw, method):
    """RFC 1952 §2.2."""
    stream = raw.open(method, encoded("gzip"))
    raw.data(stream, message(gzip.compress(b"one, ") + gzip.compress(b"") + gzip.compress(b"two"), 1), end_stream=True)
    assert raw.result(stream).messages == [b"one, two"]


def test_a_compressed_message_may_be_split_into_frames_of_one_byte(raw):
    """rule 12."""
    for method in ["CompressedUnary", "CompressedStream"]:
        stream = raw.open(method, encoded("deflate"))
        for byte in message(zlib.compress(b"byte-by-byte"), 1):
            raw.data(stream, bytes([byte]))
        raw.data(stream, b"", end_stream=True)
        assert raw.result(stream).messages == [b"byte-by-byte"]


# MARK: What does not inflate

WHOLE = gzip.compress(b"a message that is long enough to be cut short", mtime=0)
BARE = zlib.compressobj(wbits=-15)
BROKEN = {
    "nothing": ("gzip", b""),
    "rubbish": ("gzip", b"rubbish, and more of it than a header has"),
    "cut short": ("gzip", WHOLE[:-9]),
    "without its length": ("gzip", WHOLE[:-1]),
    "a wrong checksum": ("gzip", WHOLE[:-8] + bytes(4) + WHOLE[-4:]),
    "bytes behind it": ("gzip", WHOLE + b"x"),
    "a member begun behind it": ("gzip", WHOLE + WHOLE[:15]),
    "zlib for gzip": ("gzip", zlib.compress(b"zlib")),
    "gzip for zlib": ("deflate", WHOLE),
    "deflate without zlib's header": ("deflate", BARE.compress(b"bare bare bare") + BARE.flush()),
    "zlib, cut short": ("deflate", zlib.compress(b"zlib zlib zlib")[:-1]),
    "zlib, and bytes behind it": ("deflate", zlib.compress(b"zlib") + b"\0"),
    "a run of no bytes": (REVERSED_RUNS, b"\0a"),
    "uncompressed data with the flag": ("gzip", b"plain"),
    "much, cut short": ("gzip", gzip.compress(text(200_000))[:-1]),
}


@pytest.mark.parametrize("method", ONE_REQUEST + MANY_REQUESTS)
@pytest.mark.parametrize("broken", BROKEN)
def test_what_does_not_inflate_is_internal(raw, method, broken):
    """rule 13; the answer names the encoding."""
    encoding, data = BROKEN[broken]
    stream = raw.open(method, encoded(encoding))
    raw.body(stream, message(data, 1))
    answer = raw.result(stream)
    assert answer.status == INTERNAL, answer.text
    assert encoding in answer.text and "inflated" in answer.text
    assert not answer.data
    raw.assert_serves()


@pytest.mark.parametrize("method", ["IgnoreErrors", "GlobalIgnoreErrors"])
@pytest.mark.parametrize("data, status", [(b"rubbish", INTERNAL), (bomb("gzip", 5), RESOURCE_EXHAUSTED)])
def test_a_handler_that_makes_nothing_of_a_broken_message_does_not_turn_the_call_into_a_success(
        raw, method, data, status):
    """rules 13 and 14."""
    key = new_key()
    stream = raw.open(method, encoded("gzip") + parameters(key=key))
    raw.data(stream, message(data, 1), end_stream=True)
    assert raw.result(stream).status == status
    assert raw.wait_for(f"ignored.{key}") == 1


# MARK: The limit


@pytest.mark.parametrize("method", ONE_REQUEST + MANY_REQUESTS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_message_is_limited_by_what_it_inflates_to(start_scenarios, open_raw, method, encoding):
    """rule 14: over the limit after inflation is RESOURCE_EXHAUSTED, exactly the limit is not."""
    limit = 150_000
    raw = open_raw(start_scenarios("--max-request-bytes", limit))
    for size, status in [(limit, 0), (limit + 1, RESOURCE_EXHAUSTED), (100 * limit, RESOURCE_EXHAUSTED), (limit, 0)]:
        compressed = COMPRESS[encoding](bytes(size))
        if len(compressed) > limit:
            continue
        stream = raw.open(method, encoded(encoding))
        raw.body(stream, message(compressed, 1))
        answer = raw.result(stream)
        assert answer.status == status, (size, answer.text)
        if status:
            assert str(limit) in answer.text


@pytest.mark.parametrize("method", ["CompressedUnary", "CompressedStream"])
def test_a_compressed_message_is_limited_by_its_length_before_it_comes(raw, method):
    """rule 14."""
    stream = raw.open(method, encoded("gzip"))
    raw.data(stream, b"\1" + (4 * MIB + 1).to_bytes(4, "big"))
    assert raw.result(stream).status == RESOURCE_EXHAUSTED


def test_messages_that_wait_to_be_read_are_held_as_they_came(start_scenarios, open_raw):
    """rule 14: what is not read is not inflated, and flow control counts what came over the wire."""
    server = start_scenarios("--stream-window-bytes", MIB)
    raw = open_raw(server)
    key = new_key()
    stream = raw.open("Sink", encoded("gzip") + parameters(key=key, pause_after=1))
    large = message(bomb("gzip", 4), 1)
    raw.body(stream, large * 2, end_stream=False)
    assert raw.wait_for(f"read.{key}") == 1
    before = server.rss_bytes
    count = 200
    raw.body(stream, large * count, end_stream=False)
    raw.assert_serves()
    # Inflated that would be 800 MiB.
    assert server.rss_bytes - before < 32 * MIB
    assert raw.call("Release", fields=parameters(key=key)).status == 0
    raw.data(stream, b"", end_stream=True)
    assert raw.result(stream, 60).messages == [b"%d messages, %d bytes" % (count + 2, (count + 2) * 4 * MIB)]


# MARK: What goes out compressed


@pytest.mark.parametrize("method", ONE_REQUEST + MANY_REQUESTS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_handler_chooses_the_encoding_of_its_responses(wide, method, encoding):
    """compression.md: what the handler chose, if the client accepts it."""
    for size in [1000, 8193, 300_000]:
        payload = (b"\0" * 500 + b"payload")[:500] * (size // 500)
        stream = wide.open(method, encoded(None, "gzip,deflate," + REVERSED_RUNS, encoding))
        wide.body(stream, message(payload))
        answer = wide.result(stream, 30)
        assert (answer.status, answer.first("grpc-encoding"), flags(answer)) == (0, encoding, "1")
        assert inflated(answer) == [payload]
        assert len(answer.data) < len(payload)
        assert answer.order == ["HEADERS", "DATA", "HEADERS"]


@pytest.mark.parametrize("method", ONE_REQUEST + MANY_REQUESTS)
@pytest.mark.parametrize("accept", [None, "identity", "br", "deflate", "gzip;q=0"])
def test_what_the_client_does_not_accept_is_not_used(raw, method, accept):
    """compression.md: such a message SHALL be sent uncompressed."""
    stream = raw.open(method, encoded(None, accept, "gzip"))
    raw.data(stream, message(bytes(2000)), end_stream=True)
    answer = raw.result(stream)
    assert (answer.status, answer.first("grpc-encoding"), answer.messages) == (0, None, [bytes(2000)])
    assert answer.first("x-accepted") == ("deflate" if accept == "deflate" else "")


@pytest.mark.parametrize("method", ["CompressedStream", "GlobalCompressedStream"])
def test_single_messages_are_left_uncompressed(raw, method):
    """compression.md: so that secrets are not compressed together with what a stranger chose."""
    payloads = [bytes(1000), b"-" * 1000, bytes(50_000), b"-" * 50_000, bytes(1000)]
    stream = raw.open(method, encoded("gzip", "gzip", "gzip"))
    raw.body(stream, b"".join(message(payload) for payload in payloads))
    answer = raw.result(stream)
    assert (flags(answer), inflated(answer)) == ("10101", payloads)


@pytest.mark.parametrize("method", ONE_REQUEST + MANY_REQUESTS)
@pytest.mark.parametrize("size", [0, 1, 19, 1000, 50_000])
def test_what_would_not_get_smaller_is_sent_as_it_is(raw, method, size):
    payload = random.Random(size).randbytes(size)
    stream = raw.open(method, encoded(None, "gzip", "gzip"))
    raw.body(stream, message(payload))
    answer = raw.result(stream)
    assert (answer.status, answer.messages) == (0, [payload])


@pytest.mark.parametrize("method", ONE_REQUEST)
def test_the_servers_default_is_for_those_who_accept_it(start_scenarios, open_raw, method):
    raw = open_raw(start_scenarios("--response-compression", "deflate"))

    def ask(accept, compress=None):
        stream = raw.open(method, encoded(None, accept, compress))
        raw.data(stream, message(bytes(5000)), end_stream=True)
        answer = raw.result(stream)
        assert inflated(answer) == [bytes(5000)]
        return answer.first("grpc-encoding"), flags(answer)

    for _ in range(2):
        assert ask("gzip, deflate") == ("deflate", "1")
        assert ask("gzip") == (None, "0")
        assert ask(None) == (None, "0")
        # The handler's choice is the last word.
        assert ask("gzip, deflate", "identity") == (None, "0")
        assert ask("gzip, deflate", "gzip") == ("gzip", "1")
        assert ask("gzip", "deflate") == (None, "0")


def test_it_is_too_late_to_choose_once_the_head_has_left(raw):
    stream = raw.open("ChooseTooLate", encoded(None, "gzip"))
    raw.data(stream, message(bytes(1000)), end_stream=True)
    answer = raw.result(stream)
    assert (answer.first("grpc-encoding"), answer.messages) == (None, [bytes(1000)] * 2)
    assert answer.first("x-chosen") == "false"


@pytest.mark.parametrize("first, second, chosen, encoding", [
    ("gzip", "deflate", "true true", "deflate"), ("gzip", "identity", "true true", None),
    ("gzip", "made-up", "true false", None), ("made-up", "gzip", "false true", "gzip"),
])
def test_the_last_choice_counts(raw, first, second, chosen, encoding):
    stream = raw.open("ChooseTwice", encoded(None, "gzip,deflate", first))
    raw.data(stream, message(second.encode()), end_stream=True)
    answer = raw.result(stream)
    assert (answer.first("x-chosen"), answer.first("grpc-encoding")) == (chosen, encoding)
    assert inflated(answer) == [b"z" * 1000]


def test_a_stream_of_compressed_responses_keeps_its_order(wide):
    stream = wide.open("CompressedPour", encoded(None, "gzip", "gzip") + parameters(count=200, bytes=20_000))
    wide.data(stream, message(b""), end_stream=True)
    answer = wide.result(stream, 30)
    assert inflated(answer) == [bytes([number]) * 20_000 for number in range(200)]
    assert flags(answer) == "10" * 100


# MARK: What is advertised


def test_those_who_send_compressed_messages_learn_what_is_accepted(raw):
    """compression.md: MUST name the encoding of a message that was understood."""
    everything = "identity,gzip,deflate," + REVERSED_RUNS
    for method, payload in [("CompressedUnary", b"x"), ("CompressedStream", b"x"), ("Fail", b"x")]:
        stream = raw.open(method, encoded("gzip") + parameters(code=9))
        raw.data(stream, message(gzip.compress(payload), 1), end_stream=True)
        assert raw.result(stream).first("grpc-accept-encoding") == everything, method
    assert raw.call("CompressedUnary", b"x", fields=encoded("made-up")).first("grpc-accept-encoding") == everything


def test_others_do_not(raw):
    """Every answer would be longer for it."""
    for fields in [[], encoded("identity"), encoded(None, "gzip,deflate")]:
        answer = raw.call("CompressedUnary", b"x", fields=fields)
        assert answer.status == 0
        assert not answer.all("grpc-accept-encoding") and not answer.all("grpc-encoding")


def test_heads_with_and_without_encodings_do_not_mix(raw):
    """The fields of one call are not taken for those of the next, whatever HPACK has in its table."""
    kinds = [("gzip", "gzip", "gzip"), (None, None, None), (None, "deflate", "deflate"), ("deflate", None, "gzip"),
             (None, "gzip", None)]
    for encoding, accept, compress in itertools.chain.from_iterable(itertools.permutations(kinds, 3)):
        # In the form that HPACK indexes, so that heads repeat byte for byte.
        stream = raw.new_stream()
        block = raw.encoder.encode(raw.head("CompressedUnary", encoded(encoding, accept, compress)))
        raw.send(HeadersFrame(stream, data=block, flags=["END_HEADERS"]))
        raw.data(stream, message(COMPRESS[encoding](bytes(100)), 1) if encoding else message(bytes(100)),
                 end_stream=True)
        answer = raw.result(stream)
        expected = compress if compress and accept == compress else None
        assert (answer.status, answer.first("grpc-encoding"), inflated(answer)) == (0, expected, [bytes(100)])
        assert answer.first("x-request-compression") == (encoding or "identity")


# MARK: Off the loop


def test_other_calls_go_on_while_a_large_message_is_inflated(start_scenarios, open_raw, open_client):
    """One loop for all: inflated on it, 100 MiB would let no other call through until they are done."""
    server = start_scenarios("--threads", 1, "--max-request-bytes", 101 * MIB)
    raw = open_raw(server)
    other = open_client(server)
    large = message(bomb("gzip", 100), 1)
    for method in ["CompressedCollect", "CompressedUnary", "CompressedSynchronously"]:
        assert other.call("SynchronousGet", b"warm") == b"warm"
        # Refused by its answer, which is larger than the window, so that nothing of it is waited for.
        stream = raw.open(method, encoded("gzip"))
        raw.discarded.add(stream)
        raw.body(stream, large)
        raw.socket.setblocking(False)
        finished = 0
        while not raw.answer(stream).blocks:
            assert other.call("SynchronousGet", b"other") == b"other"
            finished += 1
            raw.receive(0.0001)
        raw.socket.setblocking(True)
        raw.reset(stream)
        print(method, finished, "calls meanwhile")
        assert finished >= 20


@pytest.mark.parametrize("method", ["CompressedStream", "CompressedUnary", "CompressedSynchronously"])
def test_a_call_that_is_cancelled_while_it_is_inflated_or_compressed_leaves_nothing(raw, method):
    """rule 22."""
    body = message(bomb("gzip", 4), 1)
    for round_ in range(60):
        stream = raw.open(method, encoded("gzip", "gzip", "gzip"))
        raw.body(stream, body, end_stream=round_ % 2 == 0)
        if round_ % 3 == 0:
            raw.step(0.01)
        raw.reset(stream)
    raw.assert_serves()
    stream = raw.open(method, encoded("gzip", "gzip", "gzip"))
    raw.body(stream, body)
    answer = raw.result(stream)
    assert inflated(answer) == [bytes(4 * MIB)]


def test_a_deadline_passes_while_a_message_is_inflated(start_scenarios, open_raw):
    """rule 22: the call ends with DEADLINE_EXCEEDED, and the handler never sees the message."""
    server = start_scenarios("--max-request-bytes", 101 * MIB)
    raw = open_raw(server)
    stream = raw.open("CompressedUnary", encoded("gzip") + [("grpc-timeout", "20m")])
    raw.body(stream, message(bomb("gzip", 100), 1))
    assert raw.result(stream).status == 4
    raw.assert_serves()


# MARK: grpcio


@pytest.mark.parametrize("algorithm", [grpc.Compression.NoCompression, grpc.Compression.Gzip, grpc.Compression.Deflate])
@pytest.mark.parametrize("chosen", [None, "gzip", "deflate"])
def test_grpcio_in_all_shapes(client, algorithm, chosen):
    """Requests in each encoding, by the call; responses in each."""
    name = {grpc.Compression.NoCompression: "identity", grpc.Compression.Gzip: "gzip"}.get(algorithm, "deflate")
    options = {"metadata": parameters(compress=chosen) if chosen else [], "compression": algorithm, "timeout": 30}
    payloads = [text(size) for size in [0, 10, 1000, 100_000, 3_000_000]]
    for method in ONE_REQUEST:
        for payload in payloads:
            response, call = client.channel.unary_unary(SERVICE + method).with_call(payload, **options)
            assert response == payload
            trailers = dict(call.trailing_metadata())
            assert (trailers["x-request-compression"], trailers["x-accepted"]) == (name, "gzip deflate")
            # grpcio leaves what would not get smaller as it is.
            assert trailers["x-flags"] == ("1" if len(payload) >= 1000 and name != "identity" else "0")
    for method in ["CompressedCollect", "GlobalCompressedCollect"]:
        assert client.client_stream(method)(iter(payloads), **options) == b"".join(payloads)
    for method in ["CompressedStream", "GlobalCompressedStream"]:
        assert list(client.both_streams(method)(iter(payloads * 5), **options)) == payloads * 5


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_echo_serves_compressed(start_echo, open_channel, echo, algorithm):
    server = start_echo("--compression", algorithm)
    channel = open_channel(server)
    stub = echo.Stub(channel)
    words = text(100_000).decode()
    for compression in [None, grpc.Compression.Gzip, grpc.Compression.Deflate]:
        assert stub.Get(echo.Request(text=words), timeout=10, compression=compression).text == words
        parts = stub.Expand(echo.Request(text="a " + "b" * 5000), timeout=10, compression=compression)
        assert [part.text for part in parts] == ["a", "b" * 5000]
