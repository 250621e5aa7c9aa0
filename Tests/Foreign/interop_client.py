"""The client of gRPC's interoperability tests (doc/interop-test-descriptions.md) on grpcio: a function for each case.

A case raises AssertionError when what comes is not what the description demands.
"""

import queue
import time

import grpc

from interop_codec import (
    ECHO_INITIAL, ECHO_TRAILING, LARGE_MESSAGES, SERVICE, UNIMPLEMENTED_SERVICE, UNTOUCHED, decoder, encode,
)
from server_process import PATIENCE

TIMEOUT = 20 * PATIENCE
REQUEST_BYTES = 271_828
RESPONSE_BYTES = 314_159
REQUEST_SIZES = [27_182, 8, 1828, 45_904]
RESPONSE_SIZES = [31_415, 9, 2653, 58_979]


class InteropClient:
    """A channel to a server and the methods of the test service on it."""

    def __init__(self, address, messages, credentials=None, max_concurrent_streams=None):
        self.address, self.messages, self.credentials = address, messages, credentials
        self.max_concurrent_streams = max_concurrent_streams
        options = [*LARGE_MESSAGES, *UNTOUCHED, ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0),
                   ("grpc.enable_http_proxy", 0)]
        self.channel = (grpc.secure_channel(address, credentials, options) if credentials
                        else grpc.insecure_channel(address, options))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def another(self):
        """The same with a connection of its own."""
        return InteropClient(self.address, self.messages, self.credentials)

    def empty_call(self, **options):
        return self._one(self.channel.unary_unary, "EmptyCall", self.messages.Empty)(self.messages.Empty(), **options)

    def unary_call(self, request, **options):
        return self._one(self.channel.unary_unary, "UnaryCall", self.messages.SimpleResponse)(request, **options)

    def unary_call_with_call(self, request, **options):
        method = self._one(self.channel.unary_unary, "UnaryCall", self.messages.SimpleResponse, whole=True)
        return method(request, **options)

    def streaming_output_call(self, request, **options):
        method = self._one(self.channel.unary_stream, "StreamingOutputCall", self.messages.StreamingOutputCallResponse)
        return method(request, **options)

    def streaming_input_call(self, requests, future=False, **options):
        make = self.channel.stream_unary(f"/{SERVICE}/StreamingInputCall", encode,
                                         decoder(self.messages.StreamingInputCallResponse))
        options.setdefault("timeout", TIMEOUT)
        return (make.future if future else make)(requests, **options)

    def full_duplex_call(self, requests, name="FullDuplexCall", **options):
        method = self._one(self.channel.stream_stream, name, self.messages.StreamingOutputCallResponse)
        return method(requests, **options)

    def unimplemented_call(self, service):
        return self._one(self.channel.unary_unary, "UnimplementedCall", self.messages.Empty, service)(
            self.messages.Empty())

    def _one(self, make, name, response, service=SERVICE, whole=False):
        method = make(f"/{service}/{name}", encode, decoder(response))
        if whole:
            method = method.with_call

        def call(requests, **options):
            options.setdefault("timeout", TIMEOUT)
            return method(requests, **options)
        return call

    # Messages

    def payload(self, size):
        return self.messages.Payload(body=bytes(size))

    def large_request(self, **fields):
        return self.messages.SimpleRequest(response_size=RESPONSE_BYTES, payload=self.payload(REQUEST_BYTES), **fields)

    def duplex_request(self, sizes, payload=0, **fields):
        return self.messages.StreamingOutputCallRequest(
            response_parameters=[self.messages.ResponseParameters(size=size) for size in sizes],
            payload=self.payload(payload), **fields)

    def boolean(self, value):
        return self.messages.BoolValue(value=value)


class Requests:
    """Requests of a call that are sent when they are put in; `finish` half-closes."""

    def __init__(self):
        self.queue = queue.SimpleQueue()
        self.send, self.finish = self.queue.put, lambda: self.queue.put(None)

    def __iter__(self):
        return iter(self.queue.get, None)


def expect_zeros(payload, size):
    assert len(payload.body) == size, f"a payload of {len(payload.body)} bytes and not {size}"
    assert payload.body == bytes(size), "a payload that is not zeros"


def expect_responses(responses, sizes):
    """Reads to the end; returns which responses came compressed."""
    received = list(responses)
    assert [len(one.message.payload.body) for one in received] == sizes
    for one, size in zip(received, sizes):
        expect_zeros(one.message.payload, size)
    return [one.compressed for one in received]


