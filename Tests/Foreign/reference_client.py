"""grpcio behind the command lines of apus-client-scenarios: says whether a test of the client asks for what is usual.

Not a client under test. It knows the commands of one call, not those of many calls or of our executors.
"""

import argparse
import base64
import json
import os
import pathlib
import queue
import sys
import threading
import time

import grpc

PRINTING = threading.Lock()


def say(event, **fields):
    with PRINTING:
        print(json.dumps({"event": event, **fields}), flush=True)


def metadata_of(pairs):
    return [(key, base64.b64decode(value["base64"]) if isinstance(value, dict) else value) for key, value in pairs]


def listed(metadata):
    if metadata is None:
        return None
    return [[key, {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value]
            for key, value in metadata]


def numbered(number, size, numbering):
    if numbering == "index":
        return (number.to_bytes(4, "big") + bytes([number % 256]) * size)[:size]
    return bytes([number % 256]) * size


class Call:
    def __init__(self, channel, command):
        self.channel, self.command = channel, command
        self.name, self.kind = command["id"], command["kind"]
        self.written = self.read = self.bytes = self.misplaced = 0
        self.messages = []
        self.finished, self.resumed = threading.Event(), threading.Event()
        if not command.get("hold"):
            self.finished.set()
        self.call = None
        self.began = time.monotonic()

    def requests(self):
        if "payloads" in self.command:
            for payload in self.command["payloads"]:
                self.written += 1
                yield base64.b64decode(payload)
        else:
            size, numbering = self.command.get("bytes", 0), self.command.get("numbering", "byte")
            for number in range(self.command.get("count", 1)):
                self.written += 1
                yield numbered(number, size, numbering)
        self.finished.wait()

    def run(self):
        command = self.command
        timeout = command["timeout_ms"] / 1000 if "timeout_ms" in command else None
        options = {"timeout": timeout, "metadata": metadata_of(command.get("metadata", [])),
                   "wait_for_ready": command.get("wait_for_ready", False)}
        path = command["path"]
        try:
            if self.kind == "unary":
                self.call = self.channel.unary_unary(path).future(next(self.requests()), **options)
            elif self.kind == "client":
                self.call = self.channel.stream_unary(path).future(self.requests(), **options)
            elif self.kind == "server":
                self.call = self.channel.unary_stream(path)(next(self.requests()), **options)
            else:
                self.call = self.channel.stream_stream(path)(self.requests(), **options)
            if command.get("watch_head"):
                say("head", id=self.name, initial=listed(self.call.initial_metadata()))
            if self.kind in ("unary", "client"):
                self.take(self.call.result())
            else:
                for message in self.call:
                    self.take(message)
            self.end("OK", "", None)
        except grpc.RpcError as error:
            error = error if hasattr(error, "code") else self.call
            self.end(error.code().name, error.details() or "", listed(error.trailing_metadata()))
        except grpc.FutureCancelledError:
            self.end("CANCELLED", "", None)
        except Exception as error:
            self.end("INTERNAL", repr(error), None)

    def take(self, message):
        expected = numbered(self.read, len(message), self.command.get("numbering", "byte"))
        if message != expected or len(message) != self.command.get("expected_bytes", len(message)):
            self.misplaced += 1
        self.read += 1
        self.bytes += len(message)
        if self.command.get("keep", True):
            self.messages.append(base64.b64encode(message).decode())
        if self.read == self.command.get("pause_after"):
            say("paused", id=self.name, read=self.read)
            self.resumed.wait()

    def end(self, code, text, error_metadata):
        say("end", id=self.name, code=code, message=text, count=self.read, bytes=self.bytes, misplaced=self.misplaced,
            messages=self.messages, written=self.written, error_metadata=error_metadata,
            initial=listed(self.call.initial_metadata()) if self.call else None,
            trailers=listed(self.call.trailing_metadata()) if self.call else None,
            ms=(time.monotonic() - self.began) * 1000)


def memory():
    values = {}
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "VmHWM", "Threads"):
            values[name] = int(value.split()[0])
    return {"rss_bytes": values["VmRSS"] * 1024, "peak_bytes": values["VmHWM"] * 1024, "threads": values["Threads"],
            "descriptors": len(os.listdir("/proc/self/fd"))}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--target")
    parser.add_argument("--max-response-bytes", type=int, default=4 * 1024 * 1024)
    parser.add_argument("--max-request-bytes", type=int, default=-1)
    parser.add_argument("--max-header-list-bytes", type=int, default=8192)
    parser.add_argument("--connect-timeout-ms", type=int, default=20_000)
    parser.add_argument("--initial-backoff-ms", type=int, default=1000)
    parser.add_argument("--user-agent", default="")
    parser.add_argument("--authority", default="")
    arguments, _ = parser.parse_known_args()
    channel = grpc.insecure_channel(arguments.target, options=[
        ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0),
        ("grpc.max_receive_message_length", arguments.max_response_bytes),
        ("grpc.max_send_message_length", arguments.max_request_bytes),
        ("grpc.max_metadata_size", arguments.max_header_list_bytes),
        ("grpc.absolute_max_metadata_size", arguments.max_header_list_bytes),
        ("grpc.initial_reconnect_backoff_ms", arguments.initial_backoff_ms),
        ("grpc.min_reconnect_backoff_ms", arguments.connect_timeout_ms),
        ("grpc.primary_user_agent", arguments.user_agent),
        *([("grpc.default_authority", arguments.authority)] if arguments.authority else []),
    ])
    calls = {}
    for line in sys.stdin:
        command = json.loads(line)
        call = calls.get(command.get("id"))
        match command["do"]:
            case "start":
                calls[command["id"]] = call = Call(channel, command)
                threading.Thread(target=call.run, daemon=True).start()
            case "cancel":
                while call.call is None:
                    time.sleep(0.001)
                call.call.cancel()
            case "finish":
                call.finished.set()
            case "resume":
                call.resumed.set()
            case "figures":
                say("figures", **memory(), calls={name: {"written": call.written, "read": call.read}
                                                  for name, call in calls.items()})
            case "close":
                channel.close()
                say("closed")
            case other:
                say("misunderstood", text=f"the reference client does not know {other}")
    channel.close()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
