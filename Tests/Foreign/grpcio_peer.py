"""A server of grpcio with the handlers of apus-scenarios that tests of the client need, and the echo service.

It allows as many streams at once as clients like, which is grpcio's default: given a limit, it counts streams that have
ended a while ago and refuses some within the limit, of grpcio's own client as well.

Run as a process: prints `listening on ADDRESS`, serves until SIGTERM. It is written for asyncio, where a handler that
waits costs no thread.
"""

import argparse
import asyncio
import collections
import pathlib
import signal
import sys

import grpc
import grpc.aio

STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}
COUNTS = collections.Counter()
GATES = collections.defaultdict(asyncio.Event)


def value(context, name, default=""):
    for key, found in context.invocation_metadata():
        if key == name:
            return found
    return default


def number(context, name, default=0):
    return int(value(context, name, default))


def custom(context):
    return tuple((key, found) for key, found in context.invocation_metadata() if key.startswith("x-"))


def set_count(context, name, count):
    COUNTS[f"{name}.{value(context, 'x-key')}"] = count


async def recorded(context, body, reads=False):
    """Runs a part of a handler and counts how it went, as apus-scenarios does."""
    key = value(context, "x-key")

    def count(event):
        COUNTS[event] += 1
        COUNTS[f"{event}.{key}"] += 1

    count("started")
    try:
        result = await body
        if reads:
            # When the call is cancelled its stream of requests ends before the task is cancelled.
            await asyncio.sleep(0.05)
        count("finished")
        return result
    except asyncio.CancelledError:
        count("cancelled")
        raise
    except Exception:
        # Writing fails as well, just before the task is cancelled.
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            count("cancelled")
            raise
        count("failed")
        raise


async def fail(context, text):
    code = STATUS_CODES[number(context, "x-code", 2)]
    await context.abort(code, text, trailing_metadata=custom(context))


# Unary

async def get(request, context):
    return request


async def length(request, context):
    return b"%d" % len(request)


async def large(request, context):
    return b"a" * number(context, "x-bytes")


async def echo_metadata(request, context):
    await context.send_initial_metadata(custom(context))
    context.set_trailing_metadata(custom(context))
    return b""


async def fail_at_once(request, context):
    await fail(context, request.decode())


async def fail_with_details(request, context):
    """What google.rpc.Status would be in: bytes in `grpc-status-details-bin`."""
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "see the details",
                        trailing_metadata=(("grpc-status-details-bin", request),))


async def sleep(request, context):
    await recorded(context, asyncio.sleep(number(context, "x-ms") / 1000))
    return request


async def hold(request, context):
    await recorded(context, GATES[value(context, "x-key")].wait())
    return request


async def release(request, context):
    GATES[value(context, "x-key")].set()
    return b""


async def stats(request, context):
    return "\n".join(f"{name}={count}" for name, count in COUNTS.items()).encode()


# Streams

async def expand(request, context):
    for part in request.split():
        yield part


async def collect(requests, context):
    return b"".join([request async for request in requests])


async def update(requests, context):
    async for request in requests:
        yield request


async def echo_metadata_stream(requests, context):
    await context.send_initial_metadata(custom(context))
    async for request in requests:
        yield request
    context.set_trailing_metadata(custom(context))


async def initial_metadata_first(request, context):
    await context.send_initial_metadata((("x-first", "here"),))
    await GATES[value(context, "x-key")].wait()
    yield b"then a message"


async def fail_after(request, context):
    for _ in range(number(context, "x-count")):
        yield request
    await fail(context, request.decode())


async def fail_at_end(requests, context):
    last = b""
    async for request in requests:
        last = request
    await fail(context, last.decode())


async def fail_stream_at_once(requests, context):
    await fail(context, "at once")


async def pour(request, context):
    """Many messages, each filled with the low byte of its number."""
    async def write():
        size = number(context, "x-bytes")
        for index in range(number(context, "x-count")):
            await context.write(bytes([index % 256]) * size)
            set_count(context, "written", index + 1)
    await recorded(context, write())


async def sink(requests, context):
    """Reads, and stops in between if it is asked to."""
    pause_after = number(context, "x-pause-after", -1)
    totals = [0, 0]

    async def read():
        if pause_after == 0:
            await GATES[value(context, "x-key")].wait()
        async for request in requests:
            totals[0] += 1
            totals[1] += len(request)
            set_count(context, "read", totals[0])
            if totals[0] == pause_after:
                await GATES[value(context, "x-key")].wait()
    await recorded(context, read(), reads=True)
    return f"{totals[0]} messages, {totals[1]} bytes".encode()