def expect_status(code, call, message=None):
    try:
        result = call()
    except grpc.RpcError as error:
        assert error.code() is code, f"{error.code()} and not {code}: {error.details()!r}"
        assert message is None or error.details() == message, f"{error.details()!r} and not {message!r}"
    else:
        raise AssertionError(f"the call ended with {result} and not with {code}")


# The cases

def empty_unary(client):
    response = client.empty_call()
    assert response.message == client.messages.Empty() and not response.message.SerializeToString()


def large_unary(client):
    expect_zeros(client.unary_call(client.large_request()).message.payload, RESPONSE_BYTES)


def very_large_request(client):
    request = client.messages.SimpleRequest(response_size=10, payload=client.payload(10 * 1024 * 1024))
    expect_zeros(client.unary_call(request).message.payload, 10)


def client_streaming(client):
    requests = [client.messages.StreamingInputCallRequest(payload=client.payload(size)) for size in REQUEST_SIZES]
    assert client.streaming_input_call(iter(requests)).message.aggregated_payload_size == 74_922


def server_streaming(client):
    expect_responses(client.streaming_output_call(client.duplex_request(RESPONSE_SIZES)), RESPONSE_SIZES)


def ping_pong(client):
    requests = Requests()
    call = client.full_duplex_call(iter(requests))
    for sent, wanted in zip(REQUEST_SIZES, RESPONSE_SIZES):
        requests.send(client.duplex_request([wanted], sent))
        expect_zeros(next(call).message.payload, wanted)
    requests.finish()
    expect_responses(call, [])


def empty_stream(client):
    expect_responses(client.full_duplex_call(iter([])), [])


def half_duplex(client):
    """Not among the cases of the description, but among the server's methods: responses follow the last request."""
    requests = Requests()
    call = client.full_duplex_call(iter(requests), name="HalfDuplexCall")
    for size in RESPONSE_SIZES:
        requests.send(client.duplex_request([size]))
    client.empty_call()
    requests.finish()
    expect_responses(call, RESPONSE_SIZES)


def cancel_after_begin(client):
    requests = Requests()
    call = client.streaming_input_call(iter(requests), future=True)
    # Ends when the head of the first has long been sent.
    client.empty_call()
    call.cancel()
    assert call.cancelled() and call.code() is grpc.StatusCode.CANCELLED
    requests.finish()


def cancel_after_first_response(client):
    requests = Requests()
    call = client.full_duplex_call(iter(requests))
    requests.send(client.duplex_request([31_415], 27_182))
    expect_zeros(next(call).message.payload, 31_415)
    call.cancel()
    expect_status(grpc.StatusCode.CANCELLED, lambda: next(call))
    requests.finish()


def timeout_on_sleeping_server(client):
    requests = Requests()
    requests.send(client.messages.StreamingOutputCallRequest(payload=client.payload(27_182)))
    call = client.full_duplex_call(iter(requests), timeout=0.001)
    expect_status(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: next(call))
    requests.finish()


def custom_metadata(client):
    sent = [(ECHO_INITIAL, "test_initial_metadata_value"), (ECHO_TRAILING, b"\xab\xab\xab")]

    def check(call):
        assert dict(call.initial_metadata()).get(ECHO_INITIAL) == "test_initial_metadata_value"
        assert dict(call.trailing_metadata()).get(ECHO_TRAILING) == b"\xab\xab\xab"

    response, call = client.unary_call_with_call(client.large_request(), metadata=sent)
    expect_zeros(response.message.payload, RESPONSE_BYTES)
    check(call)
    call = client.full_duplex_call(iter([client.duplex_request([RESPONSE_BYTES], REQUEST_BYTES)]), metadata=sent)
    expect_responses(call, [RESPONSE_BYTES])
    check(call)


def status_code_and_message(client):
    status = client.messages.EchoStatus(code=2, message="test status message")
    request = client.messages.SimpleRequest(response_status=status)
    expect_status(grpc.StatusCode.UNKNOWN, lambda: client.unary_call(request), status.message)
    request = client.messages.StreamingOutputCallRequest(response_status=status)
    call = client.full_duplex_call(iter([request]))
    expect_status(grpc.StatusCode.UNKNOWN, lambda: next(call), status.message)


def special_status_message(client):
    status = client.messages.EchoStatus(
        code=2, message="\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n")
    request = client.messages.SimpleRequest(response_status=status)
    expect_status(grpc.StatusCode.UNKNOWN, lambda: client.unary_call(request), status.message)


