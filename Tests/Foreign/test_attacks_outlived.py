"""Each attack of docs/LIMITS.md at full speed, from a process of its own, while a client of grpcio keeps calling.

Every call of the good client succeeds, memory stays within the bound that the row states, and the attacker is cut off
in the words that the row states, or held harmless where what it does is legal. The log tells why, once for each
connection.
"""

import dataclasses
import json
import re
import subprocess
import sys
import time

import grpc
import pytest

from scenario_client import ScenarioClient
from server_process import PATIENCE, REPOSITORY, wait_until

MIB = 1024 * 1024
# In which each attacker is cut off, if at all, and comes again.
SECONDS = 2 if PATIENCE == 1 else 6
CALM = 11  # ENHANCE_YOUR_CALM


@dataclasses.dataclass
class Row:
    attack: str
    # The debug data of GOAWAY ENHANCE_YOUR_CALM; None when the attack is cut off otherwise, or not at all.
    calmed: str | None = None
    # What the log says.
    log: str | None = None
    is_cut_off: bool = True
    memory_mib: int = 32
    options: tuple = ()

    def __str__(self):
        return self.attack


EARLY, ERRORS, EMPTY, PINGS = (
    "too_many_cancellations", "too_many_stream_errors", "too_many_empty_frames", "too_many_pings"
)
EXCESS = "does too much"
BROKEN = "broke the protocol"
# A hundred answers of the size that the attacks ask for are many times this.
SMALL_QUEUE = ("--connection-send-buffer-bytes", 16 * MIB)

ROWS = [
    Row("rapid-reset-synchronous", EARLY, EXCESS),
    Row("rapid-reset-asynchronous", EARLY, EXCESS),
    Row("split-reset", EARLY, EXCESS),
    Row("made-you-reset", ERRORS, EXCESS),
    Row("malformed-requests", ERRORS, EXCESS),
    Row("invalid-fields", ERRORS, EXCESS),
    Row("continuation-flood", None, BROKEN),
    Row("slow-head", "header_timeout", EXCESS, options=("--header-milliseconds", 500)),
    Row("hpack-bomb", ERRORS, EXCESS),
    Row("hpack-bomb-in-trailers", ERRORS, EXCESS),
    Row("hpack-bomb-refused", ERRORS, EXCESS),
    Row("hpack-bomb-behind-an-invalid-field", ERRORS, EXCESS),
    Row("hpack-bomb-of-invalid-fields", ERRORS, EXCESS),
    Row("commas", ERRORS, EXCESS),
    Row("encodings", is_cut_off=False),
    Row("small-decompression-bombs", is_cut_off=False),
    Row("ping-flood", PINGS, EXCESS),
    Row("ping-flood-unread", None, EXCESS),
    Row("settings-flood", EMPTY, EXCESS),
    Row("settings-flood-unread", None, EXCESS),
    Row("settings-flood-large", EMPTY, EXCESS),
    Row("settings-of-too-many-entries", None, BROKEN),
    Row("empty-data", EMPTY, EXCESS),
    Row("padding-only", EMPTY, EXCESS),
    # With the priorities of RFC 7540 switched off nghttp2 drops these unseen.
    Row("priority-flood", None, None, is_cut_off=False),
    Row("window-update-flood", EMPTY, EXCESS),
    Row("reset-of-closed-streams", EMPTY, EXCESS),
    Row("data-on-a-closed-stream", None, BROKEN),
    Row("unknown-frames", None, None, is_cut_off=False),
    Row("zero-window", None, None, is_cut_off=False, memory_mib=64, options=SMALL_QUEUE),
    Row("zero-window-and-resets", EARLY, EXCESS, memory_mib=64, options=SMALL_QUEUE),
    Row("unread-socket", None, "takes nothing", memory_mib=64, options=("--stall-milliseconds", 700, *SMALL_QUEUE)),
    Row("silence", None, "did not speak HTTP/2 in time", options=("--handshake-milliseconds", 500)),
    Row("upload", None, None, is_cut_off=False, memory_mib=64),
    Row("upload-of-small-messages", None, None, is_cut_off=False, memory_mib=320),
    Row("after-the-end", None, BROKEN),
    Row("push-promises", None, BROKEN),
]


