"""A client under test as a process of its own: told in JSON lines which calls to make, it tells what came of them.

`apus-client-scenarios` is the client; with APUS_REFERENCE_CLIENT set it is reference_client.py, grpcio behind the same
lines, which shows whether a test asks for what other clients do.
"""

import base64
import itertools
import json
import os
import pathlib
import queue
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from scenario_client import SERVICE, Stats, parameters
from server_process import CRASH, PATIENCE, executable, wait_until

USES_REFERENCE = bool(os.environ.get("APUS_REFERENCE_CLIENT"))

# The thread sanitizer sleeps for a second at the end of a process; a thousand tests have a process each.
TSAN_WITHOUT_SLEEP = {"TSAN_OPTIONS": os.environ.get("TSAN_OPTIONS", "") + ":atexit_sleep_ms=10"}

# For what grpcio decides otherwise, or cannot be asked for.
not_of_the_reference = pytest.mark.skipif(USES_REFERENCE, reason="grpcio differs here, and may")


def bytes_of(text):
    return base64.b64decode(text)


def encoded_metadata(metadata):
    """Pairs as JSON: text as it is, bytes as {"base64": …}."""
    return [[key, {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value]
            for key, value in metadata]


def decoded_metadata(pairs):
    if pairs is None:
        return None
    return [(key, bytes_of(value["base64"]) if isinstance(value, dict) else value) for key, value in pairs]


class Result:
    """How a call ended."""

    def __init__(self, event):
        self.event = event
        self.code = event["code"]
        self.text = event["message"]
        # "peer" or "local", None for OK.
        self.origin = event.get("origin")
        # Messages that came, and of numbered ones those that were not what is expected at their place.
        self.count = event["count"]
        self.bytes = event["bytes"]
        self.misplaced = event["misplaced"]
        self.messages = [bytes_of(text) for text in event["messages"]]
        # Of each response that was read in the form that says it: 1 when it came compressed.
        self.compressed = event.get("compressed")
        self.written = event["written"]
        # "CODE: text" of the write that failed, or None.
        self.write_error = event.get("write_error")
        self.initial = decoded_metadata(event.get("initial"))
        self.trailers = decoded_metadata(event.get("trailers"))
        self.error_metadata = decoded_metadata(event.get("error_metadata"))
        self.milliseconds = event["ms"]

    @property
    def message(self):
        assert self.count == 1, f"{self.count} messages, {self}"
        return self.messages[0]

    def all_trailers(self, key):
        """Values of a key, be it in the trailers or in the metadata of the error, which are the same."""
        metadata = self.trailers if self.error_metadata is None else self.error_metadata
        return [value for name, value in metadata or [] if name == key]

    def __str__(self):
        shown = {key: value for key, value in self.event.items() if key not in ("messages", "event")}
        return json.dumps(shown)[:2000]

    __repr__ = __str__


class StartedCall:
    def __init__(self, client, name):
        self.client = client
        self.name = name

    def result(self, seconds=10):
        return Result(self.client.expect("end", self.name, seconds))

    def head(self, seconds=10):
        """Waits for the initial metadata, of a call that was started with `watch_head`."""
        return decoded_metadata(self.client.expect("head", self.name, seconds)["initial"])

    def paused(self, seconds=30):
        """Waits until the call has read as many messages as it was told to."""
        return self.client.expect("paused", self.name, seconds)["read"]

    def cancel(self, how="hand"):
        self.client.tell("cancel", id=self.name, how=how)

    def resume(self):
        self.client.tell("resume", id=self.name)

    def finish(self):
        """Lets the call half-close that was started with `hold`."""
        self.client.tell("finish", id=self.name)

    @property
    def progress(self):
        """How many messages were written and read so far."""
        figures = self.client.figures
        return figures["calls"][self.name]["written"], figures["calls"][self.name]["read"]


class ClientProcess:
    """A client with one channel."""

    def __init__(self, target, *options):
        self.target = target
        self._log = tempfile.NamedTemporaryFile(prefix="apus-client-log-", suffix=".txt")
        reference = [sys.executable, str(pathlib.Path(__file__).with_name("reference_client.py"))]
        program = reference if USES_REFERENCE else [executable("apus-client-scenarios"), "session"]
        self.process = subprocess.Popen(
            [*program, "--target", target, *map(str, options)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._log, text=True, start_new_session=True, env=os.environ | TSAN_WITHOUT_SLEEP,
        )
        self._events = queue.Queue()
        self._kept = []
        self._names = itertools.count(1)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            try:
                self._events.put(json.loads(line))
            except ValueError:
                self._events.put({"event": "nonsense", "line": line})
        self._events.put({"event": "over"})

    @property
    def pid(self):
        return self.process.pid

    @property
    def log(self):
        """All that the client wrote to standard error."""
        return pathlib.Path(self._log.name).read_text(errors="replace")

    def tell(self, command, **fields):
        self.process.stdin.write(json.dumps({"do": command, **fields}) + "\n")
        self.process.stdin.flush()

    def expect(self, event, name=None, seconds=10):
        """Waits for an event, of a call if it has a name; others are kept for who waits for them."""
        def matches(found):
            return found["event"] == event and (name is None or found.get("id") == name)

        for found in self._kept:
            if matches(found):
                self._kept.remove(found)
                return found
        end = time.monotonic() + seconds * PATIENCE
        while True:
            try:
                found = self._events.get(timeout=max(0.001, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no \"{event}\" of {name or 'the client'} in time; kept: {self._kept[:5]}")
            if matches(found):
                return found
            if found["event"] in ("over", "nonsense", "misunderstood"):
                self._events.put(found)
                raise AssertionError(f"instead of \"{event}\" of {name or 'the client'}: {found}")
            self._kept.append(found)

    def start(self, path, kind="unary", payloads=None, metadata=(), **fields):
        """Begins a call; see Command.swift of the client for the fields."""
        name = f"c{next(self._names)}"
        if payloads is not None:
            fields["payloads"] = [base64.b64encode(payload).decode() for payload in payloads]
        self.tell("start", id=name, kind=kind, path=path if "/" in path else SERVICE + path,
                  metadata=encoded_metadata(metadata), **fields)
        return StartedCall(self, name)

    def call(self, path="Get", kind="unary", seconds=10, **fields):
        """A call from beginning to end."""
        return self.start(path, kind, **fields).result(seconds)

    def stats(self):
        """What the scenario service recorded, asked for by another call of the channel."""
        return Stats(self.call("Stats").message.decode())

    def wait_for(self, name, value=1, seconds=5):
        """Waits until the server has counted to at least `value`; returns what it has."""
        wait_until(lambda: self.stats()[name] >= value, seconds)
        return self.stats()[name]

    def release(self, key):
        """Opens a gate at which handlers of the scenario service wait."""
        assert self.call("Release", metadata=parameters(key=key)).code == "OK"

    def echo(self, texts, kind="unary", seconds=10, **fields):
        """A call by the stub of the echo service; the texts that came back, or the code of the error."""
        name = f"c{next(self._names)}"
        self.tell("echo", id=name, kind=kind, texts=texts, **fields)
        answer = self.expect("echoed", name, seconds)
        return answer.get("texts", answer["code"])

    @property
    def figures(self):
        """Memory, threads and descriptors of the process, and how far each call is."""
        self.tell("figures")
        return self.expect("figures")

    @property
    def state(self):
        self.tell("state")
        return self.expect("state")["state"]

    def close_channel(self):
        self.tell("close")
        self.expect("closed")

    def run(self, command, seconds=60, **fields):
        """A command of many calls, and its summary."""
        self.tell(command, **fields)
        return self.expect("summary", seconds=seconds)

    @property
    def crash(self):
        for line in self.log.splitlines():
            if CRASH.search(line):
                return line
        return None

    def close(self):
        """Ends the process; fails when it crashed or does not end by itself."""
        problem = None
        try:
            if self.process.poll() is None:
                self.process.stdin.close()
                try:
                    self.process.wait(5 * PATIENCE)
                except subprocess.TimeoutExpired:
                    problem = "the client did not end when its input did"
                    self.process.kill()
                    self.process.wait()
            code = self.process.returncode
            if self.crash or code != 0:
                problem = problem or f"the client ended with {code}: {self.crash}"
        finally:
            self._reader.join(5)
            self.process.stdout.close()
            log = self.log
            self._log.close()
        lines = "\n".join(log.splitlines()[-40:])
        if lines:
            print(f"log of the client of {self.target}:\n{lines}")
        assert problem is None, f"{problem}\n{lines}"
