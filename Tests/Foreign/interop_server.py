"""The server of gRPC's interoperability tests (doc/interop-test-descriptions.md) on grpcio.

Run as a process: prints `listening on ADDRESS`, serves until SIGTERM. With `--fault` it does one thing wrong, for tests
of the client: a case that no fault can fail proves nothing.
"""

import argparse
import asyncio
import os
import pathlib
import signal
import time
import uuid

import grpc
import grpc.aio

from interop_codec import (
    ECHO_INITIAL, ECHO_TRAILING, LARGE_MESSAGES, SERVICE, UNIMPLEMENTED_SERVICE, UNTOUCHED, decoder, encode,
    load_messages,
)

STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}

FAULTS = {
    "unknown-field": "EmptyCall answers with a field that Empty does not have",
    "short-payloads": "every payload is a byte too short, and so is every sum of payloads",
    "dirty-payloads": "the last byte of every payload is not zero",
    "extra-response": "a stream of responses has one more than was asked for",
    "missing-response": "a stream of responses lacks the last",
    "early-end": "streams of requests end with OK, and are not read",
    "end-after-response": "FullDuplexCall ends with OK after the first response",
    "no-echo": "metadata is not sent back",
    "echo-elsewhere": "metadata comes back in each other's place",
    "other-code": "a status has another code than was asked for",
    "other-message": "the message of a status loses white space at its edges, and gets a full stop",
    "everything-implemented": "UnimplementedCall answers",
    "changing-id": "server_id is another with each call",
    "no-address": "peer_socket_address is not filled",
    "accepts-all": "a message that was to come compressed is accepted as it came",
    "refuses-all": "a message that says how it is to come is refused",
    "never-compressed": "no response is compressed",
    "always-compressed": "all responses are compressed",
}


class TestService:
    """The handlers; each request comes as a `Received`."""

    def __init__(self, messages, fault):
        self.messages = messages
        self.fault = fault
        self.server_id = f"{os.getpid()}-{uuid.uuid4()}"
        self.streams = {}

    def payload(self, size):
        body = bytearray(max(size - (self.fault == "short-payloads"), 0))
        if self.fault == "dirty-payloads" and body:
            body[-1] = 1
        return self.messages.Payload(body=bytes(body))

    async def echo_metadata(self, context):
        """Sends the initial metadata at once, and prepares the trailers.

        Metadata that goes out by itself with a unary response leaves out what `set_compression` was told.
        """
        found = {key: value for key, value in context.invocation_metadata() if key in (ECHO_INITIAL, ECHO_TRAILING)}
        if self.fault == "no-echo":
            found = {}
        initial = [(ECHO_INITIAL, found[ECHO_INITIAL])] if ECHO_INITIAL in found else []
        trailing = [(ECHO_TRAILING, found[ECHO_TRAILING])] if ECHO_TRAILING in found else []
        if self.fault == "echo-elsewhere":
            initial, trailing = trailing, initial
        await context.send_initial_metadata(tuple(initial))
        context.set_trailing_metadata(tuple(trailing))

    async def end_as_asked(self, status, context):
        """Ends the call with the status that the request wants."""
        code, message = status.code, status.message
        if self.fault == "other-code":
            code = grpc.StatusCode.INTERNAL.value[0]
        if self.fault == "other-message":
            message = message.strip() + "."
        if code:
            await context.abort(STATUS_CODES.get(code, grpc.StatusCode.UNKNOWN), message)

    async def check_compression(self, request, context):
        """The feature CompressedRequest: a request says how it means to come."""
        if not request.message.HasField("expect_compressed"):
            return
        wrong = request.message.expect_compressed.value != request.compressed
        if (wrong or self.fault == "refuses-all") and self.fault != "accepts-all":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "it did not come as it says")

    def compress_as_asked(self, message, field, context):
        """The feature CompressedResponse, for the next response."""
        compressed = message.HasField(field) and getattr(message, field).value
        if self.fault == "never-compressed":
            compressed = False
        if self.fault == "always-compressed":
            compressed = True
        if not compressed:
            context.disable_next_message_compression()

    # One request, one response

    async def empty_call(self, request, context):
        await self.echo_metadata(context)
        if self.fault == "early-end":
            # The streams that began before this call end before it.
            await asyncio.gather(*(ended.wait() for ended in self.streams.values()))
        return b"\x08\x01" if self.fault == "unknown-field" else self.messages.Empty()

    async def unary_call(self, request, context):
        message = request.message
        context.set_compression(grpc.Compression.Gzip)
        await self.echo_metadata(context)
        if message.HasField("response_status"):
            await self.end_as_asked(message.response_status, context)
        await self.check_compression(request, context)
        self.compress_as_asked(message, "response_compressed", context)
        response = self.messages.SimpleResponse(payload=self.payload(message.response_size))
        if message.fill_server_id:
            response.server_id = str(uuid.uuid4()) if self.fault == "changing-id" else self.server_id
        return response

    async def cacheable_unary_call(self, request, context):
        await context.send_initial_metadata((("cache-control", "max-age=60, public"),))
        body = b"%d" % time.time_ns()
        return self.messages.SimpleResponse(payload=self.messages.Payload(body=body))

    async def unimplemented_call(self, request, context):
        return self.messages.Empty()

    # Streams

    async def responses(self, request, context):
        """The responses to one request, each after its pause."""
        message = request.message
        if message.HasField("response_status"):
            await self.end_as_asked(message.response_status, context)
        wanted = list(message.response_parameters)
        if self.fault == "missing-response":
            wanted = wanted[:-1]
        if self.fault == "extra-response":
            wanted += wanted[-1:] or [self.messages.ResponseParameters(size=1)]
        for parameters in wanted:
            await asyncio.sleep(parameters.interval_us / 1e6)
            self.compress_as_asked(parameters, "compressed", context)
            response = self.messages.StreamingOutputCallResponse(payload=self.payload(parameters.size))
            if parameters.fill_peer_socket_address.value and self.fault != "no-address":
                response.peer_socket_address = context.peer()
            yield response

    async def streaming_output_call(self, request, context):
        context.set_compression(grpc.Compression.Gzip)
        await self.echo_metadata(context)
        async for response in self.responses(request, context):
            yield response

    async def streaming_input_call(self, requests, context):
        self.begin_stream(context)
        await self.echo_metadata(context)
        total = 0
        if self.fault != "early-end":
            async for request in requests:
                await self.check_compression(request, context)
                total += len(request.message.payload.body) - (self.fault == "short-payloads")
        return self.messages.StreamingInputCallResponse(aggregated_payload_size=total)

    async def full_duplex_call(self, requests, context):
        self.begin_stream(context)
        context.set_compression(grpc.Compression.Gzip)
        await self.echo_metadata(context)
        if self.fault == "early-end":
            return
        if self.fault == "extra-response":
            yield self.messages.StreamingOutputCallResponse(payload=self.payload(1))
        async for request in requests:
            async for response in self.responses(request, context):
                yield response
                if self.fault == "end-after-response":
                    return

    async def half_duplex_call(self, requests, context):
        await self.echo_metadata(context)
        for request in [request async for request in requests]:
            async for response in self.responses(request, context):
                yield response

    def begin_stream(self, context):
        """Keeps the call for `early-end` until it has ended."""
        ended = self.streams[id(context)] = asyncio.Event()

        def done(context):
            self.streams.pop(id(context), None)
            ended.set()

        context.add_done_callback(done)