def unimplemented_method(client):
    expect_status(grpc.StatusCode.UNIMPLEMENTED, lambda: client.unimplemented_call(SERVICE))


def unimplemented_service(client):
    expect_status(grpc.StatusCode.UNIMPLEMENTED, lambda: client.unimplemented_call(UNIMPLEMENTED_SERVICE))


def pick_first_unary(client):
    request = client.messages.SimpleRequest(response_size=1, payload=client.payload(1), fill_server_id=True)
    found = {client.unary_call(request).message.server_id for _ in range(100)}
    assert len(found) == 1 and found != {""}, found


def rpc_soak(client):
    for _ in range(50):
        large_unary(client)


def channel_soak(client):
    for _ in range(20):
        with client.another() as other:
            large_unary(other)


def long_lived_channel(client):
    for _ in range(5):
        large_unary(client)
        time.sleep(0.01)


def max_concurrent_streams_connection_scaling(client):
    """grpcio has one connection: a call over the server's limit waits for one to end."""
    parameters = client.messages.ResponseParameters(fill_peer_socket_address=client.boolean(True))
    question = client.messages.StreamingOutputCallRequest(response_parameters=[parameters])

    def ask(call, requests):
        requests.send(question)
        return next(call).message.peer_socket_address

    def begin():
        requests = Requests()
        return client.full_duplex_call(iter(requests)), requests

    pairs = [begin() for _ in range(client.max_concurrent_streams)]
    addresses = {ask(*pair) for pair in pairs}
    # Begun after the others have their streams: calls that wait for a connection get theirs in any order.
    pairs.append(begin())
    pairs[-1][1].send(question)
    for call, requests in pairs:
        requests.finish()
    *ended, last = [list(call) for call, _ in pairs]
    assert ended == [[]] * len(ended)
    addresses |= {one.message.peer_socket_address for one in last}
    assert len(last) == 1 and len(addresses) == 1 and "" not in addresses, addresses


# Compression

def client_compressed_unary(client):
    def call(expected, compression):
        return client.unary_call(client.large_request(expect_compressed=client.boolean(expected)),
                                 compression=compression)

    expect_status(grpc.StatusCode.INVALID_ARGUMENT, lambda: call(True, grpc.Compression.NoCompression))
    for expected, compression in [(True, grpc.Compression.Gzip), (False, grpc.Compression.NoCompression)]:
        expect_zeros(call(expected, compression).message.payload, RESPONSE_BYTES)


def server_compressed_unary(client):
    for wanted in (True, False):
        response = client.unary_call(client.large_request(response_compressed=client.boolean(wanted)))
        assert response.compressed == wanted, f"compressed: {response.compressed}, and not {wanted}"
        expect_zeros(response.message.payload, RESPONSE_BYTES)


def client_compressed_streaming(client):
    """As far as grpcio goes, whose clients cannot except a message from compression: the two messages are two calls."""
    def call(expected, size, compression):
        request = client.messages.StreamingInputCallRequest(expect_compressed=client.boolean(expected),
                                                            payload=client.payload(size))
        return client.streaming_input_call(iter([request]), compression=compression)

    expect_status(grpc.StatusCode.INVALID_ARGUMENT, lambda: call(True, 27_182, grpc.Compression.NoCompression))
    total = (call(True, 27_182, grpc.Compression.Gzip).message.aggregated_payload_size
             + call(False, 45_904, grpc.Compression.NoCompression).message.aggregated_payload_size)
    assert total == 73_086


def server_compressed_streaming(client):
    request = client.messages.StreamingOutputCallRequest(response_parameters=[
        client.messages.ResponseParameters(compressed=client.boolean(wanted), size=size)
        for wanted, size in [(True, 31_415), (False, 92_653)]])
    assert expect_responses(client.streaming_output_call(request), [31_415, 92_653]) == [True, False]


# Each that any server takes.
CASES = [
    empty_unary, large_unary, very_large_request, client_streaming, server_streaming, ping_pong, empty_stream,
    half_duplex, client_compressed_unary, server_compressed_unary, client_compressed_streaming,
    server_compressed_streaming, cancel_after_begin, cancel_after_first_response, timeout_on_sleeping_server,
    custom_metadata, status_code_and_message, special_status_message, unimplemented_method, unimplemented_service,
    pick_first_unary, rpc_soak, channel_soak, long_lived_channel,
]