async def listen(requests, context):
    async def echo():
        async for request in requests:
            await context.write(request)
    await recorded(context, echo(), reads=True)


async def return_early(requests, context):
    left = number(context, "x-count")
    while left > 0 and await context.read() is not grpc.aio.EOF:
        left -= 1
    return b"e" * number(context, "x-bytes")


async def write_and_return(requests, context):
    yield b"that is all"


UNARY = {"Get": get, "SynchronousGet": get, "Length": length, "Large": large, "EchoMetadata": echo_metadata,
         "Fail": fail_at_once, "FailWithDetails": fail_with_details, "Sleep": sleep, "Hold": hold, "Release": release,
         "Stats": stats}
SERVER_STREAMS = {"Expand": expand, "InitialMetadataFirst": initial_metadata_first, "FailAfter": fail_after,
                  "Pour": pour}
CLIENT_STREAMS = {"Collect": collect, "FailAtEnd": fail_at_end, "Sink": sink, "ReturnEarly": return_early}
BOTH_STREAMS = {"Update": update, "EchoMetadataStream": echo_metadata_stream, "FailAtOnce": fail_stream_at_once,
                "Listen": listen, "WriteAndReturn": write_and_return}


def scenarios():
    handlers = {}
    for methods, make in [(UNARY, grpc.unary_unary_rpc_method_handler),
                          (SERVER_STREAMS, grpc.unary_stream_rpc_method_handler),
                          (CLIENT_STREAMS, grpc.stream_unary_rpc_method_handler),
                          (BOTH_STREAMS, grpc.stream_stream_rpc_method_handler)]:
        handlers |= {name: make(method) for name, method in methods.items()}
    return grpc.method_handlers_generic_handler("apus.test.v1.ScenarioService", handlers)


def echo_service(folder):
    """The echo service by its stubs, which grpc_tools made into a folder."""
    sys.path.insert(0, str(folder))
    from echo.v1 import echo_pb2, echo_pb2_grpc

    class Echo(echo_pb2_grpc.EchoServiceServicer):
        async def Get(self, request, context):
            return echo_pb2.EchoResponse(text=request.text)

        async def Expand(self, request, context):
            for word in request.text.split():
                yield echo_pb2.EchoResponse(text=word)

        async def Collect(self, requests, context):
            return echo_pb2.EchoResponse(text=" ".join([request.text async for request in requests]))

        async def Update(self, requests, context):
            async for request in requests:
                yield echo_pb2.EchoResponse(text=request.text)

    return Echo(), echo_pb2_grpc.add_EchoServiceServicer_to_server


async def serve(arguments):
    server = grpc.aio.server(options=[
        ("grpc.max_receive_message_length", arguments.max_request_bytes), ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),
        # Calls that no handler has been given yet; beyond it grpcio cancels some.
        ("grpc.server.max_pending_requests", 20_000), ("grpc.server.max_pending_requests_hard_limit", 20_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 1000), ("grpc.http2.max_ping_strikes", 0),
    ])
    server.add_generic_rpc_handlers((scenarios(),))
    if arguments.stubs:
        service, add = echo_service(arguments.stubs)
        add(service, server)
    if arguments.tls_cert:
        roots = arguments.tls_client_ca and arguments.tls_client_ca.read_bytes()
        pair = (arguments.tls_key.read_bytes(), arguments.tls_cert.read_bytes())
        credentials = grpc.ssl_server_credentials([pair], roots, require_client_auth=roots is not None)
        port = server.add_secure_port(arguments.listen, credentials)
    else:
        port = server.add_insecure_port(arguments.listen)
    await server.start()
    unix = arguments.listen.startswith("unix:")
    print("listening on", arguments.listen if unix else f"{arguments.listen.rsplit(':', 1)[0]}:{port}", flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await server.stop(arguments.grace_milliseconds / 1000)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--stubs", type=pathlib.Path, help="the folder of generated stubs")
    parser.add_argument("--max-request-bytes", type=int, default=4 * 1024 * 1024)
    parser.add_argument("--grace-milliseconds", type=int, default=200)
    parser.add_argument("--tls-cert", type=pathlib.Path)
    parser.add_argument("--tls-key", type=pathlib.Path)
    parser.add_argument("--tls-client-ca", type=pathlib.Path)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
