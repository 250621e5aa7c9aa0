"""The clients that `run` and `budget` compare: how each is started, and what it says of its calls.

All have one command line and print the same two lines: `ready` after the warm-up, then, once they have read a line, the
figures of their calls as JSON. They end with an error unless every answer was the echo of its request.
"""

import collections
import json
import os
import subprocess
import tempfile

import servers
from servers import Failure

RUN_SECONDS_MAX = 300

# name: (binary, arguments)
OWN = {
    "floor": ("floor-client", []),
    **{name: ("bench-client", ["--variant", name])
       for name in ("raw-async", "raw-elsewhere", "raw-blocking", "proto-async", "proto-elsewhere", "proto-blocking",
                    "stub-async")},
}
CLIENTS = {
    **OWN,
    "grpc-go": ("go-client", []),
    "cpp-callback": ("cpp-client", ["--api", "callback"]),
    "cpp-async": ("cpp-client", ["--api", "async"]),
}

# CPU and latencies in microseconds, CPU per call; a one-way stream has no latencies.
Figures = collections.namedtuple("Figures", "calls_per_second client_cpu server_cpu p50 p99")


def measure(client, server, shape, calls, in_flight=1, warm_up=0, core=None, prefix=(), environment=None,
            latencies=True):
    """One run of a client. The server's CPU time is that between the end of the warm-up and the last answer."""
    binary, arguments = CLIENTS[client]
    pin = (lambda: os.sched_setaffinity(0, {core})) if core is not None else None
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [*prefix, servers.tool(binary), *arguments, "--target", server.address, "--shape", shape,
             "--in-flight", str(in_flight), "--calls", str(calls), "--warm-up", str(warm_up),
             *([] if latencies else ["--latencies", "no"])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, preexec_fn=pin,
            env={**os.environ, "SWIFT_DETERMINISTIC_HASHING": "1", **(environment or {})},
        )
        with servers.Alarm(RUN_SECONDS_MAX, process), process:
            ready = process.stdout.readline()
            before = server.cpu_nanoseconds()
            if ready == b"ready\n":
                process.stdin.write(b"\n")
                process.stdin.flush()
            answer = process.stdout.readline()
            server_cpu = server.cpu_nanoseconds() - before
        server.check_alive()
        errors.seek(0)
        if process.returncode != 0 or not answer:
            complaint = errors.read().decode(errors="replace").strip()
            raise Failure(f"client {client}, {shape}: {complaint or f'exit status {process.returncode}'}")
    said = json.loads(answer)
    if said["calls"] != calls:
        raise Failure(f"client {client}, {shape}: {said['calls']} calls, not {calls}")
    return Figures(calls / said["seconds"], said["cpu_microseconds"] / calls, server_cpu / 1000 / calls,
                   said["p50_microseconds"], said["p99_microseconds"])
