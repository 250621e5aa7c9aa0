"""Calls an echo server in gRPC's four ways and prints what it asks and what it is answered.

usage: demo-client.py HOST:PORT

Ends with status 1 when an answer is not what proto/echo/v1/echo.proto promises.
"""

import pathlib
import queue
import sys

import grpc

CALL_SECONDS_MAX = 10

# grpcio compiles the proto as it loads it.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "proto"))
messages, services = grpc.protos_and_services("echo/v1/echo.proto")


def request(text):
    return messages.EchoRequest(text=text)


def show(method, asked, answered, expected):
    print(f"{method:8}{asked!r}\n     -> {answered!r}")
    if answered != expected:
        sys.exit(f"{method} should have answered {expected!r}")


def call_in_four_ways(echo):
    text = "grüezi 世界"
    answer = echo.Get(request(text), timeout=CALL_SECONDS_MAX)
    show("Get", text, answer.text, text)

    text = "swifts sleep on the wing"
    answers = echo.Expand(request(text), timeout=CALL_SECONDS_MAX)
    show("Expand", text, [answer.text for answer in answers], text.split())

    texts = ["each", "word", "a", "message"]
    answer = echo.Collect(map(request, texts), timeout=CALL_SECONDS_MAX)
    show("Collect", texts, answer.text, " ".join(texts))

    # A dialogue: each message is sent once the one before is answered.
    heard = []
    outbox = queue.SimpleQueue()
    answers = echo.Update(iter(outbox.get, None), timeout=CALL_SECONDS_MAX)
    for text in texts:
        outbox.put(request(text))
        heard.append(next(answers).text)
    outbox.put(None)
    heard += [answer.text for answer in answers]
    show("Update", texts, heard, texts)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__.strip())
    with grpc.insecure_channel(sys.argv[1]) as channel:
        try:
            call_in_four_ways(services.EchoServiceStub(channel))
        except grpc.RpcError as error:
            sys.exit(f"the call failed with {error.code().name}: {error.details()}")


if __name__ == "__main__":
    main()