def handlers(service, messages):
    kinds = [
        (grpc.unary_unary_rpc_method_handler, [
            ("EmptyCall", service.empty_call, messages.Empty),
            ("UnaryCall", service.unary_call, messages.SimpleRequest),
            ("CacheableUnaryCall", service.cacheable_unary_call, messages.SimpleRequest)]),
        (grpc.unary_stream_rpc_method_handler, [
            ("StreamingOutputCall", service.streaming_output_call, messages.StreamingOutputCallRequest)]),
        (grpc.stream_unary_rpc_method_handler, [
            ("StreamingInputCall", service.streaming_input_call, messages.StreamingInputCallRequest)]),
        (grpc.stream_stream_rpc_method_handler, [
            ("FullDuplexCall", service.full_duplex_call, messages.StreamingOutputCallRequest),
            ("HalfDuplexCall", service.half_duplex_call, messages.StreamingOutputCallRequest)]),
    ]
    served = {name: make(handler, decoder(kind), encode)
              for make, methods in kinds for name, handler, kind in methods}
    if service.fault != "everything-implemented":
        return [grpc.method_handlers_generic_handler(SERVICE, served)]
    made = grpc.unary_unary_rpc_method_handler(service.unimplemented_call, decoder(messages.Empty), encode)
    return [grpc.method_handlers_generic_handler(SERVICE, served | {"UnimplementedCall": made}),
            grpc.method_handlers_generic_handler(UNIMPLEMENTED_SERVICE, {"UnimplementedCall": made})]


async def serve(arguments):
    messages = load_messages(arguments.descriptors)
    options = [*LARGE_MESSAGES, *UNTOUCHED, ("grpc.so_reuseport", 0)]
    if arguments.max_concurrent_streams:
        options.append(("grpc.max_concurrent_streams", arguments.max_concurrent_streams))
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers(tuple(handlers(TestService(messages, arguments.fault), messages)))
    if arguments.tls_cert:
        pair = (arguments.tls_key.read_bytes(), arguments.tls_cert.read_bytes())
        port = server.add_secure_port(arguments.listen, grpc.ssl_server_credentials([pair]))
    else:
        port = server.add_insecure_port(arguments.listen)
    await server.start()
    print(f"listening on {arguments.listen.rsplit(':', 1)[0]}:{port}", flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await server.stop(0.2)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--descriptors", type=pathlib.Path, required=True, help="what protoc made of the protos")
    parser.add_argument("--max-concurrent-streams", type=int)
    parser.add_argument("--fault", choices=FAULTS, help="what to do wrong")
    parser.add_argument("--tls-cert", type=pathlib.Path)
    parser.add_argument("--tls-key", type=pathlib.Path)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