class AttackerProcess:
    def __init__(self, attack, server, seconds, *authorities):
        command = [sys.executable, str(REPOSITORY / "Tests" / "Foreign" / "attacker.py"), attack, server.address]
        self.process = subprocess.Popen(command + [str(seconds), *authorities], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    @property
    def is_running(self):
        return self.process.poll() is None

    def report(self):
        report = json.loads(self.process.stdout.read())
        assert self.process.wait(30 * PATIENCE) == 0
        return report


def calls_during(attacker, client, server):
    """Calls until the attacker is done; how many, the slowest, and the most memory that the server had."""
    count, slowest, most = 0, 0.0, 0
    while attacker.is_running:
        began = time.monotonic()
        method = ["Get", "SynchronousGet"][count % 2]
        assert client.call(method, b"x" * 100) == b"x" * 100
        slowest = max(slowest, time.monotonic() - began)
        most = max(most, server.rss_bytes)
        count += 1
    return count, slowest, most


def assert_logged_once_each(server, row, report):
    lines = [line for line in server.log.splitlines() if re.search(row.log, line)]
    # What a burst goes over the log's own limit is counted in it, not lost.
    left_out = sum(int(number) for number in re.findall(r"left-out=(\d+)", "\n".join(lines)))
    assert 0 < len(lines) + left_out <= report["connections"], f"{len(lines)} lines for {report}"


# What differs over TLS: more is held for a connection, and bytes wait in records.
ROWS_OVER_TLS = [row for row in ROWS if row.attack in (
    "rapid-reset-synchronous", "made-you-reset", "slow-head", "hpack-bomb", "settings-flood-unread", "unread-socket",
    "upload", "after-the-end",
)] + [Row("silence", None, "did not speak HTTP/2 in time", options=("--handshake-milliseconds", 1000))]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_an_attack_is_outlived(row, start_scenarios, open_channel):
    server = start_scenarios("--threads", 1, "--log-level", "info", *row.options)
    outlive(row, server, ScenarioClient(open_channel(server)))


@pytest.mark.parametrize("row", ROWS_OVER_TLS, ids=str)
def test_an_attack_over_tls_is_outlived(row, start_scenarios, certificates):
    options = certificates.options("server")
    server = start_scenarios("--threads", 1, "--log-level", "info", *options, *row.options)
    credentials = grpc.ssl_channel_credentials(certificates.text("ca.pem"))
    with grpc.secure_channel(f"localhost:{server.port}", credentials, [("grpc.enable_http_proxy", 0)]) as channel:
        outlive(row, server, ScenarioClient(channel), certificates.ca)


def outlive(row, server, client, *authorities):
    for _ in range(200):
        client.call("Get", b"x" * 100)
    before = server.rss_bytes
    attacker = AttackerProcess(row.attack, server, SECONDS, *authorities)
    count, slowest, most = calls_during(attacker, client, server)
    report = attacker.report()
    grown = (most - before) / MIB
    print(f"ATTACK {row.attack}: {report}, good calls {count}, slowest {slowest * 1000:.0f} ms, +{grown:.1f} MiB")
    assert count > (20 if PATIENCE == 1 else 5), "the good client hardly got through"
    assert grown < row.memory_mib * (8 if PATIENCE > 1 else 1)
    assert (report["cut_off"] > 0) == row.is_cut_off, report
    if row.calmed:
        assert [CALM, row.calmed] in report["goaways"], report
        assert all(goaway == [CALM, row.calmed] for goaway in report["goaways"])
    if row.log:
        assert_logged_once_each(server, row, report)
    else:
        assert EXCESS not in server.log and BROKEN not in server.log
    # Nothing is left behind by any of it.
    assert wait_until(lambda: server.descriptors < 40, 10), server.descriptors
    assert client.call("Get", b"after") == b"after"
