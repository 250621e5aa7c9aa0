"""h2load as the client of a server, from a core of its own: 10 connections × 100 streams of the same unary echo, or
what else its options say."""

import collections
import os
import re
import subprocess
import tempfile

import servers
from servers import Failure

CORE = 1
CONNECTIONS, STREAMS = 10, 100
GRPC_HEADERS = ["-H", "content-type: application/grpc", "-H", "te: trailers"]

# The latencies, in microseconds, are None unless they were asked for.
Load = collections.namedtuple("Load", "requests_per_second p50 p99")


def load(server, requests, body, latencies=False):
    """One run of h2load with unary echoes. Any request that was not answered with its echo is a failure."""
    with tempfile.TemporaryDirectory() as directory:
        log = os.path.join(directory, "requests")
        options = [*GRPC_HEADERS, "-d", body, *([f"--log-file={log}"] if latencies else [])]
        output = run(server, f"http://{server.address}{servers.UNARY_PATH}", requests, options, len(servers.MESSAGE))
        return Load(rate(output), *(_percentiles(log, requests) if latencies else (None, None)))


def run(server, url, requests, options, body_bytes, connections=CONNECTIONS, streams=STREAMS):
    """What h2load says of requests, each of which must have been answered with so many bytes."""
    done = subprocess.run(
        ["taskset", "-c", str(CORE), servers.command("h2load", "nghttp2-client"), "-t1", f"-c{connections}",
         f"-m{streams}", "-n", str(requests), *options, url],
        capture_output=True, text=True,
    )
    server.check_alive()
    output = done.stdout + done.stderr
    _check(server, requests, body_bytes, output)
    return output


def rate(output):
    """Requests per second."""
    return _number(output, r"([0-9.]+) req/s,")


def _number(output, pattern):
    match = re.search(pattern, output)
    return float(match.group(1)) if match else -1


def _check(server, requests, body_bytes, output):
    wanted = {
        "succeeded": (r"(\d+) succeeded", requests),
        "failed": (r"(\d+) failed", 0),
        "errored": (r"(\d+) errored", 0),
        "timeout": (r"(\d+) timeout", 0),
        "2xx": (r"(\d+) 2xx", requests),
        # h2load does not look at grpc-status, but an error has no message.
        "bytes of data": (r"\((\d+)\) data", requests * body_bytes),
    }
    for name, (pattern, value) in wanted.items():
        if _number(output, pattern) != value:
            raise Failure(f"{server.variant}: {_number(output, pattern):.0f} {name}, expected {value}\n{output}")


def _percentiles(log, requests):
    # h2load itself prints the least, greatest and mean. A line of its log: start, status, microseconds taken.
    with open(log) as lines:
        taken = sorted(int(line.split("\t")[2]) for line in lines)
    if len(taken) != requests:
        raise Failure(f"h2load logged {len(taken)} of {requests} requests")
    return taken[requests // 2], taken[requests * 99 // 100]
