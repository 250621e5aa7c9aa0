"""h2load as the client of a server: 10 connections × 100 streams of the same unary echo, from a core of its own."""

import collections
import os
import re
import subprocess
import tempfile

import servers
from servers import Failure

CORE = 1
CONNECTIONS, STREAMS = 10, 100

# The latencies, in microseconds, are None unless they were asked for.
Load = collections.namedtuple("Load", "requests_per_second p50 p99")


def load(server, requests, body, latencies=False):
    """One run of h2load. Any request that was not answered with its echo is a failure."""
    with tempfile.TemporaryDirectory() as directory:
        log = os.path.join(directory, "requests")
        done = subprocess.run(
            ["taskset", "-c", str(CORE), servers.command("h2load", "nghttp2-client"), "-t1", f"-c{CONNECTIONS}",
             f"-m{STREAMS}", "-n", str(requests), "-d", body, "-H", "content-type: application/grpc",
             "-H", "te: trailers", *([f"--log-file={log}"] if latencies else []),
             f"http://{server.address}{servers.UNARY_PATH}"],
            capture_output=True, text=True,
        )
        server.check_alive()
        output = done.stdout + done.stderr
        rate = _check(server, requests, output)
        return Load(rate, *(_percentiles(log, requests) if latencies else (None, None)))


def _check(server, requests, output):
    def number(pattern):
        match = re.search(pattern, output)
        return float(match.group(1)) if match else -1

    wanted = {
        "succeeded": (r"(\d+) succeeded", requests),
        "failed": (r"(\d+) failed", 0),
        "errored": (r"(\d+) errored", 0),
        "timeout": (r"(\d+) timeout", 0),
        "2xx": (r"(\d+) 2xx", requests),
        # h2load does not look at grpc-status, but an error has no message.
        "bytes of data": (r"\((\d+)\) data", requests * len(servers.MESSAGE)),
    }
    for name, (pattern, value) in wanted.items():
        if number(pattern) != value:
            raise Failure(f"{server.variant}: {number(pattern):.0f} {name}, expected {value}\n{output}")
    return number(r"([0-9.]+) req/s,")


def _percentiles(log, requests):
    # h2load itself prints the least, greatest and mean. A line of its log: start, status, microseconds taken.
    with open(log) as lines:
        taken = sorted(int(line.split("\t")[2]) for line in lines)
    if len(taken) != requests:
        raise Failure(f"h2load logged {len(taken)} of {requests} requests")
    return taken[requests // 2], taken[requests * 99 // 100]
